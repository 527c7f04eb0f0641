"""Severity of Nuclei templates from name, description and tags; a fifth of them, by hash of the id, is tested."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from benchmarks.rows import Row, Setup
from benchmarks.tasks.material import base, linear, predicted, templates, train, workplace
from schemas.journal import key_hash
from trainers.core.dataset import Dataset
from trainers.core.metrics.classification import Scores
from trainers.models.distilbert.config import DistilbertConfig

CONFIG = DistilbertConfig(
    epochs=3, batch_size=32, max_tokens=96, pieces=1, max_examples=100_000, eval_steps=100_000, save_steps=100_000
)
TESTED_PER_MILLE = 200
BARS = {"micro_f1": ("accuracy", 0.824, 0.85), "macro_f1": ("macro_f1", 0.735, 0.77)}


def run(setup: Setup, progress: Progress) -> list[Row]:
    """See the module."""
    told = templates(setup)
    tested_on = [one for one in told if key_hash(one.example.key) % 1000 < TESTED_PER_MILLE]
    trained_on = [one for one in told if key_hash(one.example.key) % 1000 >= TESTED_PER_MILLE]
    data = Dataset(fresh=tuple((number, one.example) for number, one in enumerate(trained_on)))
    baseline = linear(trained_on, tested_on, machine="regression")
    ours: list[Scores] = []
    for seed in setup.seeds:
        with workplace(setup) as work:
            config = setup.configured(CONFIG, seed)
            train(data, base(setup), config, Path(work) / "version", progress, f"severity, seed {seed}")
            ours.append(predicted(Path(work) / "version", config, tested_on))
    return [
        Row(
            task="severity of templates",
            figure=name,
            floor=floor,
            bar=bar,
            baseline=baseline.figures[figure],
            baseline_name="TF-IDF + logistic regression",
            ours=[one.figures[figure] for one in ours],
            note=f"{len(trained_on)} examples, {len(tested_on)} tested",
            details={"per_label": {label: one.f1 for label, one in ours[0].labels.items()}},
        )
        for figure, (name, floor, bar) in BARS.items()
    ]
