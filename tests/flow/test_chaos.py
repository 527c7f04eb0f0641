"""Whatever is killed at whichever moment, the flow comes to the same as without any kill, by hash.

CHAOS_KILLS=1000 CHAOS_SEED=4 pytest -s tests/flow/test_chaos.py     `make chaos`
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from streams.local.services import Owned
from streams.settings import Settings
from tests.flow.chaos import Flow, Kills, Tally
from tests.flow.outcome import Outcome, digests
from tests.flow.world import World, clear
from tests.forks import Forks
from transport.topics import create_topics

KILLS = int(os.environ.get("CHAOS_KILLS") or 100)
SEED = int(os.environ.get("CHAOS_SEED") or 17)
A_ROUND = Kills(role=3, fetcher=2, trainer=1, away_s=1.0)
KILLS_A_ROUND = 20
"""What a round of these has at least: three times two workers of three roles, and the fetcher twice."""
ROUNDS = -(-KILLS // KILLS_A_ROUND)
AWAY = {1: "neo4j", 2: "kafka"}
"""Round, of every four -> what is killed in it, too; kept away for a minute once in a long run."""
MINUTE_S = 60.0


@pytest.mark.timeout(600 + 240 * ROUNDS)
def test_whatever_is_killed_the_flow_comes_to_the_same(
    world: World, owned: Owned, flow_settings: Settings, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    console = Console()
    console.print(f"CHAOS_SEED={SEED} CHAOS_KILLS={KILLS}")

    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("rounds without kills", total=ROUNDS)
        quiet = Flow(world, owned, flow_settings, cache, forks, 1, SEED, Tally())
        with quiet.running():
            for _ in range(ROUNDS):
                quiet.round(Kills())
                progress.advance(task)
        wanted = quiet.outcome()
        disturbed = again(world, tmp_path_factory.mktemp("disturbed"))
        task = progress.add_task("kills", total=KILLS)
        tally = Tally(lambda: progress.advance(task))
        flow = Flow(disturbed, owned, flow_settings, cache, forks, 2, SEED, tally)
        try:
            with flow.running():
                for number in range(ROUNDS):
                    flow.round(kills_of(number), *([AWAY[number % 4]] if number % 4 in AWAY else []))
            found = flow.outcome()
        finally:
            disturbed.close()
            console.print(tally.table())
    assert tally.kills.total() >= KILLS
    assert [version for version, *_ in wanted["versions"]] == [
        f"v{n:04d}" for n in range(1, len(wanted["versions"]) + 1)
    ]
    assert len(wanted["versions"]) >= 3
    assert_same(found, wanted)


def kills_of(number: int) -> Kills:
    """The kills of a round; in a long run Kafka and Neo4j are each away for a minute once."""
    if KILLS > 100 and number in (5, 6):
        return Kills(A_ROUND.role, A_ROUND.fetcher, A_ROUND.trainer, MINUTE_S)
    return A_ROUND


def again(world: World, state_dir: Path) -> World:
    """Empty topics and an empty graph, on the same services."""
    clear(world.endpoints)
    create_topics(world.bootstrap)
    return World(world.endpoints, state_dir)


def assert_same(found: Outcome, wanted: Outcome) -> None:
    """Compare by hash; the message has the first row that differs."""
    differing = [what for what, digest in digests(wanted).items() if digests(found)[what] != digest]
    told = []
    for what in differing:
        rows = enumerate(zip(found[what], wanted[what], strict=False))
        number, (got, want) = next(((n, pair) for n, pair in rows if pair[0] != pair[1]), (-1, ("", "")))
        told.append(f"{what}: {len(found[what])} rows, {len(wanted[what])} wanted; row {number}:\n{got}\n{want}")
    assert not told, "\n".join(told)
