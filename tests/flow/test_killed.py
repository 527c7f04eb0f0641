"""Whichever role is killed at whichever moment: nothing is lost, and nothing is processed twice."""

from __future__ import annotations

import contextlib
import threading
import time
from random import Random

from schemas.models import MODELS
from schemas.topics import TRIGGERS, WINDOWS
from schemas.windows import Trigger, Window
from streams.app.wiring import ROLES
from tests.flow.events import random_events
from tests.flow.graph import expected_graph, positions, stored_graph
from tests.flow.roles import terminate
from tests.flow.world import World, complete, in_journal, pure_fold, sources

KILLS = 4
EVENTS = 600


def kill_repeatedly(world: World, name: str, seed: int, problems: list[str]) -> None:
    """Start a role and kill it at a random moment, `KILLS` times."""
    random = Random(f"{name} {seed}")
    for _ in range(KILLS):
        with world.role(name) as one:
            with contextlib.suppress(Exception):
                one.process.wait(timeout=random.uniform(0.5, 4.5))
            if one.process.poll() is not None:
                problems.append(f"{name} exited by itself ({one.process.returncode}):\n{one.log[-3000:]}")
            one.kill()


def test_every_event_is_processed_once_whichever_role_is_killed(world: World) -> None:
    random, answered, problems = Random(4), set[str](), list[str]()
    killers = [threading.Thread(target=kill_repeatedly, args=(world, name, 4, problems)) for name in ROLES]
    for killer in killers:
        killer.start()
    published = 0
    while any(killer.is_alive() for killer in killers):
        if published < EVENTS:
            world.publish(random_events(40, random))
            published += 40
        world.answer(answered)
        time.sleep(random.uniform(0.0, 0.5))
    assert problems == []

    with contextlib.ExitStack() as stack:
        roles = [stack.enter_context(world.role(name)) for name in ROLES]
        for one in roles:
            one.live()
        world.publish(random_events(40, random))
        journal_role, graph_role, fold_role = roles
        wanted = sources(world)
        journal_role.until(lambda: all(complete(world, model) for model in MODELS), "every event in the journals")
        fold_role.until(lambda: settled(world, answered), "triggers answered")
        graph_role.until(lambda: positions(world.driver) == ends(world), "the graph at the end of the topics")
        terminate(*roles)

    journal = world.journal()
    assert [in_journal(world, model) for model in MODELS] == [sources(world, model) for model in MODELS]
    state, outputs = pure_fold(journal)
    windows, triggers = world.records(WINDOWS), world.records(TRIGGERS)
    assert windows == [output for output in outputs if isinstance(output, Window)]
    assert triggers == [output for output in outputs if isinstance(output, Trigger)]
    assert windows[0].start == 0
    assert [window.start for window in windows[1:]] == [window.end for window in windows[:-1]]
    assert len({trigger.id for trigger in triggers}) == len(triggers) > 1
    counted = [*windows, state.window]
    assert sum(w.examples + w.holdout + w.retracted for w in counted) == len(wanted)
    assert stored_graph(world.driver) == expected_graph(
        (event, message.offset) for message, event in world.events()
    )
    assert len(journal) > len(wanted), "there were no redeliveries: the kills came at moments that don't matter"


def settled(world: World, answered: set[str]) -> bool:
    """Whether every trigger of the journal is on its topic and answered."""
    world.answer(answered)
    _, outputs = pure_fold(world.journal())
    return {o.id for o in outputs if isinstance(o, Trigger)} == answered


def ends(world: World) -> dict[tuple[str, int], int]:
    """The offset after the last event of each partition that has events."""
    return {(message.topic, message.partition): message.offset + 1 for message, _ in world.events()}
