"""Labels conditioned on at least one of them applying."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from trainers.core.conditional import at_least_one, condition_on_at_least_one


def test_conditioning_equals_the_sum_over_all_cases() -> None:
    logits = torch.tensor([[0.3, -1.2, -4.0, 2.0], [-9.0, -8.0, -7.0, -1.0]], dtype=torch.float64)
    columns = [0, 1, 2]
    for row, found in zip(logits, condition_on_at_least_one(logits, columns).sigmoid(), strict=True):
        p = row.sigmoid().tolist()
        cases = [case for case in itertools.product((0, 1), repeat=3) if any(case)]
        weights = [np.prod([p[i] if case[i] else 1 - p[i] for i in columns]) for case in cases]
        for i in columns:
            share = sum(w for w, case in zip(weights, cases, strict=True) if case[i]) / sum(weights)
            assert found[i].item() == pytest.approx(share)
        assert found[3].item() == pytest.approx(p[3]), "the column of another task does not change"


def test_conditioning_extreme_logits_is_finite_and_keeps_their_proportions() -> None:
    far = condition_on_at_least_one(torch.tensor([[-40.0, -40.0], [60.0, -40.0], [-40.0, 60.0]]), [0, 1]).sigmoid()
    assert far[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    assert far[1:].tolist() == [[1.0, pytest.approx(0.0, abs=1e-6)], [pytest.approx(0.0, abs=1e-6), 1.0]]
    alone = condition_on_at_least_one(torch.tensor([[-3.0]]), [0])
    assert alone.isfinite().all()
    assert alone.sigmoid().item() == pytest.approx(1.0), "the only label of a text that has a label"


def test_without_columns_the_logits_do_not_change() -> None:
    logits = torch.tensor([[0.5, -1.0]])
    assert torch.equal(condition_on_at_least_one(logits, []), logits)


def test_the_probabilities_of_a_row_add_up_to_at_least_one() -> None:
    logits = np.random.default_rng(3).normal(-6.0, 2.0, (100, 14))
    assert (at_least_one(logits).sum(1) >= 1.0 - 1e-9).all()
    assert at_least_one(logits[:0]).shape == (0, 14)
