"""Tactics of sentences: trained on ATT&CK 15.1, tested on what 17.1 says that 15.1 did not.

    new          procedure sentences of 17.1 whose text is not in 15.1
    held out     a fifth of the techniques, by the hash of their id: nothing of them is trained on; tested on
                 everything that 17.1 says of them

A tenth of the training side, the holdout of the stream, is trained on by nobody: the thresholds are fitted on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from benchmarks.rows import Row, Setup
from benchmarks.tasks.material import Told, base, linear, predicted, release, train, unseen, workplace
from schemas.journal import key_hash
from trainers.core.dataset import split
from trainers.core.metrics.classification import Scores
from trainers.models.distilbert.config import DistilbertConfig

CONFIG = DistilbertConfig(
    epochs=2, batch_size=32, pieces=4, max_examples=100_000, eval_steps=100_000, save_steps=100_000
)
"""Of a training on everything at once; the defaults are those of the stream's windows."""
HELD_OUT_PER_MILLE = 200

Split = tuple[str, list[Told], list[Told], dict[str, tuple[float, float]]]


def run(setup: Setup, progress: Progress) -> list[Row]:
    """Both splits; see the module."""
    before, after = release(setup, "15.1"), release(setup, "17.1")
    sentences = [one for one in after if one.example.key.startswith("relationship:")]
    seen = [one for one in before if not held_out_technique(one.technique)]
    unheard = [one for one in after if held_out_technique(one.technique)]
    splits: list[Split] = [
        ("tactics, new in 17.1", before, unseen(sentences, before),
         {"micro_f1": (0.734, 0.80), "macro_f1": (0.686, 0.75)}),
        ("tactics, techniques held out", seen, unseen(unheard, seen),
         {"micro_f1": (0.609, 0.68), "macro_f1": (0.473, 0.55)}),
    ]  # fmt: skip
    rows: list[Row] = []
    for title, trained_on, tested_on, bars in splits:
        if not setup.wants(title):
            continue
        baseline = linear(trained_on, tested_on, machine="svm")
        ours = [_one(setup, progress, title, seed, trained_on, tested_on) for seed in setup.seeds]
        rows += [
            Row(
                task=title,
                figure=figure,
                floor=floor,
                bar=bar,
                baseline=baseline.figures[figure],
                baseline_name="TF-IDF + linear SVM, balanced",
                ours=[one.figures[figure] for one in ours],
                note=f"{len(trained_on)} examples, {len(tested_on)} tested",
                details={"per_label": {label: one.f1 for label, one in ours[0].labels.items()}},
            )
            for figure, (floor, bar) in bars.items()
        ]
    return rows


def held_out_technique(technique: str) -> bool:
    """Whether a technique is one of the fifth that the second split holds out."""
    return key_hash(f"technique:{technique}") % 1000 < HELD_OUT_PER_MILLE


def _one(
    setup: Setup, progress: Progress, title: str, seed: int, trained_on: Sequence[Told], tested_on: Sequence[Told]
) -> Scores:
    with workplace(setup) as work:
        folder, config = version(setup, progress, title, seed, trained_on, Path(work))
        return predicted(folder, config, tested_on)


def version(
    setup: Setup, progress: Progress, title: str, seed: int, trained_on: Sequence[Told], work: Path
) -> tuple[Path, DistilbertConfig]:
    """A version trained on examples from the base on."""
    config = setup.configured(CONFIG, seed)
    data = split((one.example for one in trained_on), config.max_examples, seed)
    folder = work / "version"
    train(data, base(setup), config, folder, progress, f"{title}, seed {seed}")
    return folder, config
