"""How well a language model predicts an answer, token by token, and what it costs to train it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from schemas.scores import TaskScores

CHUNK = 128
"""Answer tokens whose logits exist at a time: of a vocabulary of 50,000 that is 25 MB."""
MAX_LOSS = 100.0
"""A perplexity is that of this loss at most, which a number can hold."""


class _AnswerLoss(torch.autograd.Function):
    """Summed cross entropy over a vocabulary's frozen matrix: the gradient is made with the loss, in chunks."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, vocabulary: torch.Tensor, answers: torch.Tensor, wanted: bool
    ) -> torch.Tensor:
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(hidden), CHUNK):
            part, right = slice(start, start + CHUNK), answers[start : start + CHUNK]
            rows = torch.arange(len(right), device=hidden.device)
            logits = (hidden[part] @ vocabulary.T).float()
            each = logits.logsumexp(1, keepdim=True)
            total += (each[:, 0] - logits[rows, right]).sum()
            if gradient is not None:
                probabilities = logits.sub_(each).exp_()
                probabilities[rows, right] -= 1.0
                gradient[part] = probabilities.to(vocabulary.dtype) @ vocabulary
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return ctx.gradient * outer[0], None, None, None


def answer_loss(hidden: torch.Tensor, vocabulary: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood of answer tokens, summed; only `hidden` gets a gradient.

    Args:
        hidden: (k, dim): the last layer where each token is predicted.
        vocabulary: (words, dim), frozen.
        answers: (k,), int64.
    """
    loss: torch.Tensor = _AnswerLoss.apply(
        hidden.to(vocabulary.dtype), vocabulary, answers, torch.is_grad_enabled() and hidden.requires_grad
    )
    return loss


class Told(NamedTuple):
    """How one answer was predicted: its tokens, how many were the most likely one, minus its log-likelihood."""

    tokens: int
    right: int
    loss: float


def told(
    hidden: torch.Tensor, vocabulary: torch.Tensor, answers: torch.Tensor, lengths: Sequence[int]
) -> list[Told]:
    """How each answer of a row was predicted.

    Args:
        hidden, vocabulary, answers: As for `answer_loss`.
        lengths: Tokens of each answer; their sum is k.
    """
    losses, right = [], []
    for start in range(0, len(hidden), CHUNK):
        wanted = answers[start : start + CHUNK, None]
        logits = (hidden[start : start + CHUNK].to(vocabulary.dtype) @ vocabulary.T).float()
        losses.append(logits.logsumexp(1) - logits.gather(1, wanted)[:, 0])
        right.append(logits.argmax(1) == wanted[:, 0])
    sizes = list(lengths)
    by_answer = zip(torch.split(torch.cat(losses), sizes), torch.split(torch.cat(right), sizes), strict=True)
    return [Told(len(loss), int(hits.sum()), float(loss.double().sum())) for loss, hits in by_answer]


def answer_scores(answers: Sequence[Told], words: int) -> TaskScores:
    """The figures of some answers, over all their tokens; their errors take an answer as one draw, not each token.

        token_accuracy   share of the tokens that the model finds the most likely ones
        bits_saved       of the bits that the tokens take when all words are equally likely, the share that the
                         model saves: 1 - log(perplexity) / log(words). A margin means the same everywhere on this
                         scale: of 49,152 words, 0.05 is a perplexity of 0.58 times as much

    Args:
        answers: At least none; then all is 0.
        words: Of the vocabulary.

    >>> answer_scores([Told(2, 1, 2 * math.log(4))], 16).metrics
    {'token_accuracy': 0.5, 'bits_saved': 0.5}
    """
    tokens = sum(one.tokens for one in answers)
    if not tokens:
        return TaskScores(0, {"token_accuracy": 0.0, "bits_saved": 0.0})
    accuracy = sum(one.right for one in answers) / tokens
    loss = sum(one.loss for one in answers) / tokens
    errors = {
        "token_accuracy": _ratio_error([one.right - accuracy * one.tokens for one in answers], tokens),
        "bits_saved": _ratio_error([one.loss - loss * one.tokens for one in answers], tokens) / math.log(words),
    }
    figures = {"token_accuracy": accuracy, "bits_saved": max(0.0, 1.0 - loss / math.log(words))}
    return TaskScores(len(answers), figures, errors=errors, extra={"perplexity": math.exp(min(loss, MAX_LOSS))})


def _ratio_error(residuals: Sequence[float], tokens: int) -> float:
    """Standard error of a ratio of sums, from what each answer is away from it."""
    number = len(residuals)
    spread = sum(one * one for one in residuals) * number / max(number - 1, 1)
    return math.sqrt(spread) / tokens
