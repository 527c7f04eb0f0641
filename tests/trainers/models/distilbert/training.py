"""Training runs of a tiny `distilbert-mitre`, and what tests read from their folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from schemas.journal import Example
from schemas.recipes.distilbert import DistilbertConfig
from tests.trainers.samples import LABELS, held_out
from trainers.bases.resolve import Base
from trainers.core.dataset import Dataset
from trainers.core.progress import ProgressCallback, no_progress
from trainers.core.report import Report
from trainers.models.distilbert.recipe import run

TINY = DistilbertConfig(
    epochs=6,
    batch_size=8,
    learning_rate=4e-3,
    head_learning_rate=5e-3,
    max_tokens=32,
    frozen_layers=0,
    dropout=0.05,
    threads=1,
)


def tiny_config(**fields: object) -> DistilbertConfig:
    """`TINY` with other values."""
    return msgspec.structs.replace(TINY, **fields)


def data_of(journal: Sequence[Example]) -> Dataset:
    """All of a journal as fresh examples and recent holdout."""
    examples = list(enumerate(journal))
    return Dataset(
        fresh=tuple(one for one in examples if not held_out(one[1])),
        recent=tuple(one for one in examples if held_out(one[1])),
    )


def train(
    folder: Path,
    base: Base,
    journal: Sequence[Example],
    *,
    labels: tuple[str, ...] = LABELS,
    parent: Path | None = None,
    config: DistilbertConfig = TINY,
    on_progress: ProgressCallback = no_progress,
) -> Report:
    """Train a version in a new folder."""
    folder.mkdir()
    return run(data_of(journal), labels, base.folder, parent, config, folder, on_progress)


def digest(folder: Path) -> dict[str, str]:
    """File name -> sha256."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
