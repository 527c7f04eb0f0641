"""The graph role takes out what an excluded feed said, while it catches up, and puts it back, while it is live."""

from __future__ import annotations

from typing import Any

from schemas.codec import encode
from schemas.topics import VERSIONS
from schemas.versions import VersionEvent
from streams.app.graph_sink import GRAPH_MODEL
from tests.flow.graph import expected_graph, positions, stored_graph
from tests.flow.roles import terminate
from tests.flow.test_killed import ends
from tests.flow.world import World
from tests.streams.app.test_graph_exclusions import of_two_feeds


def change(*names: str) -> bytes:
    return encode(
        VersionEvent(
            model=GRAPH_MODEL, version="v1001", outcome="promoted", request=f"r{len(names)}", exclusions=names
        )
    )


def expected(world: World, without: str = "") -> Any:
    """The graph that the events on the topics describe, without those of a feed."""
    return expected_graph((event, m.offset) for m, event in world.events() if event.feed != without)


def test_the_role_forgets_a_feed_that_was_excluded_and_takes_it_back(world: World) -> None:
    events = of_two_feeds(120, 6)
    world.publish(events[:80])
    world.put(VERSIONS, 0, change("feed=odd"))
    with world.role("graph") as one:
        one.live()
        one.until(lambda: stored_graph(world.driver) == expected(world, "odd"), "a graph without the feed")
        world.publish(events[80:])
        one.until(lambda: positions(world.driver) == ends(world), "the graph at the end of the topics")
        assert stored_graph(world.driver) == expected(world, "odd")
        world.put(VERSIONS, 0, change())
        one.until(lambda: stored_graph(world.driver) == expected(world), "the feed in the graph again")
        terminate(one)
