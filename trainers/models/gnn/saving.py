"""The files of a version, and reading them again.

config.json              `VersionConfig`
model.safetensors        parameters of the network
nodes.json               `SavedNode` of every node; a node's position here is its index
embeddings.safetensors   embeddings: (nodes, width), float32
graph.safetensors        texts: (nodes, dim), float32; edges: (2, edges), int64; types: (edges,), int64
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file, save_file

from schemas.journal import Node
from trainers.models.gnn.graph import Graph
from trainers.models.gnn.network import ThreatGnn
from trainers.models.gnn.shape import Shape
from trainers.models.gnn.view import View

MODEL, EMBEDDINGS, GRAPH = "model.safetensors", "embeddings.safetensors", "graph.safetensors"
CONFIG, NODES = "config.json", "nodes.json"


class VersionConfig(msgspec.Struct, frozen=True):
    """`config.json` of a version.

    Attributes:
        shape: Of the network.
        edge_types: `type_names` of the graph.
        threshold: A tactic is predicted from this probability on, 0 to 1.
        max_tokens: Tokens that were read of a node's text.
        encoder: sha256 of the weights that embedded the texts.
        model_type: Identifies the model.
    """

    shape: Shape
    edge_types: tuple[str, ...]
    threshold: float
    max_tokens: int
    encoder: str
    model_type: str = "gnn-threat"


class SavedNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node in `nodes.json`; `text` is the hash of the text that was embedded, empty without a text."""

    id: str
    kind: str
    name: str = ""
    text: str = ""


def save_version(
    folder: Path,
    network: ThreatGnn,
    config: VersionConfig,
    graph: Graph,
    texts: torch.Tensor,
    text_hashes: Sequence[str],
    embeddings: torch.Tensor,
) -> None:
    """Write a version's files into a folder.

    Args:
        folder: Exists.
        network: On the CPU.
        config: Written as `config.json`.
        graph: That the network was trained on.
        texts: (nodes, dim), float32: text vectors.
        text_hashes: Of each node, see `trainers.models.gnn.text_features.embed_node_texts`.
        embeddings: (nodes, width), float32.
    """
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / MODEL)
    save_file({"embeddings": embeddings}, folder / EMBEDDINGS)
    tensors = {
        "texts": texts.contiguous(),
        "edges": torch.from_numpy(graph.edges.copy()),
        "types": torch.from_numpy(graph.types.copy()),
    }
    save_file(tensors, folder / GRAPH)
    nodes = [SavedNode(n.id, n.kind, n.name, key) for n, key in zip(graph.nodes, text_hashes, strict=True)]
    (folder / NODES).write_bytes(msgspec.json.format(msgspec.json.encode(nodes), indent=1) + b"\n")
    (folder / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")


def load_config(folder: Path) -> VersionConfig:
    """`config.json` of a version."""
    return msgspec.json.decode((folder / CONFIG).read_bytes(), type=VersionConfig)


def load_network(folder: Path) -> ThreatGnn:
    """The network of a version, on the CPU, in evaluation mode. Advances torch's random state as a new one does."""
    network = ThreatGnn(load_config(folder).shape)
    network.load_state_dict(load_file(folder / MODEL))
    network.eval()
    return network


def load_view(folder: Path) -> View:
    """A view of the whole graph of a version, on the CPU. Its nodes have no texts, only the view's text vectors."""
    config, tensors = load_config(folder), load_file(folder / GRAPH)
    nodes = tuple(Node(id=node.id, kind=node.kind, name=node.name) for node in _load_nodes(folder))
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # see `trainers.core.memory`
    graph = Graph(nodes, tensors["edges"].numpy(), tensors["types"].numpy(), config.edge_types)
    return View(graph, tensors["texts"], config.shape, torch.device("cpu"))


def load_text_vectors(folder: Path) -> dict[str, torch.Tensor]:
    """Hash of a text -> its vector, (dim,) float32, of all texts that a version has embedded."""
    texts = load_file(folder / GRAPH)["texts"]
    return {node.text: vector for node, vector in zip(_load_nodes(folder), texts, strict=True) if node.text}


def load_node_ids(folder: Path) -> list[str]:
    """Id of every node of a version, in the order of its embeddings."""
    return [node.id for node in _load_nodes(folder)]


def _load_nodes(folder: Path) -> list[SavedNode]:
    return msgspec.json.decode((folder / NODES).read_bytes(), type=list[SavedNode])
