"""ATT&CK 15.1, then the changes of 16.1, then those of 17.1, as windows, against one training on all of 17.1.

    15.1 ──> version 1 ── window 16.1 + rehearsal ──> version 2 ── window 17.1 + rehearsal ──> version 3
    17.1, all of it ──────────────────────────────────────────────> the joint version

All versions are scored on the holdout of 17.1, a tenth of the keys, which none of them was trained on. For the
forgetting matrix, the holdout is split by the release from which on an example is as it is in 17.1. Compute is
measured in tokens that are trained on: epochs times the summed length of the examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.progress import Progress

from benchmarks.rows import Row, Setup
from benchmarks.tasks import tactics
from benchmarks.tasks.material import FeedExample, base, evaluate, release, temporary_folder, train
from schemas.journal import held_out, key_hash
from schemas.recipes.distilbert import DistilbertConfig
from trainers.core.dataset import Dataset, OffsetExample, split

REHEARSAL = 1_000
WINDOW = msgspec.structs.replace(tactics.CONFIG, epochs=1, batch_size=16)
METHODS: Mapping[str, tuple[int, DistilbertConfig]] = {
    "no rehearsal": (0, WINDOW),
    "rehearsal": (REHEARSAL, WINDOW),
    "rehearsal, full learning rates": (REHEARSAL, msgspec.structs.replace(WINDOW, warm_start_lr_scale=1.0)),
    "rehearsal, distillation": (REHEARSAL, msgspec.structs.replace(WINDOW, distillation=0.5)),
}
USED = "rehearsal"
"""The method in the table. The others are run with the first seed only, for the JSON."""
RELEASES = ("15.1", "16.1", "17.1")


class MethodResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one method.

    Attributes:
        metrics: Of its last version on the whole holdout.
        tokens: Tokens that each version was trained on.
        matrix: Macro F1 of each version (row) on what came with each release (column).
    """

    metrics: dict[str, float]
    tokens: list[int]
    matrix: list[list[float]] = []


class SeedResult(msgspec.Struct, frozen=True):
    """The results of one seed: one training on everything, and method -> its result."""

    joint: MethodResult
    methods: dict[str, MethodResult]


def run(setup: Setup, progress: Progress) -> list[Row]:
    """Run the task."""
    examples = {number: release(setup, number) for number in RELEASES}
    with temporary_folder(setup) as temporary:
        runs = [_Run(setup, progress, examples, seed, Path(temporary) / str(seed)) for seed in setup.seeds]
        results = [run.measure() for run in runs]
    joint = [result.joint.metrics["macro_f1"] for result in results]
    windows = [result.methods[USED] for result in results]
    return [
        Row(
            task="incremental, 15.1 to 17.1",
            metric="loss of macro F1 against one training on everything",
            bar=0.01,
            baseline=sum(joint) / len(joint),
            baseline_name="macro F1 of one training on everything",
            ours=[whole - method.metrics["macro_f1"] for whole, method in zip(joint, windows, strict=True)],
            at_most=True,
            note=USED,
            details={str(seed): result for seed, result in zip(setup.seeds, results, strict=True)},
        ),
        Row(
            task="incremental, 15.1 to 17.1",
            metric="compute of a later window, relative to that training",
            bar=0.1,
            baseline=1.0,
            baseline_name="one training on everything",
            ours=[max(result.methods[USED].tokens[1:]) / result.joint.tokens[0] for result in results],
            at_most=True,
            note=USED,
        ),
    ]


