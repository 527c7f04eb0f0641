"""Each role as users run it: it stops at SIGTERM, its metrics are right, and it reports why it can't continue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from random import Random

import msgspec

from schemas.models import MODELS
from schemas.topics import JOURNAL, TECHNIQUES, TRIGGERS, WINDOWS
from schemas.windows import Window
from streams.app.replay import load_state
from streams.app.wiring import ROLES, TOPICS_OF
from streams.core.fold import snapshot
from tests.flow.events import group, random_events, technique
from tests.flow.graph import expected_graph, stored_graph
from tests.flow.roles import Role, terminate
from tests.flow.world import MODEL, OBSERVED_MS, World, complete, effective_examples, pure_fold, triggers_of
from transport.kafka import end_offset
from transport.topics import partitions_of


@contextlib.contextmanager
def all_roles(world: World) -> Iterator[dict[str, Role]]:
    """All of them, live."""
    with contextlib.ExitStack() as stack:
        roles = {name: stack.enter_context(world.role(name)) for name in ROLES}
        for one in roles.values():
            one.live()
        yield roles


def has_caught_up(world: World, one: Role) -> bool:
    """Whether a role has processed all messages of its topics, according to its metrics."""
    total = sum(
        end_offset(world.reader, *partition) for partition in partitions_of(world.reader, TOPICS_OF[one.name])
    )
    metrics = one.metrics()
    return (metrics["sx9_messages_processed_total"], metrics.get("sx9_consumer_lag_messages")) == (total, 0)


def processed_count(one: Role) -> float:
    return one.metrics()["sx9_messages_processed_total"]


def test_the_lag_is_the_number_of_unprocessed_messages(world: World) -> None:
    with world.role("graph") as one, world.driver.session() as session:
        one.live()
        world.publish([group(1)])
        one.until(lambda: has_caught_up(world, one), "the first event")
        with session.begin_transaction() as transaction:
            transaction.run("MATCH (n:Entity) SET n.locked = true").consume()
            world.publish([group(1, 1_600_000_000_000 + n) for n in range(25)])
            one.until(lambda: one.metrics().get("sx9_consumer_lag_messages") == 25, "25 wait for a lock")
            assert processed_count(one) == 1
            transaction.rollback()
        one.until(lambda: has_caught_up(world, one), "nothing left")


def test_roles_count_their_messages_and_after_sigterm_the_fold_continues_from_its_snapshot(
    world: World,
) -> None:
    random = Random(8)
    world.publish(random_events(60, random))
    with all_roles(world) as roles:
        world.publish(random_events(60, random))
        for one in roles.values():  # in this order: the journal role writes the topic of the fold role
            one.until(lambda one=one: has_caught_up(world, one), "nothing left")
        _counts_are_those_of_the_pure_fold(world, roles["fold"])
        assert terminate(*roles.values()) == [0, 0, 0]
    before, before_all = world.journal(), len(world.messages(JOURNAL))
    snapshots = world.state_dir / "snapshots"
    state, _ = pure_fold(before)
    assert (snapshots / f"{MODEL}.fold").exists()
    assert snapshot(load_state(world.reader, MODEL, snapshots)) == snapshot(state)

    world.publish(random_events(40, random))
    with world.role("journal") as journal_role, world.role("fold") as fold_role:
        for one in (journal_role, fold_role):
            one.live()
        world.publish(random_events(40, random))
        journal_role.until(lambda: all(complete(world, model) for model in MODELS), "all of the events")
        fold_role.until(
            lambda: processed_count(fold_role) == len(world.messages(JOURNAL)) - before_all, "only what came since"
        )
        assert terminate(fold_role, journal_role) == [0, 0]
    state, outputs = pure_fold(world.journal())
    assert snapshot(load_state(world.reader, MODEL, snapshots)) == snapshot(state)
    assert world.records(WINDOWS) == [output for output in outputs if isinstance(output, Window)]
    assert world.records(TRIGGERS) == triggers_of(outputs)


def test_a_role_exits_with_code_0_at_sigterm_even_before_it_is_live(world: World) -> None:
    world.publish(random_events(300, Random(9)))
    with contextlib.ExitStack() as stack:
        roles = [stack.enter_context(world.role(name)) for name in ROLES]
        for one in roles:
            one.metrics()
        assert terminate(*roles) == [0, 0, 0]


def _counts_are_those_of_the_pure_fold(world: World, fold_role: Role) -> None:
    state, outputs = pure_fold(world.journal())
    metrics = fold_role.metrics(MODEL)
    assert metrics["sx9_open_window_examples"] == state.window.examples
    assert metrics["sx9_triggers_total"] == len(triggers_of(outputs)) > 0
    assert metrics["sx9_windows_closed_total"] == len(world.records(WINDOWS)) > 0


def test_an_undecodable_message_becomes_a_dead_letter_with_its_origin(
    world: World,
) -> None:
    bad = [b"{nonsense", None, b'{"type":"technique","id":7}', b'{"type":"unheard-of"}', b"\xff" * 150_000]
    world.publish([technique(1)])
    offsets = [(world.put(TECHNIQUES, 0, value), value) for value in bad[:3]]
    with world.role("journal") as one:
        one.live()
        offsets += [(world.put(TECHNIQUES, 0, value), value) for value in bad[3:]]
        world.publish([technique(2)])
        one.until(lambda: len(effective_examples(world.journal())) == 2, "both techniques")
        one.until(lambda: len({letter.origin for letter in world.letters()}) == len(bad), "a letter each")
        assert one.metrics()["sx9_events_rejected_total"] == len(bad)
        assert terminate(one) == [0]
    assert {example.observed_ms for example in effective_examples(world.journal())} == {OBSERVED_MS}
    letters = {letter.origin: letter for letter in world.letters()}
    assert set(letters) == {f"{TECHNIQUES.name}/0/{offset}" for offset, _ in offsets}
    for offset, value in offsets:
        letter = letters[f"{TECHNIQUES.name}/0/{offset}"]
        assert (letter.reason, letter.payload_bytes) == ("undecodable", len(value or b""))
        assert letter.payload == (value or b"")[:100_000]


def test_a_role_that_can_not_write_exits_and_the_next_start_repeats_its_batch(world: World) -> None:
    groups = [group(1), msgspec.structs.replace(group(2), name="Group 1"), group(3)]
    world.driver.execute_query("CREATE CONSTRAINT one_name FOR (n:Group) REQUIRE n.name IS UNIQUE")
    try:
        with world.role("graph") as one:
            one.live()
            world.publish([technique(1)])
            one.until(lambda: has_caught_up(world, one), "the technique")
            world.publish(groups)
            assert one.process.wait(timeout=60) == 1
            assert "BadConfiguration" in one.log
    finally:
        world.driver.execute_query("DROP CONSTRAINT one_name")
    with world.role("graph") as one:
        one.live()
        assert processed_count(one) == len(groups)
    assert stored_graph(world.driver) == expected_graph(
        (event, message.offset) for message, event in world.events()
    )
