"""Calibrated probabilities match frequencies, and thresholds maximize F1."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.core.probabilities import sigmoid, softmax
from trainers.models.distilbert.calibration import (
    MIN_EXAMPLES,
    best_threshold,
    expected_calibration_error,
    fit_sigmoid,
    fit_softmax,
    half_of_keys,
)


def overconfident(examples: int, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large and one too high, and labels drawn from the true probabilities."""
    random = np.random.default_rng(3)
    true = random.normal(-1.0, 1.5, (examples, labels))
    return 3.0 * true + 1.0, random.random((examples, labels)) < sigmoid(true)


def test_platt_scaling_finds_the_error_of_the_logits() -> None:
    logits, truth = overconfident(5_000)
    fitted = fit_sigmoid(logits, truth, 0.5)
    assert fitted.scale == pytest.approx(1 / 3, abs=0.03)
    assert fitted.shift == pytest.approx(-1 / 3, abs=0.06)
    before = expected_calibration_error(sigmoid(logits), truth)
    after = expected_calibration_error(sigmoid(fitted.scale * logits + fitted.shift), truth)
    assert after < before / 5


def test_the_temperature_of_a_softmax_is_found() -> None:
    random = np.random.default_rng(5)
    true = random.normal(0.0, 1.5, (4_000, 5))
    chosen = np.array([random.choice(5, p=row) for row in softmax(true)])
    fitted = fit_softmax(2.5 * true, np.eye(5, dtype=bool)[chosen])
    assert fitted.scale == pytest.approx(0.4, abs=0.04)
    assert fitted.thresholds == ()


def test_with_few_examples_nothing_is_fitted() -> None:
    logits, truth = overconfident(MIN_EXAMPLES - 1)
    fitted = fit_sigmoid(logits, truth, 0.45)
    assert (fitted.scale, fitted.shift, fitted.examples) == (1.0, 0.0, 0)
    assert fitted.thresholds == (0.45,) * 4
    assert fit_softmax(logits, truth).scale == 1.0


def test_the_scale_of_separable_logits_is_finite() -> None:
    truth = np.arange(200).reshape(100, 2) % 3 == 0
    fitted = fit_sigmoid(np.where(truth, 9.0, -9.0), truth, 0.5)
    assert 0.05 <= fitted.scale < 20.0
    no_positives = fit_sigmoid(np.full((100, 2), -3.0), np.zeros((100, 2), dtype=bool), 0.5)
    assert np.isfinite([no_positives.scale, no_positives.shift]).all()


def test_the_best_threshold_has_the_highest_f1() -> None:
    random = np.random.default_rng(7)
    probabilities = random.beta(0.5, 2.0, 4_000)
    truth = random.random(4_000) < probabilities

    def f1(threshold: float) -> float:
        predicted = probabilities >= threshold
        return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))

    best = max(f1(threshold) for threshold in np.linspace(0.05, 0.95, 91))
    assert f1(best_threshold(probabilities)) > best - 0.01
    assert best_threshold(probabilities) < 0.5


def test_the_halves_are_of_similar_size_and_depend_on_the_key_alone() -> None:
    keys = [f"technique:T{number}" for number in range(1_000)]
    half = half_of_keys(keys)
    assert 400 < half.sum() < 600
    assert (half_of_keys(keys[::-1]) == half[::-1]).all()