class _Run:
    """Trains and scores all versions of one seed."""

    def __init__(
        self,
        setup: Setup,
        progress: Progress,
        examples: Mapping[str, list[FeedExample]],
        seed: int,
        folder: Path,
    ) -> None:
        self._setup, self._progress, self._examples, self._seed = setup, progress, examples, seed
        self._folder, self._base = folder, base(setup)
        self._holdout = [one for one in examples[RELEASES[-1]] if held_out(one.example)]
        self._hashes = {n: {(one.example.key, one.example.hash) for one in examples[n]} for n in RELEASES}

    def measure(self) -> SeedResult:
        """Train all versions; methods other than `USED` only with the first seed."""
        first = self._train("first", self._data(RELEASES[0]), tactics.CONFIG)
        compared = METHODS if self._seed == self._setup.seeds[0] else (USED,)
        methods = {name: self._windows(name, first) for name in compared}
        data = self._data(RELEASES[-1])
        joint = self._train("joint", data, tactics.CONFIG)
        return SeedResult(
            MethodResult(metrics=self._evaluate(joint), tokens=[_tokens(data, tactics.CONFIG)]), methods
        )

    def _windows(self, name: str, first: Path) -> MethodResult:
        """Train the versions of one method, each from the one before."""
        rehearsal, config = METHODS[name]
        parent, matrix = first, [self._matrix_row(first)]
        tokens = [_tokens(self._data(RELEASES[0]), tactics.CONFIG)]
        for before, current in pairwise(RELEASES):
            data = self._window(before, current, rehearsal)
            parent = self._train(f"{name}, {current}", data, config, parent)
            matrix.append(self._matrix_row(parent))
            tokens.append(_tokens(data, config))
        return MethodResult(metrics=self._evaluate(parent), tokens=tokens, matrix=matrix)

    def _train(self, name: str, data: Dataset, config: DistilbertConfig, parent: Path | None = None) -> Path:
        folder = self._folder / name
        config = self._setup.configured(config, self._seed)
        train(data, self._base, config, folder, self._progress, f"{name}, seed {self._seed}", parent)
        return folder

    def _data(self, number: str) -> Dataset:
        return split((one.example for one in self._examples[number]), tactics.CONFIG.max_examples, self._seed)

    def _window(self, before: str, current: str, rehearsal: int) -> Dataset:
        """What a release changed, and a sample of the unchanged examples, balanced over the labels."""
        known = {one.example.key: one.example.hash for one in self._examples[before]}
        data = self._data(current)
        changed = [entry for entry in data.fresh if known.get(entry[1].key) != entry[1].hash]
        unchanged = [entry for entry in data.fresh if known.get(entry[1].key) == entry[1].hash]
        rehearsed = _balanced_sample(unchanged, rehearsal, self._seed)
        return msgspec.structs.replace(data, fresh=tuple(changed), rehearsal=rehearsed)

    def _evaluate(self, folder: Path) -> dict[str, float]:
        return evaluate(folder, self._setup.configured(tactics.CONFIG, self._seed), self._holdout).metrics

    def _matrix_row(self, folder: Path) -> list[float]:
        """Macro F1 on what came with each release."""
        config = self._setup.configured(tactics.CONFIG, self._seed)
        groups = [[one for one in self._holdout if self._came_with(one) == number] for number in RELEASES]
        return [evaluate(folder, config, group).metrics["macro_f1"] for group in groups]

    def _came_with(self, one: FeedExample) -> str:
        """The first release from which on an example is as it is in the last."""
        came_with = RELEASES[-1]
        for number in reversed(RELEASES[:-1]):
            if (one.example.key, one.example.hash) not in self._hashes[number]:
                break
            came_with = number
        return came_with


def _balanced_sample(examples: Sequence[OffsetExample], count: int, seed: int) -> tuple[OffsetExample, ...]:
    """A seeded sample that takes one example of each first label in turn, like the rehearsal of the fold."""
    strata: dict[str, list[OffsetExample]] = {}
    for entry in sorted(examples, key=lambda entry: key_hash(f"{seed}:{entry[1].key}")):
        strata.setdefault(entry[1].labels[0], []).append(entry)
    chosen: list[OffsetExample] = []
    while len(chosen) < count and any(strata.values()):
        chosen += [strata[label].pop() for label in sorted(strata) if strata[label]]
    return tuple(sorted(chosen[:count]))


def _tokens(data: Dataset, config: DistilbertConfig) -> int:
    """Words are counted in place of tokens; the error cancels out in a ratio."""
    words = (min(len(example.text.split()), config.max_tokens * config.pieces) for _, example in data.train)
    return config.epochs * sum(words)
