"""DistilBERT with a second opinion: a logistic regression on the words of the text, added to what the encoder says.

    input_ids ──> encoder ──> head ─────────────────> + ──> each by itself ──> given that there is one ──> logits
        └───────> tokens and pairs, TF-IDF ──> x scale ┘

The encoder knows what words mean, the regression remembers which words go with which label; together they are
better than each (wide and deep learning, Cheng et al. 2016; docs/experiments.md). Both say each tactic by itself,
and know nothing of what every example has: at least one of them. Every version has a copy of this
file, so that `AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)` loads all of it;
therefore it imports nothing of the project. Without `trust_remote_code` the encoder alone is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification

PAIRS = 1 << 17
"""Pairs of tokens share so many rows by a hash."""
_MULTIPLIER = 1_000_003
_LEAST = 1e-30
"""The least that any other label is believed to hold, so that a certain one stays a finite number."""


def ngrams(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The tokens and pairs of neighbours of some texts, one entry for each place at which one stands.

    Args:
        input_ids, attention_mask: (batch, tokens).
        vocabulary: Pairs are numbered from here on.

    Returns:
        Numbers of the tokens and pairs, (batch, 2 tokens - 1); the frequency 1 + log(count) of each in its text;
        and that frequency shared out evenly over its places, 0 for padding.
    """
    here = attention_mask.bool()
    pairs = vocabulary + (input_ids[:, :-1] * _MULTIPLIER + input_ids[:, 1:]) % PAIRS
    numbers = torch.cat([input_ids, pairs], 1)
    stands = torch.cat([here, here[:, :-1] & here[:, 1:]], 1)
    equal = (numbers[:, :, None] == numbers[:, None, :]) & stands[:, None, :]  # (batch, entries, entries)
    count = equal.sum(2).clamp(min=1).float()
    frequency = 1.0 + count.log()
    return numbers, frequency, stands * frequency / count


class Words(nn.Module):
    """A linear layer on the TF-IDF of tokens and pairs, of unit length.

    Args:
        vocabulary: Size of the tokenizer's.
        labels: How many there are.

    Attributes:
        weight, bias: (features, labels) and (labels,).
        idf: (features,), inverse document frequencies.
        scale: (labels,), what the result counts beside the encoder.
    """

    def __init__(self, vocabulary: int, labels: int) -> None:
        super().__init__()
        features = vocabulary + PAIRS
        self.vocabulary = vocabulary
        self.weight = nn.Parameter(torch.zeros(features, labels), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(labels), requires_grad=False)
        self.idf = nn.Parameter(torch.ones(features), requires_grad=False)
        self.scale = nn.Parameter(torch.zeros(labels), requires_grad=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, tokens) to (batch, labels)."""
        numbers, frequency, share = ngrams(input_ids, attention_mask, self.vocabulary)
        idf = self.idf[numbers]
        length = (share * idf * frequency * idf).sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        values = share * idf / length
        found = torch.einsum("be,bel->bl", values, self.weight[numbers]) + self.bias
        return self.scale * found


def given_one(logits: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """The log-odds of labels once it is known that at least one of them holds.

    Bayes: P(i | at least one) = P(i) / P(at least one), so the odds of `i` are divided by the probability that
    another one holds.

    Args:
        logits: (..., labels), log-odds of labels that are independent.
        columns: Of which labels at least one holds; the others stay as they are.

    Returns:
        The same shape.

    >>> odds = torch.tensor([[0.0, 0.0, 5.0]])
    >>> given_one(odds, [0, 1]).sigmoid()[0, :2]  # 1/2 each, nothing at all in 1 of 4 cases
    tensor([0.6667, 0.6667])
    """
    if not columns:
        return logits
    among = torch.zeros(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    among[list(columns)] = 1.0
    others = torch.outer(among, among) - torch.diag(among)
    none = nn.functional.softplus(logits) @ others  # (..., labels), minus the log of P(no other one)
    half = torch.tanh(0.5 * none.clamp(min=_LEAST))
    another = (2.0 * half / (1.0 + half)).log()  # 1 - exp(-none), without its cancellation
    return logits - among * another


class DistilBertWithWords(DistilBertForSequenceClassification):
    """A `DistilBertForSequenceClassification` that adds what `Words` says to its logits, not to its loss.

    `config.at_least_one` has the columns of the labels of which every text has one.
    """

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.words = Words(config.vocab_size, len(config.id2label or ()))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Words):
            for values in (module.weight, module.bias, module.scale):
                nn.init.zeros_(values)
            nn.init.ones_(module.idf)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **more: Any) -> Any:
        """See the parent."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        out = super().forward(input_ids=input_ids, attention_mask=attention_mask, **more)
        out.logits = given_one(out.logits + self.words(input_ids, mask), getattr(self.config, "at_least_one", []))
        return out


DistilBertWithWords.register_for_auto_class("AutoModelForSequenceClassification")  # type: ignore[no-untyped-call]
