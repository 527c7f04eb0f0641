"""Each role as users run it: it stops when asked, tells the truth on /metrics, and says where it can't go on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from random import Random

import msgspec

from schemas.models import MODELS
from schemas.topics import JOURNAL, TECHNIQUES, TRIGGERS, WINDOWS
from schemas.windows import Window
from streams.app.catch_up import places_of
from streams.app.replay import load_state
from streams.app.wiring import ROLES, TOPICS_OF
from streams.core.fold import snapshot
from tests.flow.graph import as_said, in_neo4j
from tests.flow.material import group, news, technique
from tests.flow.roles import Role, terminated
from tests.flow.world import MODEL, OBSERVED_MS, World, complete, effective, pure_fold, triggers_of
from transport.kafka import end_offset


@contextlib.contextmanager
def all_roles(world: World) -> Iterator[dict[str, Role]]:
    """All of them, live."""
    with contextlib.ExitStack() as stack:
        roles = {name: stack.enter_context(world.role(name)) for name in ROLES}
        for one in roles.values():
            one.live()
        yield roles


def nothing_left(world: World, one: Role) -> bool:
    """Whether a role has taken all of its topics, and says so."""
    there = sum(end_offset(world.reader, *place) for place in places_of(TOPICS_OF[one.name]))
    said = one.metrics()
    return (said["sx9_messages_processed_total"], said.get("sx9_consumer_lag_messages")) == (there, 0)


def taken(one: Role) -> float:
    return one.metrics()["sx9_messages_processed_total"]


def test_the_lag_is_how_many_messages_wait(world: World) -> None:
    with world.role("graph") as one, world.driver.session() as session:
        one.live()
        world.publish([group(1)])
        one.until(lambda: nothing_left(world, one), "the first event")
        with session.begin_transaction() as transaction:
            transaction.run("MATCH (n:Entity) SET n.locked = true").consume()
            world.publish([group(1, 1_600_000_000_000 + n) for n in range(25)])
            one.until(lambda: one.metrics().get("sx9_consumer_lag_messages") == 25, "25 wait for a lock")
            assert taken(one) == 1
            transaction.rollback()
        one.until(lambda: nothing_left(world, one), "nothing left")


def test_every_role_counts_what_it_takes_and_after_sigterm_the_fold_goes_on_from_its_snapshot(world: World) -> None:
    random = Random(8)
    world.publish(news(60, random))
    with all_roles(world) as roles:
        world.publish(news(60, random))
        for one in roles.values():  # in this order: the fold's topic is the journal's work
            one.until(lambda one=one: nothing_left(world, one), "nothing left")
        _counts_are_those_of_the_pure_fold(world, roles["fold"])
        assert terminated(*roles.values()) == [0, 0, 0]
    before, before_all = world.journal(), len(world.messages(JOURNAL))
    snapshots = world.state_dir / "snapshots"
    state, _ = pure_fold(before)
    assert (snapshots / f"{MODEL}.fold").exists()
    assert snapshot(load_state(world.reader, MODEL, snapshots)) == snapshot(state)

    world.publish(news(40, random))
    with world.role("journal") as journal_role, world.role("fold") as fold_role:
        for one in (journal_role, fold_role):
            one.live()
        world.publish(news(40, random))
        journal_role.until(lambda: all(complete(world, model) for model in MODELS), "all of the events")
        fold_role.until(
            lambda: taken(fold_role) == len(world.messages(JOURNAL)) - before_all, "only what came since"
        )
        assert terminated(fold_role, journal_role) == [0, 0]
    state, outputs = pure_fold(world.journal())
    assert snapshot(load_state(world.reader, MODEL, snapshots)) == snapshot(state)
    assert world.records(WINDOWS) == [output for output in outputs if isinstance(output, Window)]
    assert world.records(TRIGGERS) == triggers_of(outputs)


def test_sigterm_ends_a_role_with_0_before_it_is_live_too(world: World) -> None:
    world.publish(news(300, Random(9)))
    with contextlib.ExitStack() as stack:
        roles = [stack.enter_context(world.role(name)) for name in ROLES]
        for one in roles:
            one.metrics()
        assert terminated(*roles) == [0, 0, 0]


def _counts_are_those_of_the_pure_fold(world: World, fold_role: Role) -> None:
    state, outputs = pure_fold(world.journal())
    said = fold_role.metrics(MODEL)
    assert said["sx9_open_window_examples"] == state.window.examples
    assert said["sx9_triggers_total"] == len(triggers_of(outputs)) > 0
    assert said["sx9_windows_closed_total"] == len(world.records(WINDOWS)) > 0


def test_what_does_not_decode_is_a_dead_letter_with_its_place_and_the_rest_goes_on(world: World) -> None:
    bad = [b"{nonsense", None, b'{"type":"technique","id":7}', b'{"type":"unheard-of"}', b"\xff" * 150_000]
    world.publish([technique(1)])
    places = [(world.put(TECHNIQUES, 0, value), value) for value in bad[:3]]
    with world.role("journal") as one:
        one.live()
        places += [(world.put(TECHNIQUES, 0, value), value) for value in bad[3:]]
        world.publish([technique(2)])
        one.until(lambda: len(effective(world.journal())) == 2, "both techniques")
        one.until(lambda: len({letter.origin for letter in world.letters()}) == len(bad), "a letter each")
        assert one.metrics()["sx9_events_rejected_total"] == len(bad)
        assert terminated(one) == [0]
    assert {example.observed_ms for example in effective(world.journal())} == {OBSERVED_MS}
    letters = {letter.origin: letter for letter in world.letters()}
    assert set(letters) == {f"{TECHNIQUES.name}/0/{offset}" for offset, _ in places}
    for offset, value in places:
        letter = letters[f"{TECHNIQUES.name}/0/{offset}"]
        assert (letter.reason, letter.payload_bytes) == ("undecodable", len(value or b""))
        assert letter.payload == (value or b"")[:100_000]


def test_a_role_that_can_not_write_ends_and_the_next_one_begins_with_what_it_had_in_hand(world: World) -> None:
    twins = [group(1), msgspec.structs.replace(group(2), name="Group 1"), group(3)]
    world.driver.execute_query("CREATE CONSTRAINT one_name FOR (n:Group) REQUIRE n.name IS UNIQUE")
    try:
        with world.role("graph") as one:
            one.live()
            world.publish([technique(1)])
            one.until(lambda: nothing_left(world, one), "the technique")
            world.publish(twins)
            assert one.process.wait(timeout=60) == 1
            assert "BadConfiguration" in one.log
    finally:
        world.driver.execute_query("DROP CONSTRAINT one_name")
    with world.role("graph") as one:
        one.live()
        assert taken(one) == len(twins)
    assert in_neo4j(world.driver) == as_said((event, message.offset) for message, event in world.events())
