"""A fetch of many feeds, killed at random moments and repeated, publishes the same as an undisturbed one, once."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from schemas.topics import DEAD_LETTERS, EVENT_TOPICS
from streams.local.services import settings_of
from tests.flow.world import World, clear
from tests.forks import Fork, Forks, kill_at_random
from tests.streams.fetchers.feeds.samples import BROKEN_YAML, SAMPLES, put
from tests.streams.fetchers.stix_bundles import ordinary, written
from transport.topics import create_topics

FEEDS = ("attack-enterprise", "sigma", "nuclei-templates", "atomic-red-team", "lolbas", "cisa-kev")
KILLS = 10
LONGEST_S = 2.0


def published(world: World) -> dict[tuple[str, int], list[Any]]:
    """Partition -> what its messages are, in order."""
    found: dict[tuple[str, int], list[Any]] = {}
    for message in world.messages(*EVENT_TOPICS, DEAD_LETTERS):
        found.setdefault((message.topic, message.partition), []).append(
            (message.key, dict(message.headers)["ce_id"])
        )
    return found


def test_killed_and_repeated_it_publishes_the_same_once(world: World, forks: Forks, tmp_path: Path) -> None:
    random = Random(5)
    sources = {feed: str(put(tmp_path / feed, SAMPLES[feed].files)) for feed in FEEDS}
    put(tmp_path / "sigma", {"rules/broken.yml": BROKEN_YAML})
    sources["attack-enterprise"] = written(tmp_path, *ordinary(400))

    def start(name: str) -> Fork:
        folders = {"state_dir": str(tmp_path / name), "cache_dir": str(tmp_path / "cache")}
        arguments = {"sources": sources, "settings": folders | settings_of(world.bootstrap)}
        return forks.start("tests.flow.targets:fetch_all", tmp_path / f"{name}.log", **arguments)

    assert start("quiet").wait(300) == 0, (tmp_path / "quiet.log").read_text()
    wanted = published(world)
    clear(world.endpoints)
    create_topics(world.bootstrap)

    kill_at_random(lambda: start("killed"), KILLS, LONGEST_S, random)
    assert start("killed").wait(300) == 0, (tmp_path / "killed.log").read_text()
    assert published(world) == wanted
    assert {topic for topic, _ in wanted} >= {topic.name for topic in EVENT_TOPICS[:2]}
