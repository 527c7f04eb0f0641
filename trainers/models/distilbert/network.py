"""The network: a DistilBERT encoder and a logistic regression on the words of the text, whose logits are added.

    input_ids ──> encoder ──> head ────────────────────> + ──> conditioned on at least one tactic ──> logits
        └───────> tokens and bigrams, TF-IDF ──> x scale ┘

The encoder generalizes over the meaning of words; the regression memorizes which words occur with which label.
Together they are better than either alone (wide and deep learning, Cheng et al. 2016; docs/experiments.md). Both
predict each label independently. Every text has at least one tactic, so the sum is conditioned on that.

This file is copied into the folder of every version, so that
`AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)` loads the whole network.
Therefore it imports nothing from this project. Without `trust_remote_code` only the encoder and its head are
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification

BIGRAM_BUCKETS = 1 << 17
"""Bigrams are hashed into this many features (the hashing trick, Weinberger et al. 2009)."""
_HASH_MULTIPLIER = 1_000_003
_MIN_NEGATIVE_LOG = 1e-30
"""Keeps the result finite where no other label can apply."""


def ngrams(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, vocabulary_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """List the unigrams and bigrams of some texts, one entry per occurrence.

    Args:
        input_ids: (batch, tokens), int64.
        attention_mask: (batch, tokens), nonzero where a token is not padding.
        vocabulary_size: Size of the tokenizer's vocabulary. Features of bigrams are numbered from here on.

    Returns:
        Three tensors, each (batch, 2 * tokens - 1):
        the feature of each occurrence, int64;
        the sublinear term frequency of that feature in its text, 1 + log(count), float32;
        and the same divided by the count, so that the occurrences of a feature add up to its frequency; 0 for
        padding.
    """
    is_token = attention_mask.bool()
    bigrams = vocabulary_size + (input_ids[:, :-1] * _HASH_MULTIPLIER + input_ids[:, 1:]) % BIGRAM_BUCKETS
    features = torch.cat([input_ids, bigrams], 1)
    is_present = torch.cat([is_token, is_token[:, :-1] & is_token[:, 1:]], 1)
    equal = (features[:, :, None] == features[:, None, :]) & is_present[:, None, :]  # (batch, entries, entries)
    count = equal.sum(2).clamp(min=1).float()
    frequency = 1.0 + count.log()
    return features, frequency, is_present * frequency / count


class TextRegression(nn.Module):
    """A linear layer on the TF-IDF vector of a text's unigrams and bigrams, scaled to unit length.

    It is not trained by gradient descent: `trainers.models.distilbert.text_regression` fits it.

    Args:
        vocabulary_size: Size of the tokenizer's vocabulary.
        labels: Number of labels.

    Attributes:
        weight: (features, labels), float32; the features are the vocabulary and then the buckets of bigrams.
        bias: (labels,), float32.
        idf: (features,), inverse document frequencies, float32.
        scale: (labels,), weight of the regression's logits in the sum with the encoder's, float32.
    """

    def __init__(self, vocabulary_size: int, labels: int) -> None:
        super().__init__()
        features = vocabulary_size + BIGRAM_BUCKETS
        self.vocabulary_size = vocabulary_size
        self.weight = nn.Parameter(torch.zeros(features, labels), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(labels), requires_grad=False)
        self.idf = nn.Parameter(torch.ones(features), requires_grad=False)
        self.scale = nn.Parameter(torch.zeros(labels), requires_grad=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the scaled logits.

        Args:
            input_ids: (batch, tokens), int64.
            attention_mask: (batch, tokens), nonzero where a token is not padding.

        Returns:
            (batch, labels), float32.
        """
        features, frequency, share = ngrams(input_ids, attention_mask, self.vocabulary_size)
        idf = self.idf[features]
        length = (share * idf * frequency * idf).sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        values = share * idf / length
        logits = torch.einsum("be,bel->bl", values, self.weight[features]) + self.bias
        return self.scale * logits


def condition_on_at_least_one(logits: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """Condition independent labels on at least one of them applying.

    By Bayes, P(i | at least one) = P(i) / P(at least one), so the odds of label `i` are divided by the probability
    that another label applies.

    Args:
        logits: (..., labels), log-odds of independent labels, any floating dtype.
        columns: The labels of which at least one applies. The others keep their logits. With no columns, the logits
            are returned as they are.

    Returns:
        (..., labels), the conditional log-odds, of the same dtype.

    >>> logits = torch.tensor([[0.0, 0.0, 5.0]])
    >>> condition_on_at_least_one(logits, [0, 1]).sigmoid()[0, :2]  # 1/2 each, and neither applies in 1 of 4 cases
    tensor([0.6667, 0.6667])
    """
    if not columns:
        return logits
    in_group = torch.zeros(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    in_group[list(columns)] = 1.0
    others = torch.outer(in_group, in_group) - torch.diag(in_group)
    negative_log_none = nn.functional.softplus(logits) @ others  # (..., labels), -log P(no other label applies)
    half = torch.tanh(0.5 * negative_log_none.clamp(min=_MIN_NEGATIVE_LOG))
    log_another = (2.0 * half / (1.0 + half)).log()  # log(1 - P(no other)), without cancellation
    return logits - in_group * log_another


class DistilBertWithWords(DistilBertForSequenceClassification):
    """A `DistilBertForSequenceClassification` whose logits include those of a `TextRegression`.

    Its loss, if labels are passed, is that of the encoder alone. `config.at_least_one` lists the columns of the
    labels of which every text has at least one.

    Args:
        config: With `id2label`, which decides the number of labels.
    """

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.words = TextRegression(config.vocab_size, len(config.id2label or ()))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TextRegression):
            for values in (module.weight, module.bias, module.scale):
                nn.init.zeros_(values)
            nn.init.ones_(module.idf)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """Compute the logits; see `DistilBertForSequenceClassification.forward`.

        Args:
            input_ids: (batch, tokens), int64.
            attention_mask: (batch, tokens), nonzero where a token is not padding; None for no padding.
            **kwargs: Passed on.

        Returns:
            A `SequenceClassifierOutput` with `logits` (batch, labels).
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        logits = output.logits + self.words(input_ids, mask)
        output.logits = condition_on_at_least_one(logits, getattr(self.config, "at_least_one", []))
        return output


DistilBertWithWords.register_for_auto_class("AutoModelForSequenceClassification")  # type: ignore[no-untyped-call]
