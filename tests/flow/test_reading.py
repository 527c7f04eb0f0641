"""What other producers may leave on a topic: transactions, and messages without a value. It stops no reader."""

from __future__ import annotations

import contextlib

from schemas.encoding import encode_event
from schemas.topics import JOURNAL, TECHNIQUES
from streams.app.replay import state_now
from tests.flow.events import technique
from tests.flow.roles import terminate
from tests.flow.world import MODEL, PARTITION, World, effective_examples
from transport.kafka import producer


def in_transaction(world: World, number: int, *, commit: bool) -> None:
    """Publish a technique in a transaction."""
    with contextlib.closing(producer(world.bootstrap, transactional_id=f"flow-{number}")) as writer:
        writer.init_transactions()
        writer.begin_transaction()
        writer.send(TECHNIQUES.name, value=encode_event(technique(number)).value, partition=0).get(timeout=30)
        if commit:
            writer.commit_transaction()
        else:
            writer.abort_transaction()


def test_transactions_and_messages_without_a_value_stop_no_role_and_aborted_events_are_not_learnt(
    world: World,
) -> None:
    def keys() -> list[str]:
        return [example.key for example in effective_examples(world.journal())]

    in_transaction(world, 2, commit=False)
    in_transaction(world, 1, commit=True)
    world.put(JOURNAL, PARTITION, None)
    expected = ["technique:T1001"]
    with world.role("journal") as journal_role, world.role("fold") as fold_role:
        for one in (journal_role, fold_role):
            one.live()
        journal_role.until(lambda: keys() == expected, "the event of the backlog")
        in_transaction(world, 4, commit=False)
        in_transaction(world, 3, commit=True)
        world.put(JOURNAL, PARTITION, None)
        world.publish([technique(5)])
        expected += ["technique:T1003", "technique:T1005"]
        journal_role.until(lambda: sorted(keys()) == expected, "the events of the agent")
        end = world.journal()[-1][0] + 1
        fold_role.until(
            lambda: fold_role.metrics(MODEL)["sx9_open_window_examples"] == state_examples(world), "all records"
        )
        assert terminate(fold_role, journal_role) == [0, 0]
    assert state_now(world.reader, MODEL, world.state_dir / "snapshots").next_offset == end


def state_examples(world: World) -> int:
    """The examples in the open window, after the whole journal."""
    return state_now(world.reader, MODEL, world.state_dir / "none").window.examples
