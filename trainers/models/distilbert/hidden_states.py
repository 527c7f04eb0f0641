"""A DistilBERT in two parts: frozen layers, computed once per text, and trainable layers, computed in every epoch.

    token ids ──> embeddings ──> frozen layers ──> hidden states ──> trainable layers ──> head ──> logits
                  └──── once per text, cached ───┘                  └─ every epoch, and for the parent ─┘

The output of the frozen layers for a text does not change within a run. The two parts together compute the same as
the whole encoder and its head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DistilBertForSequenceClassification

from trainers.core.batching import batches_by_length

MAX_CACHE_BYTES = 1 << 30
"""Hidden states that need more memory than this are not cached but computed for every batch."""


class FrozenLayers:
    """The embeddings and the lowest layers, which keep their weights.

    Args:
        model: In evaluation mode.
        layers: Number of layers from the bottom, at least 0; more than the model has means all of them.
    """

    def __init__(self, model: DistilBertForSequenceClassification, layers: int) -> None:
        self._embeddings: nn.Module = model.distilbert.embeddings
        self._layers = model.distilbert.transformer.layer[:layers]

    def __call__(self, tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the hidden states of one batch.

        Args:
            tokens: Token ids of each text, not padded.

        Returns:
            Hidden states, (batch, tokens, dim) float32, and the attention mask, (batch, tokens) bool; both on the
            device of the model.
        """
        device = next(self._embeddings.parameters()).device
        ids = pad_sequence([torch.tensor(text) for text in tokens], batch_first=True).to(device)
        mask = attention_mask([len(text) for text in tokens]).to(device)
        with torch.no_grad():
            hidden: torch.Tensor = self._embeddings(ids)
            for layer in self._layers:
                hidden = layer(hidden, attention_mask=mask[:, None, None, :])
        return hidden, mask


class TrainableLayers(nn.Module):
    """The layers above the frozen ones, and the head. Shares its weights with the model.

    Args:
        model: The model of which it is a part.
        frozen: Number of layers from the bottom that are left out, at least 0.
    """

    def __init__(self, model: DistilBertForSequenceClassification, frozen: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(model.distilbert.transformer.layer[frozen:])
        self.pre_classifier: nn.Linear = model.pre_classifier
        self.classifier: nn.Linear = model.classifier
        self.dropout: nn.Module = model.dropout

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Args:
            hidden: (batch, tokens, dim), float32.
            mask: (batch, tokens), bool, True where a token is not padding.

        Returns:
            (batch, labels), float32.
        """
        return self.classify(self.encode(hidden, mask))

    def encode(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The hidden state of [CLS] after all layers, (batch, dim); arguments as for `forward`."""
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask[:, None, None, :])
        return hidden[:, 0]

    def classify(self, encoded: torch.Tensor) -> torch.Tensor:
        """The logits, (batch, labels), float32, from the result of `encode`."""
        pooled = torch.relu(self.pre_classifier(encoded))
        logits: torch.Tensor = self.classifier(self.dropout(pooled)).float()
        return logits


class HiddenStateCache:
    """The outputs of the frozen layers for some texts. They are kept where the model is, if they fit into
    `MAX_CACHE_BYTES`.

    Args:
        model: In evaluation mode.
        frozen: Number of frozen layers, at least 0.
        tokens: Token ids of each text, not padded.
        batch_size: Texts that are computed together.
        on_batch: Called with (batches done, batches in all) after each batch; never if nothing is cached.

    Attributes:
        lengths: Tokens of each text.
    """

    def __init__(
        self,
        model: DistilBertForSequenceClassification,
        frozen: int,
        tokens: Sequence[Sequence[int]],
        batch_size: int,
        on_batch: Callable[[int, int], None],
    ) -> None:
        self._frozen_layers = FrozenLayers(model, frozen)
        self._tokens = tokens
        self.lengths = [len(text) for text in tokens]
        self._cached: dict[int, torch.Tensor] = {}
        if sum(self.lengths) * model.config.dim * 4 <= MAX_CACHE_BYTES:
            self._fill(batch_size, on_batch)

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states of some texts.

        Returns:
            Hidden states, (batch, tokens, dim) float32, on the device of the model, and the attention mask,
            (batch, tokens) bool.
        """
        if not self._cached:
            return self._frozen_layers([self._tokens[i] for i in indices])
        hidden = pad_sequence([self._cached[i] for i in indices], batch_first=True)
        return hidden, attention_mask([self.lengths[i] for i in indices])

    def _fill(self, batch_size: int, on_batch: Callable[[int, int], None]) -> None:
        batches = batches_by_length(self.lengths, batch_size)
        for done, indices in enumerate(batches, 1):
            hidden, _ = self._frozen_layers([self._tokens[i] for i in indices])
            for row, i in enumerate(indices):
                self._cached[i] = hidden[row, : self.lengths[i]].clone()
            on_batch(done, len(batches))


def attention_mask(lengths: Sequence[int]) -> torch.Tensor:
    """The mask of a padded batch.

    Args:
        lengths: Tokens of each text, at least one text.

    Returns:
        (texts, tokens), bool, True where a token is not padding.

    >>> attention_mask([1, 2]).int().tolist()
    [[1, 0], [1, 1]]
    """
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
