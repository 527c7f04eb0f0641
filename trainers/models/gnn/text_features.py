"""Vectors of the nodes' texts. Each text is embedded once; the vectors of an earlier version are reused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from schemas.journal import Node
from schemas.recipes.gnn import GnnConfig
from trainers.bases.text_embedding import embed_texts
from trainers.core.loop import device_of
from trainers.core.progress import ProgressCallback
from trainers.models.gnn.graph import Graph
from trainers.models.gnn.saving import load_text_vectors


def node_text(node: Node) -> str:
    """What is embedded of a node: its name and its description.

    >>> node_text(Node(id="T1059", kind="technique", name="Scripting", text="Runs commands."))
    'Scripting. Runs commands.'
    """
    return f"{node.name}. {node.text}" if node.name and node.text else node.name or node.text


def embed_node_texts(
    graph: Graph,
    base: Path,
    encoder: str,
    reuse_from: Path | None,
    config: GnnConfig,
    on_progress: ProgressCallback,
) -> tuple[torch.Tensor, list[str]]:
    """Embed the texts of all nodes.

    Args:
        graph: Its nodes have the texts.
        base: Folder of the encoder.
        encoder: sha256 of its weights.
        reuse_from: Folder of a version whose vectors are reused for equal texts; None for none.
        config: Its `max_tokens` and `device` count.
        on_progress: Called after every batch.

    Returns:
        (nodes, dim), float32 on the CPU, 0 for a node without a text; and a hash of each node's text, the encoder
        and `max_tokens`, empty for a node without a text.
    """
    texts = [node_text(node).strip() for node in graph.nodes]
    hashes = [_hash(text, encoder, config.max_tokens) if text else "" for text in texts]
    known = load_text_vectors(reuse_from) if reuse_from else {}
    new = {key: text for key, text in zip(hashes, texts, strict=True) if key and key not in known}
    vectors = embed_texts(base, list(new.values()), config.max_tokens, device_of(config), on_progress)
    known |= dict(zip(new, vectors, strict=True))
    zero = torch.zeros(vectors.shape[1])
    return torch.stack([known.get(key, zero) for key in hashes] or [zero])[: len(texts)], hashes


def _hash(text: str, encoder: str, max_tokens: int) -> str:
    return hashlib.blake2b(f"{encoder}:{max_tokens}:{text}".encode(), digest_size=8).hexdigest()
