"""Tactics of sentences: trained on ATT&CK 15.1, tested on what is new in 17.1.

    new          procedure sentences of 17.1 whose text is not in 15.1
    held out     a fifth of the techniques, by the hash of their id, is excluded from training; the test set is all
                 texts of 17.1 about them

A tenth of the training examples, the holdout of the stream, is not trained on: the thresholds are fitted on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from benchmarks.rows import Row, Setup
from benchmarks.tasks.material import (
    FeedExample,
    base,
    evaluate,
    linear,
    release,
    temporary_folder,
    train,
    unseen,
)
from schemas.journal import key_hash
from schemas.recipes.distilbert import DistilbertConfig
from schemas.scores import TaskScores
from trainers.core.dataset import split

CONFIG = DistilbertConfig(
    epochs=2, batch_size=32, pieces=4, max_examples=100_000, eval_steps=100_000, save_steps=100_000
)
"""For training on everything at once; the defaults of the recipe suit the windows of the stream."""
HELD_OUT_PER_MILLE = 200

Split = tuple[str, list[FeedExample], list[FeedExample], dict[str, tuple[float, float]]]
"""Title, training examples, test examples, metric -> the initial baseline and the bar."""


def run(setup: Setup, progress: Progress) -> list[Row]:
    """Run both splits."""
    before, after = release(setup, "15.1"), release(setup, "17.1")
    sentences = [one for one in after if one.example.key.startswith("relationship:")]
    kept = [one for one in before if not held_out_technique(one.technique)]
    about_held_out = [one for one in after if held_out_technique(one.technique)]
    splits: list[Split] = [
        ("tactics, new in 17.1", before, unseen(sentences, before),
         {"micro_f1": (0.734, 0.80), "macro_f1": (0.686, 0.75)}),
        ("tactics, techniques held out", kept, unseen(about_held_out, kept),
         {"micro_f1": (0.609, 0.68), "macro_f1": (0.473, 0.55)}),
    ]  # fmt: skip
    rows: list[Row] = []
    for title, training, test, bars in splits:
        if not setup.wants(title):
            continue
        baseline = linear(training, test, classifier="svm")
        ours = [_evaluate_seed(setup, progress, title, seed, training, test) for seed in setup.seeds]
        rows += [
            Row(
                task=title,
                metric=metric,
                initial_baseline=initial,
                bar=bar,
                baseline=baseline.metrics[metric],
                baseline_name="TF-IDF + linear SVM, balanced",
                ours=[scores.metrics[metric] for scores in ours],
                note=f"{len(training)} examples, {len(test)} in the test set",
                details={"per_label": {label: scores.f1 for label, scores in ours[0].labels.items()}},
            )
            for metric, (initial, bar) in bars.items()
        ]
    return rows


def held_out_technique(technique: str) -> bool:
    """Whether the second split excludes a technique from training."""
    return key_hash(f"technique:{technique}") % 1000 < HELD_OUT_PER_MILLE


def _evaluate_seed(
    setup: Setup,
    progress: Progress,
    title: str,
    seed: int,
    training: Sequence[FeedExample],
    test: Sequence[FeedExample],
) -> TaskScores:
    with temporary_folder(setup) as temporary:
        folder, config = train_version(setup, progress, title, seed, training, Path(temporary))
        return evaluate(folder, config, test)


def train_version(
    setup: Setup, progress: Progress, title: str, seed: int, training: Sequence[FeedExample], folder: Path
) -> tuple[Path, DistilbertConfig]:
    """Train a first version in `folder / "version"`. Returns its folder and its configuration."""
    config = setup.configured(CONFIG, seed)
    data = split((one.example for one in training), config.max_examples, seed)
    version = folder / "version"
    train(data, base(setup), config, version, progress, f"{title}, seed {seed}")
    return version, config
