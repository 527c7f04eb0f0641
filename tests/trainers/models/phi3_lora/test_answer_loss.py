"""The answer loss in chunks, and the metrics of answers."""

from __future__ import annotations

import math

import torch

from trainers.models.phi3_lora.answer_loss import (
    CHUNK,
    AnswerLogLikelihood,
    answer_log_likelihoods,
    answer_loss,
    answer_scores,
)


def test_the_chunked_loss_equals_cross_entropy_of_torch_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    number, words = 2 * CHUNK + 3, 50
    hidden, vocabulary = torch.randn(number, 8, requires_grad=True), torch.randn(words, 8)
    answers = torch.randint(words, (number,))
    ours = answer_loss(hidden, vocabulary, answers)
    (gradient,) = torch.autograd.grad(3 * ours, hidden)
    theirs = torch.nn.functional.cross_entropy(hidden @ vocabulary.T, answers, reduction="sum")
    (expected,) = torch.autograd.grad(3 * theirs, hidden)
    assert torch.allclose(ours, theirs)
    assert torch.allclose(gradient, expected, atol=1e-5)
    one, other = answer_log_likelihoods(hidden.detach(), vocabulary, answers, [number - 1, 1])
    assert one.tokens + other.tokens == number
    assert math.isclose(one.loss + other.loss, float(theirs.detach()), rel_tol=1e-6)
    assert one.correct + other.correct == int(((hidden @ vocabulary.T).argmax(1) == answers).sum())


def test_standard_errors_treat_an_answer_as_one_draw() -> None:
    alike = answer_scores([AnswerLogLikelihood(10, 5, 20.0)] * 9, 100)
    assert alike.errors == {"token_accuracy": 0.0, "bits_saved": 0.0}
    mixed = answer_scores([AnswerLogLikelihood(10, 10, 10.0), AnswerLogLikelihood(10, 0, 30.0)] * 50, 100)
    assert mixed.metrics == alike.metrics
    assert math.isclose(mixed.errors["token_accuracy"], 0.05, rel_tol=0.01), "of 100 answers, not of 1,000 tokens"
