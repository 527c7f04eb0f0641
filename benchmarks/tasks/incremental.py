"""ATT&CK 15.1, then what 16.1 changed, then what 17.1 changed, as windows; beside one training on all of 17.1.

    15.1 ──> version 1 ── window 16.1 + rehearsal ──> version 2 ── window 17.1 + rehearsal ──> version 3
    17.1, all of it ──────────────────────────────────────────────> the joint version

All are judged on the holdout of 17.1, a tenth of the keys, which none of them saw; for the forgetting matrix it is
parted by the release in which an example came to be what it is in 17.1. Compute is counted in tokens that are
trained on: epochs times examples times their length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.progress import Progress

from benchmarks.rows import Row, Setup
from benchmarks.tasks import tactics
from benchmarks.tasks.material import Told, base, predicted, release, train, workplace
from schemas.journal import held_out, key_hash
from trainers.core.dataset import Dataset, OffsetExample, split
from trainers.models.distilbert.config import DistilbertConfig

REHEARSAL = 1_000
WINDOW = msgspec.structs.replace(tactics.CONFIG, epochs=1, batch_size=16)
METHODS: Mapping[str, tuple[int, DistilbertConfig]] = {
    "nothing rehearsed": (0, WINDOW),
    "rehearsal": (REHEARSAL, WINDOW),
    "rehearsal, full rates": (REHEARSAL, msgspec.structs.replace(WINDOW, warm_start_lr_scale=1.0)),
    "rehearsal, distillation": (REHEARSAL, msgspec.structs.replace(WINDOW, distillation=0.5)),
}
USED = "rehearsal"
"""What the table shows; the others are measured with the first seed, and are in the JSON."""
RELEASES = ("15.1", "16.1", "17.1")


def run(setup: Setup, progress: Progress) -> list[Row]:
    """See the module."""
    told = {number: release(setup, number) for number in RELEASES}
    with workplace(setup) as work:
        runs = [_Run(setup, progress, told, seed, Path(work) / str(seed)) for seed in setup.seeds]
        found = [one.measure() for one in runs]
    joint = [one["joint"]["macro_f1"] for one in found]
    ours = [one["methods"][USED] for one in found]
    details = {str(seed): one for seed, one in zip(setup.seeds, found, strict=True)}
    return [
        Row(
            task="incremental, 15.1 to 17.1",
            figure="macro F1 below one training on everything",
            bar=0.01,
            baseline=sum(joint) / len(joint),
            baseline_name="macro F1 of one training on everything",
            ours=[whole - one["macro_f1"] for whole, one in zip(joint, ours, strict=True)],
            at_most=True,
            note=USED,
            details=details,
        ),
        Row(
            task="incremental, 15.1 to 17.1",
            figure="compute of a later window, share of that",
            bar=0.1,
            baseline=1.0,
            baseline_name="one training on everything",
            ours=[
                max(one["tokens"][1:]) / whole["joint"]["tokens"] for whole, one in zip(found, ours, strict=True)
            ],
            at_most=True,
            note=USED,
        ),
    ]


class _Run:
    """All versions of one seed."""

    def __init__(
        self, setup: Setup, progress: Progress, told: Mapping[str, list[Told]], seed: int, work: Path
    ) -> None:
        self._setup, self._progress, self._told, self._seed, self._work = setup, progress, told, seed, work
        self._base = base(setup)
        self._holdout = [one for one in told[RELEASES[-1]] if held_out(one.example)]
        self._hashes = {n: {(one.example.key, one.example.hash) for one in told[n]} for n in RELEASES}

    def measure(self) -> dict[str, dict[str, object]]:
        first = self._train("first", self._data(RELEASES[0]), tactics.CONFIG)
        compared = METHODS if self._seed == self._setup.seeds[0] else (USED,)
        methods = {name: self._windows(name, first) for name in compared}
        joint = self._train("joint", self._data(RELEASES[-1]), tactics.CONFIG)
        return {"joint": self._judged(joint) | {"tokens": _tokens(self._data(RELEASES[-1]), tactics.CONFIG)},
                "methods": methods}  # fmt: skip

    def _windows(self, name: str, first: Path) -> dict[str, object]:
        """The versions of one method, each from the one before."""
        rehearsal, config = METHODS[name]
        parent, matrix = first, [self._matrix_row(first)]
        tokens = [_tokens(self._data(RELEASES[0]), tactics.CONFIG)]
        for before, now in pairwise(RELEASES):
            data = self._window(before, now, rehearsal)
            parent = self._train(f"{name}, {now}", data, config, parent)
            matrix.append(self._matrix_row(parent))
            tokens.append(_tokens(data, config))
        return self._judged(parent) | {"matrix": matrix, "tokens": tokens}

    def _train(self, name: str, data: Dataset, config: DistilbertConfig, parent: Path | None = None) -> Path:
        folder = self._work / name
        config = self._setup.configured(config, self._seed)
        train(data, self._base, config, folder, self._progress, f"{name}, seed {self._seed}", parent)
        return folder

    def _data(self, number: str) -> Dataset:
        return split((one.example for one in self._told[number]), tactics.CONFIG.max_examples, self._seed)

    def _window(self, before: str, now: str, rehearsal: int) -> Dataset:
        """What a release changed, and a sample of what stands from before, spread over the labels."""
        known = {one.example.key: one.example.hash for one in self._told[before]}
        whole = self._data(now)
        changed = [at for at in whole.fresh if known.get(at[1].key) != at[1].hash]
        stands = [at for at in whole.fresh if known.get(at[1].key) == at[1].hash]
        return msgspec.structs.replace(
            whole, fresh=tuple(changed), rehearsal=_spread(stands, rehearsal, self._seed)
        )  # fmt: skip

    def _judged(self, folder: Path) -> dict[str, float]:
        return dict(predicted(folder, self._setup.configured(tactics.CONFIG, self._seed), self._holdout).figures)

    def _matrix_row(self, folder: Path) -> list[float]:
        """Macro F1 on what came with each release."""
        config = self._setup.configured(tactics.CONFIG, self._seed)
        groups = [[one for one in self._holdout if self._came_with(one) == number] for number in RELEASES]
        return [predicted(folder, config, group).figures["macro_f1"] for group in groups]

    def _came_with(self, one: Told) -> str:
        """The first release from which on an example is as it is in the last."""
        came = RELEASES[-1]
        for number in reversed(RELEASES[:-1]):
            if (one.example.key, one.example.hash) not in self._hashes[number]:
                break
            came = number
        return came


def _spread(stands: Sequence[OffsetExample], count: int, seed: int) -> tuple[OffsetExample, ...]:
    """A seeded sample that goes round the first labels, as the fold's rehearsal does."""
    strata: dict[str, list[OffsetExample]] = {}
    for at in sorted(stands, key=lambda at: key_hash(f"{seed}:{at[1].key}")):
        strata.setdefault(at[1].labels[0], []).append(at)
    chosen: list[OffsetExample] = []
    while len(chosen) < count and any(strata.values()):
        chosen += [strata[label].pop() for label in sorted(strata) if strata[label]]
    return tuple(sorted(chosen[:count]))


def _tokens(data: Dataset, config: DistilbertConfig) -> int:
    """Words stand for tokens: both sides of a ratio are counted so."""
    words = (min(len(example.text.split()), config.max_tokens * config.pieces) for _, example in data.train)
    return config.epochs * sum(words)
