"""A DistilBERT cut in two: the layers below, which keep their weights, and those above, which are trained.

    token ids ──> embeddings ──> frozen layers ──> hidden states ──> layers above ──> head ──> logits
                  └───── once per text, kept ─────┘                 └─ every epoch, parent and child ─┘

What the lower part says of a text never changes within a run, so it is computed once. The two parts together
compute what the whole model does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

KEEP_BYTES = 1 << 30
"""Hidden states of more than this are computed again whenever they are asked for."""


class Above(nn.Module):
    """The layers above the frozen ones, and the head. It shares its weights with the whole model.

    Args:
        model: A `DistilBertForSequenceClassification`.
        frozen: So many layers from the bottom are not in it.
    """

    def __init__(self, model: Any, frozen: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(model.distilbert.transformer.layer[frozen:])
        self.pre_classifier: nn.Module = model.pre_classifier
        self.classifier: nn.Module = model.classifier
        self.dropout: nn.Module = model.dropout

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits.

        Args:
            hidden: (batch, tokens, dim).
            mask: (batch, tokens), True for what isn't padding.

        Returns:
            (batch, labels), float32.
        """
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask[:, None, None, :])
        first = torch.relu(self.pre_classifier(hidden[:, 0]))
        logits: torch.Tensor = self.classifier(self.dropout(first)).float()
        return logits


class Inputs:
    """Texts as what `Above` reads.

    Args:
        model: A `DistilBertForSequenceClassification` in evaluation mode.
        frozen: So many layers from the bottom are below.
        tokens: Token ids of each text, not padded.
        batch_size: Texts that are computed together.
        after: Called with (done, all) after each batch.
    """

    def __init__(
        self,
        model: Any,
        frozen: int,
        tokens: Sequence[Sequence[int]],
        batch_size: int,
        after: Callable[[int, int], None],
    ) -> None:
        self._embeddings: nn.Module = model.distilbert.embeddings
        self._layers: Sequence[nn.Module] = model.distilbert.transformer.layer[:frozen]
        self._tokens = tokens
        self.lengths = [len(ids) for ids in tokens]
        self._kept: dict[int, torch.Tensor] = {}
        if sum(self.lengths) * model.config.dim * 4 <= KEEP_BYTES:
            self._keep(batch_size, after)

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states of some texts, (batch, tokens, dim), and which of them aren't padding, (batch, tokens)."""
        if not self._kept:
            return self._below(indices)
        hidden = pad_sequence([self._kept[i] for i in indices], batch_first=True)
        return hidden, mask_of([self.lengths[i] for i in indices])

    def _keep(self, batch_size: int, after: Callable[[int, int], None]) -> None:
        batches = by_length(self.lengths, batch_size)
        for done, indices in enumerate(batches, 1):
            hidden, _ = self._below(indices)
            for row, i in enumerate(indices):
                self._kept[i] = hidden[row, : self.lengths[i]].cpu().clone()
            after(done, len(batches))

    def _below(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        device = next(self._embeddings.parameters()).device
        ids = pad_sequence([torch.tensor(self._tokens[i]) for i in indices], batch_first=True).to(device)
        mask = mask_of([self.lengths[i] for i in indices]).to(device)
        with torch.no_grad():
            hidden: torch.Tensor = self._embeddings(ids)
            for layer in self._layers:
                hidden = layer(hidden, attention_mask=mask[:, None, None, :])
        return hidden, mask


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """All indices in batches of similar length, the shortest first.

    >>> by_length([5, 2, 9], 2)
    [[1, 0], [2]]
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


def mask_of(lengths: Sequence[int]) -> torch.Tensor:
    """(texts, tokens), True for what isn't padding."""
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
