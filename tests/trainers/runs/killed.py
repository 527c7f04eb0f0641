"""What `test_killed` forks: a trainer that answers a trigger or scores, and kills itself at a given point."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.codec import encode
from schemas.journal import Record
from tests.trainers.runs.test_scoring import Trainer, in_this_process
from tests.trainers.runs.test_scoring import journal as journal_with_new_examples
from tests.trainers.runs.test_trigger_handler import World, sequence
from tests.trainers.samples import MemoryLog, Record_, examples
from trainers.bases.resolve import resolve
from trainers.core.phases import Phases
from trainers.core.progress import ProgressCallback, RunProgress, no_progress
from trainers.runs import failures
from trainers.runs.execute_scores import ScoreRequest
from trainers.store.registry import Registry

MODULES = (
    __name__,
    "trainers.models.distilbert.recipe",
    "trainers.models.distilbert.score",
    "trainers.reporting.plots",
)
"""What the server of the forks imports."""
EXAMPLES = 150
TRAINING = "training"
"""A point in the middle of the training; the other points are phases, or methods of the registry."""


class FileLog(MemoryLog):
    """A log that is there after its process was killed.

    Args:
        path: Its file, one record a line.
        records: What a new one has.
    """

    def __init__(self, path: Path, records: list[Any]) -> None:
        self._file = path
        is_new = not path.exists()
        super().__init__([])
        if not is_new:
            values = path.read_bytes().splitlines()
            self.messages = [Record_(offset, self.timestamp, value) for offset, value in enumerate(values)]
        else:
            self.append(*records)

    def append(self, *records: Record) -> None:
        super().append(*records)
        with self._file.open("ab") as file:
            file.writelines(encode(record) + b"\n" for record in records)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_before(owner: type, name: str, at: Callable[..., bool] = lambda *_: True) -> None:
    """Kill this process when a method is called, with certain arguments or any."""
    method = getattr(owner, name)

    def dying(self: Any, *arguments: Any) -> Any:
        if at(*arguments):
            _die()
        return method(self, *arguments)

    setattr(owner, name, dying)


def world_of(folder: str, cache: str) -> World:
    """The trainer of a folder, with what it has written so far."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    world = World(path, resolve("tiny", Path(cache)), [])
    world.journal = FileLog(path / "journal.jsonl", examples(EXAMPLES))
    world.announcements = FileLog(path / "versions.jsonl", [])
    return world


def answer(folder: str, cache: str, number: int, point: str = "") -> None:
    """Answer the first or second trigger; killed where a phase begins, or before a method of the registry."""
    failures.RETRY_PAUSES_S = (0.0,)
    on_progress: ProgressCallback = no_progress
    if point == TRAINING:

        def on_progress(progress: RunProgress) -> None:
            if progress.phase == "training" and 2 * progress.step > progress.steps:
                _die()

    elif hasattr(Registry, point):
        _killed_before(Registry, point)
    elif point:
        _killed_before(Phases, "start", lambda phase: phase == point)
    world_of(folder, cache).answer(sequence(examples(EXAMPLES))[number], on_progress=on_progress, save_steps=5)


def scorer_of(folder: str, models: str) -> Trainer:
    """A trainer that scores, with what it has written so far."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(Path(models), path, [])
    trainer.log = FileLog(path / "journal.jsonl", journal_with_new_examples())
    return trainer


def score(folder: str, models: str, after: int = 0) -> None:
    """Score what is new; killed when so many examples of a request are scored, if not 0."""

    def run(request: ScoreRequest, on_progress: ProgressCallback, on_scored: Any) -> None:
        def counted(progress: RunProgress) -> None:
            if progress.step == after:
                _die()
            on_progress(progress)

        in_this_process(request, counted, on_scored)

    scorer_of(folder, models).score(run=run)
