"""Names from feeds are text in pictures and cards, whatever they look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.scores import LabelScores, TaskScores
from schemas.versions import Manifest
from trainers.core.phases import Phases
from trainers.core.progress import Cancelled
from trainers.models.gnn.embedding_plot import plot_embeddings
from trainers.reporting.card import card
from trainers.reporting.plots import picture
from trainers.reporting.precision_recall import Panel, save_precision_recall

HOSTILE = (r"$\x$", "_hidden", "a|b", "<img src=x>", "\x1b[2J", "ラベル", r"\frac{", "n" * 3_000)


def test_hostile_labels_are_drawn(tmp_path: Path) -> None:
    truth = np.eye(len(HOSTILE), dtype=np.bool_)
    save_precision_recall([Panel("tactics", HOSTILE, truth * 0.5, truth)], tmp_path)
    tactics = [[label] for label in HOSTILE]
    plot_embeddings(np.eye(len(HOSTILE), dtype=np.float32), HOSTILE, tactics, tmp_path)
    assert (tmp_path / "precision_recall.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "embeddings.png").read_bytes().startswith(b"\x89PNG")


def test_hostile_labels_are_text_in_a_card() -> None:
    labels = {label: LabelScores(0.5, 0.5, 0.5, 4) for label in HOSTILE}
    splits = {split: TaskScores(4, {"macro_f1": 0.5}, labels) for split in ("old", "recent", "holdout")}
    manifest = Manifest(
        model="m", version="v0001", trigger="t@1", reason="volume", evaluation={"tactics": splits}, labels=HOSTILE
    )
    said = card(manifest, "text-classification", "")
    assert r"| a\|b | 0.500 |" in said
    assert r"| \$\\x\$ | 0.500 |" in said
    assert "<img" not in said.replace(r"\<img", "")
    assert "\x1b" not in said


def test_a_picture_that_fails_is_left_out_and_the_run_goes_on(tmp_path: Path) -> None:
    phases = Phases()
    with phases.optional("draw", "a.png"), picture(tmp_path / "a.png"):
        raise ValueError("no font")
    with phases.optional("draw", "b.png"), picture(tmp_path / "missing" / "b.png"):
        pass
    assert list(phases.left_out) == ["a.png", "b.png"]
    assert phases.left_out["a.png"] == "ValueError: no font"
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_run_ends_also_while_it_draws() -> None:
    with pytest.raises(Cancelled), Phases().optional("draw", "a.png"):
        raise Cancelled
