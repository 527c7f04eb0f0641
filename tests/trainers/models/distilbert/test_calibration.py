"""Calibrated probabilities are right as often as they say, and nothing is judged by what was fitted on it."""

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
    """Logits three times as large and one higher than they should be, and what came of them."""
    random = np.random.default_rng(3)
    true = random.normal(-1.0, 1.5, (examples, labels))
    return 3.0 * true + 1.0, random.random((examples, labels)) < sigmoid(true)


def test_platt_finds_how_far_logits_are_off() -> None:
    logits, truth = overconfident(5_000)
    fitted = fit_sigmoid(logits, truth, 0.5)
    assert fitted.scale == pytest.approx(1 / 3, abs=0.03)
    assert fitted.shift == pytest.approx(-1 / 3, abs=0.06)
    before = expected_calibration_error(sigmoid(logits), truth)
    after = expected_calibration_error(sigmoid(fitted.scale * logits + fitted.shift), truth)
    assert after < before / 5


def test_a_temperature_is_found_for_a_softmax() -> None:
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


def test_logits_that_separate_everything_keep_a_finite_scale() -> None:
    truth = np.arange(200).reshape(100, 2) % 3 == 0
    fitted = fit_sigmoid(np.where(truth, 9.0, -9.0), truth, 0.5)
    assert 0.05 <= fitted.scale < 20.0
    nobody = fit_sigmoid(np.full((100, 2), -3.0), np.zeros((100, 2), dtype=bool), 0.5)
    assert np.isfinite([nobody.scale, nobody.shift]).all()


def test_the_threshold_is_the_one_of_the_highest_f1() -> None:
    random = np.random.default_rng(7)
    probabilities = random.beta(0.5, 2.0, 4_000)
    truth = random.random(4_000) < probabilities

    def f1(threshold: float) -> float:
        named = probabilities >= threshold
        return float(2 * (named & truth).sum() / (named.sum() + truth.sum()))

    best = max(f1(threshold) for threshold in np.linspace(0.05, 0.95, 91))
    assert f1(best_threshold(probabilities)) > best - 0.01
    assert best_threshold(probabilities) < 0.5


def test_two_halves_of_about_one_size_that_depend_on_the_key_alone() -> None:
    keys = [f"technique:T{number}" for number in range(1_000)]
    half = half_of_keys(keys)
    assert 400 < half.sum() < 600
    assert (half_of_keys(keys[::-1]) == half[::-1]).all()
