"""Triggers are answered once and always in the same way, also after kills; bad runs are refused with numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors import SafetensorError

from schemas.codec import decode
from schemas.errors import BadConfiguration, BadData, RetryLater
from schemas.journal import ChampionChange, Example, Promoted, Record, Refused, Score
from schemas.policy import GateLimits
from schemas.recipes.base import recipe_values
from schemas.recipes.distilbert import DistilbertConfig
from schemas.topics import JOURNAL, VERSIONS
from schemas.versions import Manifest, VersionEvent
from schemas.windows import Trigger
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
from trainers.models.distilbert import recipe as distilbert
from trainers.runs import failures
from trainers.runs.embeddings import EmbeddingsWriter, no_neo4j
from trainers.runs.execute_run import execute, load_dataset
from trainers.runs.failures import Failure, RunFailed
from trainers.runs.run_process import Run, RunRequest
from trainers.runs.trigger_handler import TriggerHandler, assignment_is_certain
from trainers.settings import TrainerSettings, load_trainer_settings
from trainers.store import manifest as manifests
from trainers.store.journal_copy import JournalCopy
from trainers.store.manifest import verify
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog

QUICK = DistilbertConfig(
    base="tiny", epochs=6, batch_size=8, learning_rate=1e-2, head_learning_rate=5e-3, max_tokens=32,
    frozen_layers=0, threads=1,
)  # fmt: skip


class World:
    """Topics in memory and folders on disk; every `answer()` starts a trainer."""

    def __init__(self, path: Path, base: Base, journal: list[Example]) -> None:
        self.path = path
        self.base = base
        self.journal = MemoryLog(journal)
        self.announcements = MemoryLog([])
        self.registry = Registry(path / "output" / "models")

    def settings(self, **more: Any) -> TrainerSettings:
        """Quick ones."""
        cache = self.base.folder.parents[1]
        folders = {"output_dir": self.path / "output", "state_dir": self.path / "state", "cache_dir": cache}
        return load_trainer_settings(**(folders | more))

    def answer(
        self,
        asked: Trigger,
        dies_at: int = -1,
        *,
        run: Run = execute,
        on_progress: ProgressCallback = no_progress,
        confirm: Callable[[], None] = assignment_is_certain,
        **recipe: Any,
    ) -> None:
        """A trainer starts, with some fields of the recipe's configuration changed, answers a trigger and stops.

        The run is in this process, so that tests can reach into it; `test_run_process` has it in one of its own.
        """
        own = self.settings()
        asked = quick(asked, **recipe)
        copy = JournalCopy(own.trainer_dir / "journal.sqlite", self.journal)
        logs = {JOURNAL.name: self.journal, VERSIONS.name: self.announcements}
        producer: Any = MemoryProducer(logs, dies_at)
        embeddings = EmbeddingsWriter(MODEL, own, self.registry, no_neo4j)
        handler = TriggerHandler(
            MODEL, own, {}, self.registry, copy, VersionLog(self.announcements), producer, embeddings, run
        )
        try:
            handler.show_state()
            handler.handle(asked, on_progress, confirm)
        finally:
            copy.close()

    def said(self) -> list[tuple[str, str]]:
        """Version and outcome of each announcement."""
        return [(event.version, event.outcome) for event in self.events()]

    def events(self) -> list[VersionEvent]:
        """The announcements."""
        return [decode(message.value, VersionEvent) for message in self.announcements.messages]

    def answers(self) -> list[Record]:
        """What trainers wrote to the journal."""
        records = [decode(message.value, Record) for message in self.journal.messages]
        return [record for record in records if not isinstance(record, Example)]

    def manifest(self, version: str) -> Manifest:
        """Of a version, its files verified."""
        return verify(self.registry.folder(MODEL, version))


def quick(asked: Trigger, **recipe: Any) -> Trigger:
    """A trigger with a quick recipe, some of whose fields are changed, and a gate for small holdouts."""
    values = recipe_values(msgspec.structs.replace(QUICK, **recipe))
    return msgspec.structs.replace(asked, recipe=values, gate=GateLimits(min_examples=10))


def sequence(journal: list[Example]) -> tuple[Trigger, Trigger]:
    """A first version over two thirds of a journal, and a second over the rest."""
    cut = len(journal) * 2 // 3
    return trigger(journal, 0, cut), trigger(journal, cut, len(journal), number=2, parent="v0001")


@pytest.fixture
def world(tmp_path: Path, tiny: Base) -> World:
    return World(tmp_path, tiny, examples(300))


@pytest.fixture
def asked(world: World) -> tuple[Trigger, Trigger]:
    return sequence(examples(300))


def test_two_triggers_make_two_versions(world: World, asked: tuple[Trigger, Trigger]) -> None:
    for one in asked:
        world.answer(one)
    assert world.said() == [
        ("v0001", "trained"), ("v0001", "promoted"), ("v0002", "trained"), ("v0002", "promoted"),
    ]  # fmt: skip
    first, score, second = world.answers()
    assert isinstance(first, Promoted)
    assert (first.trigger, first.version) == (asked[0].id, "v0001")
    assert isinstance(score, Score)
    assert (score.trigger, score.version, score.examples) == (asked[1].id, "v0001", asked[1].examples)
    prequential = score.evaluation["tactics"]["prequential"]
    assert prequential.metrics.keys() == {"micro_f1", "macro_f1"}
    assert prequential.extra.keys() == {"ece"}
    assert isinstance(second, Promoted)
    assert world.registry.champion(MODEL) == "v0002"


def test_the_manifest_says_what_the_version_is_made_of(world: World, asked: tuple[Trigger, Trigger]) -> None:
    for one in asked:
        world.answer(one, epochs=3)
    found = world.manifest("v0002")
    assert (found.parent, found.trigger, found.spans) == ("v0001", asked[1].id, asked[1].spans)
    assert found.rehearsal == asked[1].rehearsal
    assert found.examples_trained == asked[1].examples + len(asked[1].rehearsal)
    assert (found.examples_left_out, found.examples_dropped) == (0, {})
    assert (found.config["seed"], found.config["threads"], found.config["epochs"]) == (17, 1, 3)
    assert (found.base, found.base_sha256) == ("tiny", world.base.sha256)
    assert found.taxonomies == ("enterprise-attack/15.1",)
    assert found.libraries.keys() >= {"torch", "transformers", "python"}
    holdout = found.evaluation["tactics"]["holdout"]
    assert holdout.examples == len(asked[1].holdout_old + asked[1].holdout_recent)
    assert found.parent_evaluation["tactics"].keys() == found.evaluation["tactics"].keys() | {"prequential"}
    (baseline,) = found.baselines.values()
    assert baseline["tactics"]["holdout"].examples == holdout.examples
    assert found.gate
    assert found.promoted == all(check.passed for check in found.gate)
    assert found.files.keys() == {
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "curves.png",
        "history.json", "precision_recall.png", "network.py", "words_precision.safetensors",
    }  # fmt: skip
    assert 0 < found.newest_event_ms == world.events()[-1].newest_event_ms
    assert "| parent | v0001 |" in (world.registry.folder(MODEL, "v0002") / "README.md").read_text()


def test_a_second_delivery_does_nothing(world: World, asked: tuple[Trigger, Trigger]) -> None:
    for one in asked:
        world.answer(one)
    files = {p: p.stat().st_mtime_ns for p in world.registry.root.rglob("*") if p.is_file()}
    before = (world.said(), world.answers())
    for one in asked:
        world.answer(one)
    assert (world.said(), world.answers()) == before
    assert {p: p.stat().st_mtime_ns for p in world.registry.root.rglob("*") if p.is_file()} == files
    assert world.registry.champion(MODEL) == "v0002", "an old trigger does not bring its version back"


def test_killed_at_any_effect_a_repeat_ends_the_same(
    world: World, asked: tuple[Trigger, Trigger], tmp_path: Path
) -> None:
    straight = World(tmp_path / "straight", world.base, examples(300))
    for one in asked:
        straight.answer(one)
    world.answer(asked[0])
    for effect in range(4):  # trained, promoted, score, Promoted: it dies before each of them in turn
        with pytest.raises(Killed):
            world.answer(asked[1], dies_at=0 if effect == 0 else 1)
    world.answer(asked[1])
    assert world.said() == straight.said()
    assert [type(r) for r in world.answers()] == [type(r) for r in straight.answers()]
    assert world.manifest("v0002").files == straight.manifest("v0002").files


def test_killed_while_training_or_promoting_a_repeat_ends_the_same(
    world: World, asked: tuple[Trigger, Trigger], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    straight = World(tmp_path / "straight", world.base, examples(300))
    straight.answer(asked[0])
    monkeypatch.setattr(failures, "RETRY_PAUSES_S", (0.0,))
    for place, name in ((distilbert, "save_version"), (manifests, "write"), (Registry, "promote")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, _die)
            with pytest.raises(Killed):
                world.answer(asked[0])
        assert world.said() == []
    world.answer(asked[0])
    assert world.said() == straight.said()
    assert world.manifest("v0001").files == straight.manifest("v0001").files
    assert [p.name for p in world.registry.root.rglob("*.partial")] == []


def _die(*_: object, **__: object) -> None:
    raise Killed


def test_a_worse_candidate_is_refused_with_its_numbers(world: World, asked: tuple[Trigger, Trigger]) -> None:
    world.answer(asked[0])
    world.answer(asked[1], head_learning_rate=5.0, words=0.0)
    assert world.said()[2:] == [("v0002", "trained"), ("v0002", "refused")]
    refusal = world.answers()[-1]
    assert isinstance(refusal, Refused)
    assert (refusal.trigger, refusal.version) == (asked[1].id, "v0002")
    assert refusal.reason == world.events()[-1].detail
    failed = [check for check in world.manifest("v0002").gate if not check.passed]
    assert failed
    assert f"{failed[0].name} {failed[0].candidate:.3f} is below {failed[0].champion:.3f}" in refusal.reason
    assert world.registry.champion(MODEL) == "v0001"


def test_a_trigger_without_usable_examples_is_refused(world: World) -> None:
    journal = examples(300)
    gone = [example(1_000 + i, [], key=e.key, retracted=True) for i, e in enumerate(journal)]
    world.journal.append(*gone)
    world.answer(trigger([*journal, *gone], 0, 600))
    assert world.said() == [("v0001", "refused")]
    assert "no training examples in its windows" in world.answers()[0].reason  # type: ignore[union-attr]
    assert world.registry.versions(MODEL) == []


def test_a_run_that_always_fails_is_refused_after_so_many_attempts(
    world: World, asked: tuple[Trigger, Trigger], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: object, **__: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        raise ArithmeticError("loss is nan")

    monkeypatch.setattr(failures, "RETRY_PAUSES_S", (0.0,))
    monkeypatch.setattr(distilbert, "run", fail)
    with pytest.raises(Killed):
        world.answer(asked[0])
    world.answer(asked[0])
    assert len(calls) == 4, "one failure, one kill that does not count, two failures after the restart"
    assert world.said() == [("v0001", "refused")]
    assert world.events()[0].detail == "training failed 3 times, the last time with ArithmeticError: loss is nan"


def give_up_after_a_fault(step: RunProgress) -> None:
    """A callback that ends a trainer which waits for its machine."""
    if step.phase == "waiting":
        raise Cancelled


@pytest.mark.parametrize(
    "error",
    [
        RetryLater("no broker"),
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"),
        MemoryError(),
        RunFailed(Failure("machine", "RunKilled", "killed by SIGKILL")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_the_machine_is_repeated_and_never_an_answer(
    world: World, asked: tuple[Trigger, Trigger], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(failures, "RETRY_PAUSES_S", (0.0,))
    faults = []

    def fail_five_times(request: RunRequest, on_progress: ProgressCallback) -> None:
        faults.append(telemetry.FAULTS.labels(model=MODEL)._value.get())
        assert world.said() == []
        if len(faults) <= 5:
            raise error
        execute(request, on_progress)

    world.answer(asked[0], run=fail_five_times)
    assert faults == [0, 1, 2, 3, 4, 5], "the gauge says how often in a row"
    assert telemetry.FAULTS.labels(model=MODEL)._value.get() == 0
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]


def test_faults_are_counted_across_kills_of_the_trainer(
    world: World, asked: tuple[Trigger, Trigger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "RETRY_PAUSES_S", (0.0,))

    def kill(*_: object) -> None:
        raise Killed

    for _ in range(3):  # the machine kills the trainer together with its run
        with pytest.raises(Killed):
            world.answer(asked[0], run=kill)
    with pytest.raises(Killed):
        world.answer(asked[0], run=kill, on_progress=no_progress)
    assert telemetry.FAULTS.labels(model=MODEL)._value.get() == 3
    assert world.said() == []
    world.answer(asked[0])
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]


def test_examples_that_can_lead_to_no_version_are_refused_at_once(
    world: World, asked: tuple[Trigger, Trigger]
) -> None:
    calls = []

    def no_links(*_: object) -> None:
        calls.append(1)
        raise BadData("the graph has no links")

    world.answer(asked[0], run=no_links)
    assert len(calls) == 1
    assert [(event.outcome, event.detail) for event in world.events()] == [("refused", "the graph has no links")]


def test_a_parent_changed_on_disk_is_no_answer(
    world: World, asked: tuple[Trigger, Trigger], caplog: pytest.LogCaptureFixture
) -> None:
    world.answer(asked[0])
    weights = world.registry.folder(MODEL, "v0001") / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\1\2\3\4")
    with pytest.raises(Cancelled):
        world.answer(asked[1], on_progress=give_up_after_a_fault)
    assert "v0001/model.safetensors has sha256" in caplog.text
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]
    weights.write_bytes(content)
    world.answer(asked[1])
    assert world.said()[2:] == [("v0002", "trained"), ("v0002", "promoted")]


def test_a_damaged_copy_of_the_journal_is_made_again(
    world: World, asked: tuple[Trigger, Trigger], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(failures, "RETRY_PAUSES_S", (0.0,))
    straight = World(tmp_path / "straight", world.base, examples(300))
    straight.answer(asked[0])
    damaged = []

    def damage_once(request: RunRequest, on_progress: ProgressCallback) -> None:
        if not damaged:
            with sqlite3.connect(request.journal_copy) as other:  # what SQLite lost, or a byte that changed
                damaged.append(other.execute("UPDATE examples SET value = replace(value, 'system', 'sys')"))
        execute(request, on_progress)

    world.answer(asked[0], run=damage_once)
    assert damaged
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]
    assert world.manifest("v0001").files == straight.manifest("v0001").files


def test_a_trainer_that_was_paused_before_it_promotes_leaves_the_champion_of_its_successor(
    world: World, asked: tuple[Trigger, Trigger]
) -> None:
    def paused(request: RunRequest, on_progress: ProgressCallback) -> None:
        execute(request, on_progress)
        for one in asked:  # meanwhile another trainer, with the same registry
            world.answer(one)

    world.answer(asked[0], run=paused)
    assert world.registry.champion(MODEL) == "v0002"
    assert world.said() == [
        ("v0001", "trained"), ("v0001", "promoted"), ("v0002", "trained"), ("v0002", "promoted"),
    ]  # fmt: skip
    assert [type(r) for r in world.answers()] == [Promoted, Score, Promoted]


def test_a_trainer_that_lost_its_partition_does_not_promote(world: World, asked: tuple[Trigger, Trigger]) -> None:
    def lost() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        world.answer(asked[0], confirm=lost)
    assert world.registry.has(MODEL, "v0001")
    assert world.registry.champion(MODEL) is None
    assert world.said() == []


def test_what_another_trainer_answered_during_the_run_is_not_answered_again(
    world: World, asked: tuple[Trigger, Trigger], tmp_path: Path
) -> None:
    """The partition is lost and won back, so the assignment is confirmed; but the other trainer was here."""
    other = World(tmp_path / "other", world.base, examples(300))
    other.journal, other.announcements = world.journal, world.announcements
    world.answer(asked[0], confirm=lambda: other.answer(asked[0]))
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]
    assert [type(r) for r in world.answers()] == [Promoted]
    assert other.registry.champion(MODEL) == "v0001"
    assert world.registry.champion(MODEL) is None


def test_after_a_restart_the_gauges_show_the_scores_and_the_champion(
    world: World, asked: tuple[Trigger, Trigger]
) -> None:
    names = ("SCORE", "PARENT_SCORE", "VERSION", "PROMOTED_AT", "GATE_FAILED", "REFUSALS", "ANSWERED_AT")
    for name in names:
        getattr(telemetry, name).clear()  # of other tests in this process
    for one in asked:
        world.answer(one)
    before = {name: gauge_values(name) for name in names}
    assert all(before.values())
    for name in names:
        getattr(telemetry, name).clear()  # a new process
    world.answer(asked[1])  # is answered already
    assert {name: gauge_values(name) for name in before} == before


def gauge_values(name: str) -> dict[str, float]:
    """Labels -> value of a gauge."""
    return {repr(sample.labels): sample.value for sample in getattr(telemetry, name).collect()[0].samples}


def test_models_of_another_journal_are_not_taken_for_answers(world: World, asked: tuple[Trigger, Trigger]) -> None:
    world.answer(asked[0])
    other = World(world.path, world.base, examples(300, first=500))
    with pytest.raises(BadConfiguration, match="these models belong to another journal; move"):
        other.answer(trigger(examples(300, first=500), 0, 300))


def test_the_holdout_and_what_supersedes_is_read_from_the_journal(world: World) -> None:
    journal = examples(300)
    edited = next(e for e in journal if not held_out(e))
    journal.append(example(900, ["exfiltration"], key=edited.key))
    copy = JournalCopy(world.path / "journal.sqlite", MemoryLog(journal))
    copy.catch_up()
    data = load_dataset(copy, trigger(journal, 100, 301))
    assert not any(held_out(e) for _, e in data.train)
    assert [o for o, e in data.train if e.key == edited.key] == [300]


def test_a_stopped_run_says_nothing(world: World, asked: tuple[Trigger, Trigger]) -> None:
    def stop(step: RunProgress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        world.answer(asked[0], on_progress=stop)
    assert world.registry.versions(MODEL) == []
    assert world.said() == []


def change(version: str) -> ChampionChange:
    return ChampionChange(version=version, action="rolled-back", by="ada", why="bad", request="r", time_ms=0)


def test_a_run_that_started_from_another_version_than_a_person_chose_is_refused(
    world: World, asked: tuple[Trigger, Trigger]
) -> None:
    world.answer(asked[0])

    def roll_back_meanwhile(request: RunRequest, on_progress: ProgressCallback) -> None:
        execute(request, on_progress)
        world.journal.append(change("v0009"))

    world.answer(asked[1], run=roll_back_meanwhile)
    assert world.said()[2:] == [("v0002", "refused")]
    assert "a person made v0009 the champion" in world.events()[-1].detail
    assert world.registry.champion(MODEL) == "v0001"


def test_the_link_follows_the_version_that_a_person_chose_at_the_next_trigger(
    world: World, asked: tuple[Trigger, Trigger]
) -> None:
    for one in asked:
        world.answer(one)
    world.journal.append(change("v0001"))
    world.answer(asked[1])  # it is answered already
    assert world.registry.champion(MODEL) == "v0001"
