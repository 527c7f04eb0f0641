"""The champion scores each new example once, before anyone trains on it, whatever dies in between."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from schemas.codec import decode
from schemas.journal import Example, ExampleScore, PolicyChange, Promoted, Record, Score
from schemas.models import model_spec
from schemas.topics import JOURNAL, partition_of
from streams.core.fold import State, fold
from tests.trainers.runs.test_consumer import PARTITION, Shell
from tests.trainers.runs.test_trigger_handler import World
from tests.trainers.samples import (
    MODEL,
    Killed,
    MemoryLog,
    MemoryProducer,
    example,
    examples,
    held_out,
    trigger,
)
from trainers import telemetry
from trainers.bases.resolve import Base
from trainers.core.progress import Cancelled, ProgressCallback, RunProgress, no_progress
from trainers.runs.consumer import _score_while_polling
from trainers.runs.execute_scores import ScoreRequest, execute
from trainers.runs.scoring import Run, Scoring
from trainers.settings import load_trainer_settings
from trainers.store.journal_copy import JournalCopy
from trainers.store.registry import Registry
from transport.health import Health

OLD, NEW = 200, 100
POLICY = msgspec.structs.replace(model_spec(MODEL).policy, score_every=1)


@pytest.fixture(scope="module")
def models(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose champion v0001 was trained on the first examples."""
    world = World(tmp_path_factory.mktemp("champion"), tiny, examples(OLD))
    world.answer(trigger(examples(OLD), 0, OLD), epochs=2)
    world.registry.promote(MODEL, "v0001")
    return world.registry.root


def journal(policy: Any = POLICY) -> list[Record]:
    """What the champion was trained on, its promotion, and new examples after it."""
    promoted = Promoted(trigger=f"{MODEL}@{OLD - 1}", version="v0001", time_ms=0)
    return [*examples(OLD), PolicyChange(policy), promoted, *examples(NEW, first=OLD)]


def in_this_process(request: ScoreRequest, on_progress: ProgressCallback, on_scored: Any) -> None:
    """The work of the process, in this one."""
    execute(request, on_progress, on_scored)


class Trainer:
    """A journal in memory; every `score()` is a trainer that starts."""

    def __init__(self, models: Path, path: Path, records: list[Record]) -> None:
        self.models, self.path, self.log = models, path, MemoryLog(records)

    @contextlib.contextmanager
    def scoring(self, dies_at: int = -1, run: Run = in_this_process) -> Iterator[Scoring]:
        settings = load_trainer_settings(output_dir=self.models.parent, state_dir=self.path, score_interval_s=1e-6)
        copy = JournalCopy(self.path / "journal.sqlite", self.log)
        producer: Any = MemoryProducer({JOURNAL.name: self.log}, dies_at)
        with contextlib.closing(copy):
            yield Scoring(MODEL, settings, Registry(self.models), copy, producer, run)

    def score(self, dies_at: int = -1, *, end: int | None = None, run: Run = in_this_process) -> None:
        with self.scoring(dies_at, run) as scoring:
            scoring.score(no_progress, end)

    def records(self) -> list[Record]:
        return [decode(message.value, Record) for message in self.log.messages]

    def scored(self, *, reference: bool = False) -> list[ExampleScore]:
        found = [r for r in self.records() if isinstance(r, Score) and r.reference is reference]
        return [each for record in found for each in record.each]


@pytest.fixture
def trainer(models: Path, tmp_path: Path) -> Trainer:
    return Trainer(models, tmp_path, journal())


@pytest.fixture(scope="module")
def undisturbed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """One that has scored everything."""
    made = Trainer(models, tmp_path_factory.mktemp("undisturbed"), journal())
    made.score()
    return made


def test_the_holdout_and_then_each_new_example_are_scored_once(trainer: Trainer) -> None:
    trainer.score()
    trainer.score()
    new = [at for at, r in enumerate(trainer.records()) if isinstance(r, Example) and at >= OLD]
    assert [each.offset for each in trainer.scored()] == new
    old = [at for at, r in enumerate(examples(OLD)) if held_out(r)]
    assert [each.offset for each in trainer.scored(reference=True)] == old
    first = next(r for r in trainer.records() if isinstance(r, Score))
    assert (first.reference, first.version, first.examples) == (True, "v0001", len(first.each))
    assert all(each.losses.keys() == {"tactics"} and len(each.projection) == 8 for each in trainer.scored())


def test_the_fold_takes_the_scores(undisturbed: Trainer) -> None:
    state, _ = fold(State(model=MODEL, champion="v0001"), list(enumerate(undisturbed.records()))[OLD + 2 :])
    assert state.prequential.performance.support == NEW
    assert state.prequential.performance.learnt == len(undisturbed.scored(reference=True))


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_after_a_kill_at_any_record_the_scores_are_those_of_an_undisturbed_trainer(
    trainer: Trainer, undisturbed: Trainer, dies_at: int
) -> None:
    with pytest.raises(Killed):
        trainer.score(dies_at)
    trainer.score()
    for reference in (True, False):
        assert trainer.scored(reference=reference) == undisturbed.scored(reference=reference)


