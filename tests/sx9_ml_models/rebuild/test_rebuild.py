"""A lineage of trainers is rebuilt from its journal to the same weights, also after a kill, or without a part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from kafka import TopicPartition

from schemas.codec import decode
from schemas.errors import BadConfiguration, Corrupt
from schemas.exclusions import parse_exclusions
from schemas.journal import Example, PolicyChange, Record, Tick, held_out
from schemas.policy import GateLimits, Policy
from schemas.recipes.base import recipe_values
from schemas.topics import JOURNAL, partition_of
from schemas.windows import Trigger
from streams.core.fold import initial, step
from streams.local.services import settings_of
from streams.settings import load_settings
from sx9_ml_models.archiving import archive_topics
from sx9_ml_models.journals import open_journal
from sx9_ml_models.rebuild import command
from sx9_ml_models.rebuild.command import Found, conclusions, plan_of, table
from sx9_ml_models.rebuild.remaining import RemainingJournal
from sx9_ml_models.rebuild.run import Rebuild, silent
from sx9_ml_models.rebuild.scope import Plan, Scope, scope_of
from tests.trainers.runs.test_trigger_handler import QUICK, World
from tests.trainers.samples import MODEL, examples
from trainers.bases.resolve import Base
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.runs.execute_run import execute
from transport.admin import admin_client
from transport.kafka import producer
from transport.partition_file import write_partition

RULES = Policy(
    window_examples=50, bootstrap_examples=150, retrain_examples=100, cooldown_s=0.0, rehearsal_examples=40,
    holdout_examples=60, drift_threshold=1.0, drift_rearm=1.0, taxonomy_examples=1_000,
)  # fmt: skip
TICK = Tick(1_700_000_000_000)


@pytest.fixture
def world(tmp_path: Path, tiny: Base) -> World:
    """A journal whose policy has all that decides a result, and the versions of a trainer."""
    recipe, gate = recipe_values(QUICK), GateLimits(min_examples=10)
    return lived(World(tmp_path, tiny, []), msgspec.structs.replace(RULES, recipe=recipe, gate=gate))


@pytest.fixture
def old_world(tmp_path: Path, tiny: Base) -> World:
    """The same from the time when the recipe came from the environment: only the manifests have it."""
    return lived(World(tmp_path, tiny, []), RULES)


def lived(world: World, policy: Policy, given: Sequence[Example] = ()) -> World:
    """A journal of 420 examples, or given ones, and the versions with which a trainer answered its triggers."""
    state = initial(MODEL)
    for record in (PolicyChange(policy), TICK, *(given or examples(420)), TICK):
        world.journal.append(record)
        while state.next_offset < world.journal.end():
            at = state.next_offset
            state, outputs = step(state, at, decode(world.journal.messages[at].value, Record))
            for output in outputs:
                if isinstance(output, Trigger):
                    world.answer(output)
    trained = [event.version for event in world.events() if event.outcome == "trained"]
    assert trained == ["v0001", "v0002", "v0003"][: len(trained)]
    assert len(trained) > 1
    return world


def rebuild_of(world: World, name: str, *exclude: str, dies_at: int = -1) -> Rebuild:
    journal = RemainingJournal(world.journal, world.journal.end(), parse_exclusions(exclude), lambda _: "")
    steps = 0

    @contextlib.contextmanager
    def dying(title: str, after_s: float) -> Iterator[ProgressCallback]:
        def on_progress(_progress: RunProgress) -> None:
            nonlocal steps
            steps += 1
            if steps == dies_at:
                raise KeyboardInterrupt

        yield on_progress

    plan = Plan(model=MODEL, exclusions=tuple(exclude))
    progress_of = silent if dies_at < 0 else dying
    folder = world.path / name
    scope = scope_of(plan, world.journal, folder)
    return Rebuild(plan, scope, journal, folder, world.settings(), run=execute, progress_of=progress_of)


def test_every_version_of_the_lineage_has_the_same_weights_and_what_serves_is_untouched(world: World) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.registry.root.rglob("*")}
    found = rebuild_of(world, "new").versions()
    promoted = [event.version for event in world.events() if event.outcome == "promoted"]
    assert [each.version for each in found] == promoted
    assert len(promoted) > 1
    assert [each.identical for each in found] == [True] * len(promoted)
    assert all(each.weights for each in found)
    assert {path: path.stat().st_mtime_ns for path in world.registry.root.rglob("*")} == before
    rows = table(found)
    assert all(row[-1] == "identical" for row in rows)
    result = Found(plan=Plan(model=MODEL), versions=tuple(found), excluded=0)
    assert conclusions(result, world.path)[0].startswith(
        f"{len(found)} of {len(found)} recorded versions have the same"
    )


def test_a_rebuild_that_is_interrupted_continues_to_the_same_weights(old_world: World) -> None:
    world = old_world
    with pytest.raises(KeyboardInterrupt):
        rebuild_of(world, "new", dies_at=70).versions()
    found = rebuild_of(world, "new").versions()
    assert [each.identical for each in found] == [True] * len(found)
    again = rebuild_of(world, "new").versions()
    assert [(each.weights, each.seconds) for each in again] == [(each.weights, 0.0) for each in found]


def test_without_what_is_excluded_nothing_of_the_new_lineage_names_it(world: World) -> None:
    records = [decode(message.value, Record) for message in world.journal.messages]
    poisoned = [at for at, r in enumerate(records) if isinstance(r, Example) and not held_out(r)][30:60]
    sources = [records[at].source for at in poisoned]
    exclude = sorted(f"source={s.topic}/{s.partition}/{s.offset}" for s in sources)
    rebuild = rebuild_of(world, "without", *exclude)
    found = rebuild.versions()
    assert len(found) > 1
    assert not [each for each in found if each.identical]
    manifests = [rebuild.registry.verified(MODEL, each.version) for each in found]
    assert not {at for manifest in manifests for at in manifest.rehearsal} & set(poisoned)
    recorded = world.manifest("v0001")
    assert not {s.digest for m in manifests for s in m.spans} & {s.digest for s in recorded.spans}
    for manifest in manifests:
        counted = sum(
            isinstance(r, Example) and not held_out(r) and at not in poisoned
            for span in manifest.spans
            for at, r in enumerate(records[span.start : span.end], span.start)
        )
        assert counted == sum(span.examples for span in manifest.spans)


def test_the_command_rebuilds_from_a_file_in_processes_of_their_own(world: World) -> None:
    write_partition(world.path / "journal.jsonl", world.journal, Record)
    settings = load_settings(state_dir=world.path / "state", output_dir=world.path / "output")
    plan = plan_of(f"{MODEL}@v0001", None, [])
    found = command.rebuild(plan, world.path / "journal.jsonl", world.path / "new", settings, world.settings())
    assert [(each.version, each.identical) for each in found.versions] == [("v0001", True)]
    assert found.differ == []
    with pytest.raises(BadConfiguration, match="is the registry that serves"):
        command.rebuild(plan, None, world.registry.root, settings, world.settings())


def test_after_retention_deleted_half_of_the_journal_it_is_rebuilt_from_archive_and_topic(
    world: World, fresh_kafka: str
) -> None:
    partition = TopicPartition(JOURNAL.name, partition_of(MODEL))
    with contextlib.closing(producer(fresh_kafka)) as writer:
        for message in world.journal.messages:
            writer.send(*partition[:1], key=MODEL.encode(), value=message.value, partition=partition.partition)
        writer.flush()
    archive = {"archive_url": str(world.path / "archive")}
    folders = {"state_dir": world.path / "state", "output_dir": world.path / "output"}
    settings = load_settings(**settings_of(fresh_kafka), **folders, **archive)
    assert archive_topics(settings, fresh_kafka).faults == []
    with contextlib.closing(admin_client(fresh_kafka)) as admin:
        admin.delete_records({partition: world.journal.end() // 2})
    with open_journal(MODEL, None, settings) as log:
        journal = RemainingJournal(log, log.end(), (), lambda _: "")
        plan, scope = Plan(model=MODEL), Scope(end=log.end())
        found = Rebuild(plan, scope, journal, world.path / "new", world.settings(), run=execute).versions()
    assert len(found) > 1
    assert [each.identical for each in found] == [True] * len(found)
    without = load_settings(**settings_of(fresh_kafka), **folders)
    with open_journal(MODEL, None, without) as log, pytest.raises(Corrupt, match="name their archive"):
        list(log.read(0, log.end()))
