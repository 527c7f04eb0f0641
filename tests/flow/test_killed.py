"""Whichever role dies at whichever moment: nothing is lost, and nothing has its effect twice."""

from __future__ import annotations

import contextlib
import threading
import time
from random import Random

from schemas.models import MODELS
from schemas.topics import TRIGGERS, WINDOWS
from schemas.windows import Trigger, Window
from streams.app.wiring import ROLES
from tests.flow.graph import as_said, in_neo4j, positions
from tests.flow.material import news
from tests.flow.roles import terminated
from tests.flow.world import World, complete, in_journal, pure_fold, sources

KILLS = 4
EVENTS = 600


def killed_again_and_again(world: World, name: str, seed: int, problems: list[str]) -> None:
    """Start a role, kill it at a random moment of its life, `KILLS` times."""
    random = Random(f"{name} {seed}")
    for _ in range(KILLS):
        with world.role(name) as one:
            with contextlib.suppress(Exception):
                one.process.wait(timeout=random.uniform(0.5, 4.5))
            if one.process.poll() is not None:
                problems.append(f"{name} ended by itself ({one.process.returncode}):\n{one.log[-3000:]}")
            one.kill()


def test_whichever_role_is_killed_every_event_has_its_effect_once(world: World) -> None:
    random, answered, problems = Random(4), set[str](), list[str]()
    killers = [threading.Thread(target=killed_again_and_again, args=(world, name, 4, problems)) for name in ROLES]
    for killer in killers:
        killer.start()
    published = 0
    while any(killer.is_alive() for killer in killers):
        if published < EVENTS:
            world.publish(news(40, random))
            published += 40
        world.answer(answered)
        time.sleep(random.uniform(0.0, 0.5))
    assert problems == []

    with contextlib.ExitStack() as stack:
        roles = [stack.enter_context(world.role(name)) for name in ROLES]
        for one in roles:
            one.live()
        world.publish(news(40, random))
        journal_role, graph_role, fold_role = roles
        wanted = sources(world)
        journal_role.until(lambda: all(complete(world, model) for model in MODELS), "every event in the journals")
        fold_role.until(lambda: settled(world, answered), "triggers answered")
        graph_role.until(lambda: positions(world.driver) == ends(world), "the graph at the end of the topics")
        terminated(*roles)

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
    assert in_neo4j(world.driver) == as_said((event, message.offset) for message, event in world.events())
    assert len(journal) > len(wanted), "no second delivery: the kills came at moments that don't matter"


def settled(world: World, answered: set[str]) -> bool:
    """Whether every trigger that the journal leads to is out and answered."""
    world.answer(answered)
    _, outputs = pure_fold(world.journal())
    return {o.id for o in outputs if isinstance(o, Trigger)} == answered


def ends(world: World) -> dict[tuple[str, int], int]:
    """The offset after the last event of each partition that has any."""
    return {(message.topic, message.partition): message.offset + 1 for message, _ in world.events()}
