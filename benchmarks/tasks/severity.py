"""Severity of Nuclei templates from name, description and tags; the test set is a fifth of them, by hash of id."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from benchmarks.rows import Row, Setup
from benchmarks.tasks.material import base, evaluate, linear, templates, temporary_folder, train
from schemas.journal import key_hash
from schemas.recipes.distilbert import DistilbertConfig
from schemas.scores import TaskScores
from trainers.core.dataset import Dataset

CONFIG = DistilbertConfig(
    epochs=3, batch_size=32, max_tokens=96, pieces=1, max_examples=100_000, eval_steps=100_000, save_steps=100_000
)
TEST_PER_MILLE = 200
BARS = {  # metric -> its name here, the initial baseline, the bar
    "micro_f1": ("accuracy", 0.824, 0.85),
    "macro_f1": ("macro_f1", 0.735, 0.77),
}


def run(setup: Setup, progress: Progress) -> list[Row]:
    """Run the task."""
    examples = templates(setup)
    test = [one for one in examples if key_hash(one.example.key) % 1000 < TEST_PER_MILLE]
    training = [one for one in examples if key_hash(one.example.key) % 1000 >= TEST_PER_MILLE]
    data = Dataset(fresh=tuple((number, one.example) for number, one in enumerate(training)))
    baseline = linear(training, test, classifier="regression")
    ours: list[TaskScores] = []
    for seed in setup.seeds:
        with temporary_folder(setup) as temporary:
            config = setup.configured(CONFIG, seed)
            train(data, base(setup), config, Path(temporary) / "version", progress, f"severity, seed {seed}")
            ours.append(evaluate(Path(temporary) / "version", config, test))
    return [
        Row(
            task="severity of templates",
            metric=name,
            initial_baseline=initial,
            bar=bar,
            baseline=baseline.metrics[metric],
            baseline_name="TF-IDF + logistic regression",
            ours=[scores.metrics[metric] for scores in ours],
            note=f"{len(training)} examples, {len(test)} in the test set",
            details={"per_label": {label: scores.f1 for label, scores in ours[0].labels.items()}},
        )
        for metric, (name, initial, bar) in BARS.items()
    ]
