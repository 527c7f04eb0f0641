"""Triggers are answered once and always in the same way, also after kills; bad runs are refused with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import decode
from schemas.errors import BadConfiguration, Corrupt, RetryLater
from schemas.journal import Example, Promoted, Record, Refused, Score
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
from trainers.bases.resolve import Base
from trainers.core.progress import Cancelled, RunProgress, no_progress
from trainers.models.distilbert import recipe as distilbert
from trainers.models.distilbert.config import DistilbertConfig
from trainers.runs.trigger_handler import TriggerHandler, load_dataset
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
        folders = {"output_dir": self.path / "output", "state_dir": self.path / "state"}
        return load_trainer_settings(**({"min_holdout": 10} | folders | more))

    def answer(self, asked: Trigger, dies_at: int = -1, **recipe: Any) -> None:
        """A trainer starts, with some fields of the recipe's configuration changed, answers a trigger and stops."""
        own = self.settings()
        config = msgspec.structs.replace(QUICK, **recipe)
        copy = JournalCopy(own.trainer_dir / "journal.sqlite", self.journal)
        logs = {JOURNAL.name: self.journal, VERSIONS.name: self.announcements}
        producer: Any = MemoryProducer(logs, dies_at)
        handler = TriggerHandler(
            MODEL, own, config, self.base, self.registry, copy, VersionLog(self.announcements), producer
        )
        try:
            handler.handle(asked, no_progress)
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
        world.answer(one, max_examples=60)
    found = world.manifest("v0002")
    assert (found.parent, found.trigger, found.spans) == ("v0001", asked[1].id, asked[1].spans)
    assert found.rehearsal == asked[1].rehearsal
    assert found.examples_trained == 60 + len(asked[1].rehearsal)
    assert found.examples_left_out == asked[1].examples - 60
    assert (found.config["seed"], found.config["threads"], found.config["max_examples"]) == (17, 1, 60)
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

    monkeypatch.setattr(distilbert, "run", fail)
    with pytest.raises(Killed):
        world.answer(asked[0])
    world.answer(asked[0])
    assert len(calls) == 4, "one failure, one kill that does not count, two failures after the restart"
    assert world.said() == [("v0001", "refused")]
    assert world.events()[0].detail == "training failed 3 times, the last time with ArithmeticError: loss is nan"


@pytest.mark.parametrize("error", [RetryLater("no broker"), OSError(28, "No space left on device")])
def test_what_may_pass_later_is_not_counted_as_a_failed_attempt(
    world: World, asked: tuple[Trigger, Trigger], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(distilbert, "run", fail)
        for _ in range(4):
            with pytest.raises(type(error)):
                world.answer(asked[0])
    assert world.said() == []
    world.answer(asked[0])
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]


def test_a_parent_changed_on_disk_is_corrupt(world: World, asked: tuple[Trigger, Trigger]) -> None:
    world.answer(asked[0])
    weights = world.registry.folder(MODEL, "v0001") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(Corrupt, match=r"v0001/model\.safetensors has sha256"):
        world.answer(asked[1])
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]


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
    data = load_dataset(copy, trigger(journal, 100, 301), 1_000)
    assert not any(held_out(e) for _, e in data.train)
    assert [o for o, e in data.train if e.key == edited.key] == [300]


def test_a_stopped_run_says_nothing(world: World, asked: tuple[Trigger, Trigger]) -> None:
    def stop(step: RunProgress) -> None:
        raise Cancelled

    own = world.settings()
    copy = JournalCopy(own.trainer_dir / "journal.sqlite", world.journal)
    producer: Any = MemoryProducer({})
    handler = TriggerHandler(
        MODEL, own, QUICK, world.base, world.registry, copy, VersionLog(world.announcements), producer
    )
    with pytest.raises(Cancelled):
        handler.handle(asked[0], stop)
    assert world.registry.versions(MODEL) == []
    copy.close()
