"""Texts as vectors: the mean of what a DistilBERT says of their tokens. Its weights stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import DistilBertConfig, DistilBertModel

from trainers.bases.base_models import TOKENIZER_FILES, quiet_transformers
from trainers.core.progress import ProgressCallback, RunProgress, no_progress

AT_ONCE = 32
"""Texts."""


def embed_texts(
    base: Path,
    texts: Sequence[str],
    max_tokens: int,
    device: torch.device,
    on_progress: ProgressCallback = no_progress,
) -> torch.Tensor:
    """Embed texts, those of similar length together.

    Args:
        base: Folder of a DistilBERT.
        texts: Cut after `max_tokens`, or what the model can read.
        on_progress: Called after every 32 texts.

    Returns:
        (texts, dim), on the CPU.
    """
    with quiet_transformers():
        settings = DistilBertConfig.from_pretrained(base)
        if not texts:
            return torch.zeros(0, settings.dim)
        model = DistilBertModel.from_pretrained(base, local_files_only=True, use_safetensors=True).to(device).eval()
    tokenizer = Tokenizer.from_file(str(base / TOKENIZER_FILES[0]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(max_tokens, settings.max_position_embeddings))
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    batches = [by_length[i : i + AT_ONCE] for i in range(0, len(by_length), AT_ONCE)]
    out = torch.zeros(len(texts), settings.dim)
    with torch.inference_mode():
        for step, batch in enumerate(batches, 1):
            longest = max(len(tokens[i]) for i in batch)
            ids = torch.tensor([tokens[i] + [0] * (longest - len(tokens[i])) for i in batch], device=device)
            mask = torch.tensor(
                [[1] * len(tokens[i]) + [0] * (longest - len(tokens[i])) for i in batch], device=device
            )
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (batch, tokens, dim)
            real = mask[..., None]
            out[batch] = ((states * real).sum(1) / real.sum(1)).float().cpu()
            on_progress(RunProgress("embedding texts", step, len(batches)))
    return out
