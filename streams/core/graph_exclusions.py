"""What of the graph is left out, event by event; see `schemas.exclusions`.

feed=NAME, source=...   all rows of an event
entity=ID               its node, and the edges that begin or end there
"""

from __future__ import annotations

from schemas.events import Event
from schemas.exclusions import is_excluded
from schemas.journal import Example, Source
from streams.core.graph_rows import EdgeRow, GraphRows, event_rows

_ENTITY = "entity="


def is_left_out(event: Event, source: Source, exclusions: tuple[str, ...]) -> bool:
    """Whether all that an event says is left out.

    Args:
        event: The event.
        source: Its topic, partition and offset.
        exclusions: What is left out.
    """
    if not exclusions:
        return False
    place = Source(source.topic, source.partition, source.offset, feed=event.feed)
    return is_excluded(Example(source=place, key=event.id, hash=""), exclusions)


def without_entities(rows: GraphRows, exclusions: tuple[str, ...]) -> GraphRows:
    """The rows that are left without the nodes of entities and their edges."""
    names = {each.removeprefix(_ENTITY) for each in exclusions if each.startswith(_ENTITY)}
    if not names:
        return rows
    return GraphRows(
        tuple(node for node in rows.nodes if node.id not in names),
        tuple(edge for edge in rows.edges if not names & _names(edge)),
    )


def rows_left_out(event: Event, source: Source, exclusions: tuple[str, ...]) -> GraphRows:
    """The rows of an event that are not in the graph because of exclusions."""
    rows = event_rows(event, source.offset)
    if is_left_out(event, source, exclusions):
        return rows
    kept = without_entities(rows, exclusions)
    return GraphRows(
        tuple(node for node in rows.nodes if node not in kept.nodes),
        tuple(edge for edge in rows.edges if edge not in kept.edges),
    )


def _names(edge: EdgeRow) -> set[str]:
    return {edge.id, edge.source, edge.target}