def test_an_example_has_the_same_score_whatever_else_is_scored(
    models: Path, tmp_path: Path, undisturbed: Trainer
) -> None:
    alone = Trainer(models, tmp_path / "alone", [*journal()[: OLD + 2], journal()[-1]])
    alone.score()
    (found,) = alone.scored()
    assert msgspec.structs.replace(found, offset=0) == msgspec.structs.replace(undisturbed.scored()[-1], offset=0)


def test_before_a_run_only_what_it_trains_on_is_scored(trainer: Trainer) -> None:
    trainer.score(end=OLD + 50)
    assert max(each.offset for each in trainer.scored()) == OLD + 49
    trainer.score()
    assert len(trainer.scored()) == NEW


@pytest.mark.parametrize(("every", "least", "most"), [(0, 0, 0), (4, 10, 45)])
def test_the_policy_says_how_many_are_scored(
    models: Path, tmp_path: Path, every: int, least: int, most: int
) -> None:
    some = Trainer(models, tmp_path, journal(msgspec.structs.replace(POLICY, score_every=every)))
    some.score()
    assert least <= len(some.scored()) <= most


def test_a_retraction_and_an_example_without_known_labels_do_not_stop_it(models: Path, tmp_path: Path) -> None:
    strange = [example(900, ["execution"], retracted=True), example(901, ["no-such-label"]), example(902, [])]
    some = Trainer(models, tmp_path, [*journal()[: OLD + 2], *strange])
    some.score()
    assert [each.losses for each in some.scored()][1:] == [{}]
    assert some.scored()[0].losses["tactics"] > 1.0


def test_it_is_due_when_nothing_more_comes(trainer: Trainer) -> None:
    with trainer.scoring() as scoring:
        assert (scoring.is_due(), scoring.is_due()) == (False, True)
        trainer.log.append(example(5_000, ["execution"]))
        assert (scoring.is_due(), scoring.is_due()) == (False, True)
        scoring.score(no_progress)
        assert (scoring.is_due(), scoring.is_due()) == (False, False)


def test_a_failure_is_counted_and_logged_and_stops_nothing(
    trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    counter = telemetry.SCORING_FAILURES.labels(model=MODEL, error="OSError")
    before = counter._value.get()
    trainer.score(run=fails)
    assert counter._value.get() == before + 1
    assert "No space left on device" in caplog.text
    assert trainer.scored() == []


def test_it_ends_at_once_when_it_is_cancelled(trainer: Trainer) -> None:
    def cancel(progress: RunProgress) -> None:
        if progress.step == 100:
            raise Cancelled

    with trainer.scoring() as scoring, pytest.raises(Cancelled):
        scoring.score(cancel)
    assert trainer.scored(reference=True)
    assert len(trainer.scored()) == 64, "a record is written when it is full"


class Group:
    """A consumer that gets a trigger at its third poll."""

    def __init__(self) -> None:
        self.polls, self.sought = 0, list[int]()

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION}

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        return {PARTITION: [SimpleNamespace(offset=7)]} if self.polls == 3 else {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


def test_a_trigger_ends_the_scoring_and_is_polled_again() -> None:
    ended: list[bool] = []

    class Endless:
        def score(self, on_progress: ProgressCallback) -> None:
            try:
                while True:
                    on_progress(RunProgress("scoring new examples", 1, 2))
            finally:
                ended.append(True)

    group, endless = Group(), Endless()
    _score_while_polling(group, PARTITION, endless, threading.Event(), Health())  # type: ignore[arg-type]
    assert (ended, group.sought) == ([True], [7])


def test_an_idle_trainer_scores_in_a_process_of_its_own_what_comes(
    models: Path, fresh_kafka: str, tmp_path: Path, models_cache: Path, undisturbed: Trainer
) -> None:
    shell = Shell(fresh_kafka, tmp_path, models_cache)
    shutil.copytree(models, shell.registry.root, symlinks=True)
    shell.write(JOURNAL, journal(), partition_of(MODEL))
    with shell.trainer(score_interval_s=0.3):
        shell.until(lambda: len(new_scores(shell)) == NEW)
    for found, here in zip(new_scores(shell), undisturbed.scored(), strict=True):
        assert found.offset == here.offset
        assert found.losses == pytest.approx(here.losses, abs=1e-3)
        assert found.projection == pytest.approx(here.projection, abs=1e-3)


def new_scores(shell: Shell) -> list[ExampleScore]:
    found = [r for r in shell.answers() if isinstance(r, Score) and not r.reference]
    return [each for record in found for each in record.each]
