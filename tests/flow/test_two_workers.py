"""Two workers of a role: each reads only what Kafka has assigned to it, also when that changes."""

from __future__ import annotations

import re

from schemas.journal import Example
from schemas.models import MODELS
from schemas.topics import JOURNAL
from streams.app.journal_sink import JOURNALED
from tests.flow.events import technique
from tests.flow.roles import Role, terminate
from tests.flow.world import World, complete, effective_examples

BACKLOG, LIVE, LAST = 400, 200, 100


def has_partitions(one: Role) -> bool:
    """Whether it has taken over some of the partitions, but not all."""
    found = re.findall(r"journal: live, with (\d+) partitions", one.log)
    return bool(found) and 0 < int(found[-1]) < sum(topic.partitions for topic in JOURNALED)


def read(*workers: Role) -> list[float]:
    return [one.metrics()["sx9_messages_processed_total"] for one in workers]


def test_two_workers_read_each_message_once_also_across_rebalances(world: World) -> None:
    world.publish(technique(n) for n in range(BACKLOG))
    with world.role("journal") as first:
        with world.role("journal") as second:  # while the first reads the backlog
            for one in (first, second):
                one.until(lambda one=one: has_partitions(one), "its share of the partitions")
            first.until(lambda: all(complete(world, model) for model in MODELS), "the backlog in the journals")
            before = read(first, second)
            assert sum(before) == BACKLOG

            world.publish(technique(BACKLOG + n) for n in range(LIVE))
            first.until(lambda: all(complete(world, model) for model in MODELS), "all of it in the journals")
            second.until(lambda: sum(read(first, second)) >= BACKLOG + LIVE, "all of it counted")
            shares = [now - then for now, then in zip(read(first, second), before, strict=True)]
            assert sum(shares) == LIVE
            assert min(shares) > 0, "one worker has read everything"
            by_second = read(second)[0]
            assert terminate(second) == [0]
        world.publish(technique(BACKLOG + LIVE + n) for n in range(LAST))
        first.until(lambda: all(complete(world, model) for model in MODELS), "what came last, by the other worker")
        first.until(lambda: read(first)[0] + by_second >= BACKLOG + LIVE + LAST, "all of it counted")
        assert read(first)[0] + by_second == BACKLOG + LIVE + LAST
    for model in MODELS:
        journal = world.journal(model)
        examples = [record for _, record in journal if isinstance(record, Example)]
        assert len(examples) == len(effective_examples(journal)), f"{JOURNAL.name} of {model} has examples twice"
