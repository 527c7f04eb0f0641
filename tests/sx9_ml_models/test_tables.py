"""What the tables say of versions: each model by its own figures, before and after, and beside its baseline."""

from __future__ import annotations

import re

import pytest

from schemas.versions import GateCheck, Manifest
from sx9_ml_models import render as tables
from sx9_ml_models.queries import figures

GNN = Manifest(
    model="gnn-threat", version="v0002", parent="v0001", trigger="gnn-threat@9", reason="volume", promoted=True,
    scores={
        "old_recall_at_20": 0.3, "holdout_recall_at_20": 0.5, "holdout_ndcg_at_20": 0.4, "holdout_loss": 1.25,
        "holdout_examples": 60.0, "holdout_tactics_macro_f1": 0.75, "holdout_tactics_examples": 30.0,
    },
    parent_scores={"holdout_recall_at_20": 0.25},
    baseline_scores={"item cosine": {"holdout_recall_at_20": 0.2}},
    gate=(
        GateCheck("old/recall-at-20", 0.2, 0.3, 0.0, 30, True),
        GateCheck("recent/ndcg-at-20", 0.2, 0.3, 0.0, 30, True),
        GateCheck("old_tactics/macro-f1", 0.2, 0.3, 0.0, 30, True),
        GateCheck("label/impact", 0.2, 0.3, 0.0, 30, True),
    ),
    files={"model.safetensors": "aa", "README.md": "bb", "embeddings.safetensors": "cc"},
)  # fmt: skip


def row(manifest: Manifest, **fields: object) -> dict[str, object]:
    """A row as `views.versions` makes it."""
    given = {name: getattr(manifest, name) for name in ("version", "reason", "promoted", "scores", "parent_scores")}
    more = {
        "figures": figures(manifest),
        "serves": True,
        "start": 0,
        "end": 9,
        "examples": 7,
        "holdout_examples": 90,
    }
    return given | more | {"seconds": 1.5, "created_ms": 1_600_000_000_000} | fields


def test_a_model_is_judged_by_its_own_figures_task_by_task() -> None:
    assert figures(GNN) == ["holdout_recall_at_20", "holdout_ndcg_at_20", "holdout_tactics_macro_f1"]
    assert figures(Manifest(model="m", version="v", trigger="t", reason="volume")) == []


def test_versions_are_shown_with_their_figures_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    tables.versions([row(GNN)])
    head, line = capsys.readouterr().out.splitlines()[:2]
    assert re.search(r"holdout +recall@20 +NDCG@20 +tactics macro F1 +seconds", head)
    assert re.search(r"v0002 +serves +volume +0-9 +7 +90 +0\.250 -> 0\.500 +0\.400 +0\.750 +2", line)


def test_a_version_is_shown_beside_its_parent_and_its_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    tables.version(GNN, serves=False, folder="output/models/gnn-threat/v0002")
    said = capsys.readouterr().out
    assert re.search(r"on the holdout +this version +parent +item cosine", said)
    assert re.search(r"recall@20 +0\.5 +0\.25 +0\.2\b", said)
    assert re.search(r"loss +1\.25", said)
    assert "aa, cc" in said


def test_a_measured_age_is_said_in_days_and_a_number_as_it_is() -> None:
    assert tables.against("staleness", 39_920_000.0, 38_880_000.0) == "staleness 462 of 450 days"
    assert tables.against("drift", 0.2591, 0.25) == "drift 0.2591 of 0.25"
    assert tables.against("volume", 3000.0, 1500.0) == "volume 3000 of 1500"
