"""Loss and log-likelihood of answer tokens, computed in chunks so that few logits exist at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from schemas.scores import TaskScores

CHUNK = 128
"""Answer tokens whose logits exist at a time: 25 MB for a vocabulary of 50,000."""
MAX_LOSS = 100.0
"""Mean loss at which the perplexity is capped, so that it stays a finite number."""


class _AnswerLoss(torch.autograd.Function):
    """Summed cross entropy over a frozen output matrix; the forward pass also computes the gradient, in chunks."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, output_weight: torch.Tensor, answers: torch.Tensor, needs_grad: bool
    ) -> torch.Tensor:
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden) if needs_grad else None
        for start in range(0, len(hidden), CHUNK):
            chunk, targets = slice(start, start + CHUNK), answers[start : start + CHUNK]
            rows = torch.arange(len(targets), device=hidden.device)
            logits = (hidden[chunk] @ output_weight.T).float()
            log_normalizers = logits.logsumexp(1, keepdim=True)
            total += (log_normalizers[:, 0] - logits[rows, targets]).sum()
            if gradient is not None:
                probabilities = logits.sub_(log_normalizers).exp_()
                probabilities[rows, targets] -= 1.0
                gradient[chunk] = probabilities.to(output_weight.dtype) @ output_weight
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return ctx.gradient * outer[0], None, None, None


def answer_loss(hidden: torch.Tensor, output_weight: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Cross entropy of answer tokens, summed. Only `hidden` gets a gradient.

    Args:
        hidden: (k, dim), float: hidden states of the last layer that predict the answer tokens.
        output_weight: (vocabulary, dim), float: the frozen output matrix (`lm_head.weight`).
        answers: (k,), int64: the answer tokens.

    Returns:
        Scalar, float32, in nats. 0 for k = 0.
    """
    loss: torch.Tensor = _AnswerLoss.apply(
        hidden.to(output_weight.dtype), output_weight, answers, torch.is_grad_enabled() and hidden.requires_grad
    )
    return loss


class AnswerLogLikelihood(NamedTuple):
    """How well a model predicts one answer.

    Attributes:
        tokens: Number of tokens of the answer.
        correct: How many of them the model finds the most likely token.
        loss: Minus the log-likelihood of all its tokens, in nats.
    """

    tokens: int
    correct: int
    loss: float


def answer_log_likelihoods(
    hidden: torch.Tensor, output_weight: torch.Tensor, answers: torch.Tensor, lengths: Sequence[int]
) -> list[AnswerLogLikelihood]:
    """How well a model predicts each answer of a row.

    Args:
        hidden: (k, dim), float, as for `answer_loss`.
        output_weight: (vocabulary, dim), float.
        answers: (k,), int64.
        lengths: Number of tokens of each answer; they add up to k, which is at least 1.
    """
    losses, correct = [], []
    for start in range(0, len(hidden), CHUNK):
        targets = answers[start : start + CHUNK, None]
        logits = (hidden[start : start + CHUNK].to(output_weight.dtype) @ output_weight.T).float()
        losses.append(logits.logsumexp(1) - logits.gather(1, targets)[:, 0])
        correct.append(logits.argmax(1) == targets[:, 0])
    sizes = list(lengths)
    by_answer = zip(torch.split(torch.cat(losses), sizes), torch.split(torch.cat(correct), sizes), strict=True)
    return [AnswerLogLikelihood(len(loss), int(hits.sum()), float(loss.double().sum())) for loss, hits in by_answer]


def answer_scores(answers: Sequence[AnswerLogLikelihood], vocabulary_size: int) -> TaskScores:
    """Metrics over the tokens of all answers.

        token_accuracy   share of the tokens that the model finds the most likely ones
        bits_saved       1 - log(perplexity) / log(vocabulary size): the share of the bits that the model saves
                         compared to a uniform distribution over the vocabulary. A difference means the same
                         everywhere on this scale: with 49,152 tokens, +0.05 is 0.58 times the perplexity

    The tokens of one answer are not independent, so the standard errors treat an answer as one draw (ratio
    estimator). Without answers, all metrics are 0.

    Args:
        answers: The answers; may be empty.
        vocabulary_size: Number of tokens in the vocabulary, at least 2.

    >>> answer_scores([AnswerLogLikelihood(2, 1, 2 * math.log(4))], 16).metrics
    {'token_accuracy': 0.5, 'bits_saved': 0.5}
    """
    tokens = sum(answer.tokens for answer in answers)
    if not tokens:
        return TaskScores(0, {"token_accuracy": 0.0, "bits_saved": 0.0})
    accuracy = sum(answer.correct for answer in answers) / tokens
    loss = sum(answer.loss for answer in answers) / tokens
    uniform_loss = math.log(vocabulary_size)
    errors = {
        "token_accuracy": _ratio_error([answer.correct - accuracy * answer.tokens for answer in answers], tokens),
        "bits_saved": _ratio_error([answer.loss - loss * answer.tokens for answer in answers], tokens)
        / uniform_loss,
    }
    metrics = {"token_accuracy": accuracy, "bits_saved": max(0.0, 1.0 - loss / uniform_loss)}
    return TaskScores(len(answers), metrics, errors=errors, extra={"perplexity": math.exp(min(loss, MAX_LOSS))})


def _ratio_error(residuals: Sequence[float], tokens: int) -> float:
    """Standard error of a ratio of sums over answers, from the residual of each answer."""
    number = len(residuals)
    variance_sum = sum(residual * residual for residual in residuals) * number / max(number - 1, 1)
    return math.sqrt(variance_sum) / tokens
