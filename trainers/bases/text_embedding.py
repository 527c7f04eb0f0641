"""Texts as vectors: the mean of a DistilBERT's last hidden states over the tokens. The model is not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from trainers.bases.layout import TOKENIZER_FILES
from trainers.bases.quiet import loading_transformers
from trainers.core.batching import batches_by_length
from trainers.core.progress import ProgressCallback, RunProgress, no_progress

BATCH_SIZE = 32


def embed_texts(
    base: Path,
    texts: Sequence[str],
    max_tokens: int,
    device: torch.device,
    on_progress: ProgressCallback = no_progress,
) -> torch.Tensor:
    """Embed texts in batches of similar length.

    Args:
        base: Folder of a DistilBERT.
        texts: What is embedded; longer texts are cut.
        max_tokens: Tokens that are read of a text, at most as many as the model has positions.
        device: Where the model runs.
        on_progress: Called after every batch of 32 texts.

    Returns:
        (texts, dim), float32, on the CPU. (0, dim) for no texts.
    """
    with loading_transformers():
        settings = DistilBertConfig.from_pretrained(base)
        if not texts:
            return torch.zeros(0, settings.dim)
        model: nn.Module = DistilBertModel.from_pretrained(base, local_files_only=True, use_safetensors=True)
    model.to(device).eval()
    tokens = _tokenize(base, texts, min(max_tokens, settings.max_position_embeddings))
    batches = batches_by_length([len(ids) for ids in tokens], BATCH_SIZE)
    vectors = torch.zeros(len(texts), settings.dim)
    with torch.inference_mode():
        for step, batch in enumerate(batches, 1):
            vectors[batch] = _mean_hidden_states(model, [tokens[i] for i in batch], device)
            on_progress(RunProgress("embedding texts", step, len(batches)))
    return vectors


def _tokenize(base: Path, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(base / TOKENIZER_FILES[0]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def _mean_hidden_states(model: nn.Module, tokens: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """(batch, dim) of a batch of token ids, which are padded to the longest."""
    longest = max(map(len, tokens))
    ids = torch.tensor([[*each, *[0] * (longest - len(each))] for each in tokens], device=device)
    mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in tokens], device=device)
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (batch, tokens, dim)
    is_token = mask[..., None]
    means: torch.Tensor = (states * is_token).sum(1) / is_token.sum(1)
    return means.float().cpu()
