"""The tables of versions: the metrics of every task, compared with the parent and the baseline."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from schemas.scores import LabelScores, TaskScores
from schemas.versions import GateCheck, Manifest, PhaseTime
from sx9_ml_models import render
from sx9_ml_models.queries import versions
from trainers.settings import load_trainer_settings
from trainers.store import manifest as manifests
from trainers.store.registry import Registry

GNN = Manifest(
    model="gnn-threat", version="v0002", parent="v0001", trigger="gnn-threat@9", reason="volume", promoted=True,
    evaluation={
        "techniques": {
            "old": TaskScores(30, {"recall_at_20": 0.3, "ndcg_at_20": 0.2}),
            "holdout": TaskScores(60, {"recall_at_20": 0.5, "ndcg_at_20": 0.4}, extra={"loss": 1.25}),
        },
        "tactics": {"holdout": TaskScores(30, {"macro_f1": 0.75}, {"impact": LabelScores(1.0, 0.5, 0.667, 4)})},
    },
    parent_evaluation={"techniques": {"holdout": TaskScores(60, {"recall_at_20": 0.25})}},
    baselines={"item cosine": {"techniques": {"holdout": TaskScores(60, {"recall_at_20": 0.2})}}},
    gate=(GateCheck("techniques/old/recall_at_20", 0.2, 0.3, 0.0, 30, True),),
    phases={"fit": PhaseTime(61.25, 118.0), "draw": PhaseTime(1.5, 1.5)},
    files={"model.safetensors": "aa", "README.md": "bb", "embeddings.safetensors": "cc"},
)  # fmt: skip


def test_versions_are_shown_with_the_metrics_of_every_task_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(tmp_path / "models")
    with registry.draft(GNN.model, GNN.version) as folder:
        manifests.write(folder, msgspec.structs.replace(GNN, files={}))
    render.versions(versions(load_trainer_settings(output_dir=tmp_path), GNN.model))
    head, line = capsys.readouterr().out.splitlines()[:2]
    assert re.search(r"holdout +recall@20 +NDCG@20 +tactics macro F1 +seconds", head)
    assert re.search(r"v0002 +promoted +volume +0-0 +0 +90 +0\.250 -> 0\.500 +0\.400 +0\.750 +0", line)


def test_versions_written_before_scores_were_nested_are_shown_the_same(tmp_path: Path) -> None:
    former = Manifest(
        model="distilbert-mitre", version="v0001", trigger="t", reason="volume",
        scores={"holdout_macro_f1": 0.5, "holdout_examples": 9.0, "holdout_severity_micro_f1": 0.25},
        parent_scores={"holdout_macro_f1": 0.4},
    )  # fmt: skip
    registry = Registry(tmp_path / "models")
    with registry.draft(former.model, former.version) as folder:
        manifests.write(folder, former)
    (row,) = versions(load_trainer_settings(output_dir=tmp_path), former.model)
    assert row["evaluation"]["tactics"]["holdout"] == {"examples": 9, "metrics": {"macro_f1": 0.5}}
    assert row["evaluation"]["severity"]["holdout"]["metrics"] == {"micro_f1": 0.25}
    assert row["parent_evaluation"]["tactics"]["holdout"]["metrics"] == {"macro_f1": 0.4}


def test_a_version_is_compared_with_its_parent_and_its_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    render.version(GNN, serves=False, folder="output/models/gnn-threat/v0002")
    said = capsys.readouterr().out
    assert re.search(r"on the holdout +this version +parent +item cosine", said)
    assert re.search(r"recall@20 +0\.5 +0\.25 +0\.2\b", said)
    assert re.search(r"loss +1\.25", said)
    assert "aa, cc" in said
    assert "fit 61.2 s, draw 1.5 s" in said


def test_a_measured_age_is_shown_in_days_and_other_values_as_they_are() -> None:
    assert render.describe_measure("staleness", 39_920_000.0, 38_880_000.0) == "staleness 462 of 450 days"
    assert render.describe_measure("drift", 0.2591, 0.25) == "drift 0.2591 of 0.25"
    assert render.describe_measure("volume", 3000.0, 1500.0) == "volume 3000 of 1500"
