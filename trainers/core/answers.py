"""How well a language model answers: token by token beside the right answer, and by what its own answers name."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch

from trainers.core.evaluate import Scores

CHUNK = 128
"""Answer tokens whose logits exist at a time: of a vocabulary of 50,000 that is 25 MB."""
_MITIGATION = re.compile(r"ATT&CK lists the mitigation (.{1,200}?) against ")


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
    loss: torch.Tensor = _AnswerLoss.apply(  # type: ignore[no-untyped-call]
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
    by_answer = zip(torch.cat(losses).split(list(lengths)), torch.cat(right).split(list(lengths)), strict=True)
    return [Told(len(loss), int(hits.sum()), float(loss.double().sum())) for loss, hits in by_answer]


def answer_scores(answers: Sequence[Told], extra: dict[str, float] | None = None) -> Scores:
    """The figures of some answers, over all their tokens: share of the tokens that are the most likely one, and the
    probability of a token, which is 1 / perplexity. The errors take an answer as one draw, not each token.

    >>> answer_scores([Told(2, 1, 2 * math.log(4))]).figures
    {'token_accuracy': 0.5, 'answer_probability': 0.25}
    """
    tokens = sum(one.tokens for one in answers)
    if not tokens:
        return Scores(0, {"token_accuracy": 0.0, "answer_probability": 0.0}, extra=extra or {})
    accuracy = sum(one.right for one in answers) / tokens
    loss = sum(one.loss for one in answers) / tokens
    likely = math.exp(-loss)
    errors = {
        "token_accuracy": _ratio_error([one.right - accuracy * one.tokens for one in answers], tokens),
        "answer_probability": likely * _ratio_error([one.loss - loss * one.tokens for one in answers], tokens),
    }
    figures = {"token_accuracy": accuracy, "answer_probability": likely}
    return Scores(len(answers), figures, errors=errors, extra={"perplexity": math.exp(loss)} | (extra or {}))


def _ratio_error(residuals: Sequence[float], tokens: int) -> float:
    """Standard error of a ratio of sums, from what each answer is away from it."""
    number = len(residuals)
    spread = sum(one * one for one in residuals) * number / max(number - 1, 1)
    return math.sqrt(spread) / tokens


def named_first(text: str, names: Collection[str]) -> str:
    """The one of some names that a text names first, in whatever case; "" where it names none.

    >>> named_first("This serves Defense-Evasion, with impact.", ["impact", "evasion", "defense evasion"])
    'defense evasion'
    """
    if not names:
        return ""
    longest = sorted(names, key=lambda name: (-len(name), name))
    by_words = {_words(name): name for name in reversed(longest)}
    found = re.search(rf"\b(?:{'|'.join(re.escape(_words(name)) for name in longest)})\b", _words(text))
    return by_words[found[0]] if found else ""


def _words(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").split())


def mitigation_of(answer: str) -> str:
    """The mitigation that an answer from a `mitigates` relationship is about; "" for any other answer.

    >>> mitigation_of("ATT&CK lists the mitigation User Training against Phishing (T1566), which ...")
    'User Training'
    """
    found = _MITIGATION.match(answer)
    return found[1] if found else ""
