"""A poisoned feed is excluded, its lineage rebuilt and promoted on a real Kafka, also after kills."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import decode, encode
from schemas.errors import BadConfiguration
from schemas.journal import Example, LineageChange, Record, Tick, held_out
from schemas.policy import GateLimits
from schemas.recipes.base import recipe_values
from schemas.topics import JOURNAL, VERSIONS, partition_of
from schemas.versions import VersionEvent
from schemas.windows import Span, Trigger
from streams.app.replay import fold_from
from streams.core.fold import State, initial
from streams.local.services import settings_of
from streams.settings import Settings, load_settings
from sx9_ml_models.rebuild import command
from sx9_ml_models.rebuild.command import check_promote, plan_of
from tests.sx9_ml_models.rebuild.test_rebuild import RULES, TICK, lived, rebuild_of
from tests.trainers.conftest import fresh_kafka, trainer_kafka
from tests.trainers.runs.test_champion import read
from tests.trainers.runs.test_trigger_handler import QUICK, World
from tests.trainers.samples import MODEL, Killed, MemoryLog, examples, trigger
from trainers.bases.resolve import Base
from trainers.runs import takeover
from trainers.runs.champion import change_champion
from trainers.runs.execute_run import execute
from trainers.store.registry import Registry
from transport.kafka import RecordProducer, consumer, producer

__all__ = ["fresh_kafka", "trainer_kafka"]

POISONED = "odd-feed"
WHY = "its rules were changed by an intruder"


def fed(example: Example) -> Example:
    """The same, of one of two feeds; every fifth event is of the poisoned one."""
    feed = POISONED if example.source.offset % 5 == 2 else "good-feed"
    return msgspec.structs.replace(example, source=msgspec.structs.replace(example.source, feed=feed))


def append(bootstrap: str, *records: Record) -> None:
    client = producer(bootstrap)
    for record in records:
        client.send(JOURNAL.name, encode(record), partition=partition_of(MODEL))
    client.flush()
    client.close()


def digest(records: list[Record], span: Span, without: str = POISONED) -> str:
    """The digest of a window, of its examples without those of a feed."""
    found = ""
    for record in records[span.start : span.end]:
        if isinstance(record, Example) and record.source.feed != without:
            found = hashlib.blake2b(f"{found}|{record.key}|{record.hash}".encode(), digest_size=16).hexdigest()
    return found


def state_now(bootstrap: str) -> Iterator[State]:
    reader = consumer(bootstrap)
    for state, _ in fold_from(reader, initial(MODEL)):
        yield state
    reader.close()


def test_a_poisoned_feed_is_taken_out_of_what_serves_and_never_learnt_again(
    fresh_kafka: str, tmp_path: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = msgspec.structs.replace(RULES, recipe=recipe_values(QUICK), gate=GateLimits(min_examples=10))
    world = lived(World(tmp_path, tiny, []), policy, [fed(each) for each in examples(300)])
    append(fresh_kafka, *(decode(message.value, Record) for message in world.journal.messages))
    settings = load_settings(
        state_dir=tmp_path / "state", output_dir=tmp_path / "output", **settings_of(fresh_kafka)
    )
    folder, trainer = tmp_path / "rebuild", world.settings()
    plan = plan_of(MODEL, None, [f"feed={POISONED}"])

    def rebuild() -> command.Found:
        return command.rebuild(plan, None, folder, settings, trainer, execute)

    served = {path: path.stat().st_mtime_ns for path in world.registry.root.rglob("*")}
    found = rebuild()
    assert {path: path.stat().st_mtime_ns for path in world.registry.root.rglob("*")} == served
    append(fresh_kafka, TICK, *map(fed, examples(40, first=300)))  # the system goes on meanwhile

    def promote() -> str:
        return command.promote(rebuild(), folder, settings, trainer, "ada", WHY)

    places: list[tuple[Any, str]] = [
        (takeover, "adopt"), (RecordProducer, "send"), (takeover, "announce"), (Registry, "promote"),
    ]  # fmt: skip
    for place, name in places:
        before = world.registry.champion(MODEL)
        with monkeypatch.context() as patch:
            patch.setattr(place, name, _killed)
            with pytest.raises(Killed):
                promote()
        assert world.registry.champion(MODEL) == before
    assert promote().startswith(f"{MODEL} {found.change.version} serves")  # type: ignore[union-attr]
    assert promote().startswith(f"{MODEL} {found.change.version} serves")  # type: ignore[union-attr]

    records: list[Record] = read(fresh_kafka, JOURNAL.name, partition_of(MODEL), Record)
    (change,) = (record for record in records if isinstance(record, LineageChange))
    assert (change.exclusions, change.by, change.why) == ((f"feed={POISONED}",), "ada", WHY)
    (event,) = read(fresh_kafka, VERSIONS.name, 0, VersionEvent)
    assert (event.version, event.outcome, event.by) == (change.version, "promoted", "ada")
    assert event.detail == f"{WHY} (without feed={POISONED})"
    assert world.registry.champion(MODEL) == change.version

    poisoned = {at for at, r in enumerate(records) if isinstance(r, Example) and r.source.feed == POISONED}
    lineage = [world.manifest(each.version) for each in found.versions]
    assert lineage[0].version == "v1001"
    assert [manifest.files for manifest in lineage] == [
        Registry(folder).verified(MODEL, manifest.version).files for manifest in lineage
    ]
    for manifest in lineage:
        assert POISONED not in encode(manifest).decode()
        assert not poisoned & set(manifest.rehearsal)
        assert [span.digest for span in manifest.spans] == [digest(records, span) for span in manifest.spans]

    # the next run starts from it, and a trigger from before it needs no run
    append(fresh_kafka, *map(fed, examples(150, first=340)), Tick(TICK.time_ms + 1))
    *_, state = state_now(fresh_kafka)
    asked = state.open_trigger
    assert isinstance(asked, Trigger)
    assert (asked.parent, asked.number > 1_001) == (change.version, True)
    records = read(fresh_kafka, JOURNAL.name, partition_of(MODEL), Record)
    world.journal = MemoryLog(records)
    world.answer(trigger(records[:300], 0, 200, number=4, parent="v0003"), run=_no_run)
    assert world.events()[-1].detail.startswith("a person made")
    world.answer(asked)
    learnt = world.manifest(asked.version)
    assert learnt.parent == change.version
    assert [span.digest for span in learnt.spans] == [digest(records, span) for span in learnt.spans]
    fresh = [
        record
        for span in learnt.spans
        for record in records[span.start : span.end]
        if isinstance(record, Example) and not held_out(record) and record.source.feed != POISONED
    ]
    assert sum(span.examples for span in learnt.spans) == len(fresh)
    assert {f"relationship:{number}" for number in range(300, 340)} & {example.key for example in fresh}
    again = rebuild_of(world, "again").versions()
    assert {each.version for each in again} >= {change.version}
    assert [each.identical for each in again] == [True] * len(again)
    with pytest.raises(BadConfiguration, match=f"v0001 may have learnt what ada took out .feed={POISONED}"):
        change_champion(trainer, fresh_kafka, MODEL, "v0001", "rolled-back", by="bob", why="back")
    _comes_back(world, fresh_kafka, settings)


def _comes_back(world: World, bootstrap: str, settings: Settings) -> None:
    """A lift is promoted, and the next run learns what was left out, and what came meanwhile."""
    folder, trainer = world.path / "back", world.settings()
    with pytest.raises(
        BadConfiguration, match=f"--lift feed=other: it is not left out; left out are feed={POISONED}"
    ):
        command.rebuild(
            plan_of(MODEL, None, [], lift=["feed=other"]), None, folder / "no", settings, trainer, execute
        )
    plan = plan_of(MODEL, None, [], lift=[f"feed={POISONED}"])
    found = command.rebuild(plan, None, folder, settings, trainer, execute)
    command.promote(found, folder, settings, trainer, "ada", "it was set right")
    append(bootstrap, *map(fed, examples(150, first=490)), Tick(TICK.time_ms + 2))
    records = read(bootstrap, JOURNAL.name, partition_of(MODEL), Record)
    poisoned = {at for at, r in enumerate(records) if isinstance(r, Example) and r.source.feed == POISONED}
    (change,) = (record for record in records if isinstance(record, LineageChange) and record.lifted)
    assert (change.exclusions, change.lifted) == ((), plan.lifted)
    assert found.lifted == sum(at < change.end for at in poisoned)
    event = read(bootstrap, VERSIONS.name, 0, VersionEvent)[-1]
    assert (event.exclusions, event.detail) == ((), f"it was set right (again with feed={POISONED})")
    *_, state = state_now(bootstrap)
    assert (state.exclusions, state.champion) == ((), change.version)
    asked = state.open_trigger
    assert asked
    world.journal = MemoryLog(records)
    world.answer(asked)
    versions = [world.manifest(name) for name in (*(each.version for each in found.versions), asked.version)]
    for manifest in versions:
        assert int(manifest.version[1:]) > 2_000
        assert [span.digest for span in manifest.spans] == [digest(records, span, "") for span in manifest.spans]
    assert poisoned & {at for m in versions for span in m.spans for at in range(span.start, span.end)}
    assert poisoned & set(versions[-1].rehearsal)


def _killed(*_: Any, **__: Any) -> None:
    raise Killed


def _no_run(*_: Any) -> None:
    raise AssertionError("a run")


def test_what_can_t_take_over_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    plan = plan_of(MODEL, None, ["feed=x"])
    with pytest.raises(BadConfiguration, match="use `sx9 models promote`"):
        check_promote(plan_of(MODEL, None, []), None, WHY)
    with pytest.raises(BadConfiguration, match="leave out --journal"):
        check_promote(plan, tmp_path / "file", WHY)
    with pytest.raises(BadConfiguration, match="give the reason with --why"):
        check_promote(plan, None, " ")
