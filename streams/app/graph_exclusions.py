"""Takes out of the graph what a lineage change of `gnn-threat` leaves out, and puts back what one takes back.

    1 note what is left out now; all later transactions of every worker leave it out (`GraphSink`)
    2 wait for the transactions that began before
    3 read all events: which nodes and edges said those that are left out, before or now?
    4 remove these edges, and what these nodes say
    5 read all events again, and write those of the nodes and edges that are not left out now
    6 remove the nodes of which nothing says anything any more
    7 note that it is done

So the graph is what it would be had the events that are left out never come. What others say stays. A process that
is killed begins again at 1: each step can be repeated.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import msgspec

from schemas.codec import decode
from schemas.errors import BadRecord
from schemas.events import Event
from schemas.journal import Source
from streams.app.sink import ConsumedMessage
from streams.core.graph_exclusions import is_left_out, rows_left_out, without_entities
from streams.core.graph_rows import NODE_LABEL, event_rows
from transport.neo4j import EMBEDDING_PREFIX, neo4j_errors

if TYPE_CHECKING:
    from neo4j import Driver, ManagedTransaction

log = logging.getLogger(__name__)

ReadEvents = Callable[[], Iterator[list[ConsumedMessage]]]
"""Reads all events from the beginning, in lists that each are of one partition."""
Placed = tuple[ConsumedMessage, Event]
Rewrite = Callable[[Sequence[Placed]], None]

ROWS_PER_TRANSACTION = 1_000

_NAMES: LiteralString = "MATCH (e:GraphExclusions) RETURN e.names AS names, e.unfinished AS unfinished"
_BEGIN: LiteralString = "MERGE (e:GraphExclusions {one: 1}) SET e.names = $names, e.unfinished = $unfinished"
_END: LiteralString = "MATCH (e:GraphExclusions) SET e.unfinished = null"
_WAIT: LiteralString = "MATCH (p:StreamPosition) SET p.topic = p.topic"
"""Each transaction that writes events has locked its positions first."""

_REMOVE_EDGES = f"""UNWIND $rows AS row
MATCH (:{NODE_LABEL} {{id: row.source}})-[r:`%s` {{id: row.id}}]->() DELETE r"""

_EMPTY_NODES = f"""UNWIND $ids AS id
MATCH (n:{NODE_LABEL} {{id: id}})
FOREACH (key IN [k IN keys(n) WHERE k <> 'id' AND NOT k STARTS WITH '{EMBEDDING_PREFIX}'] | REMOVE n[key])
FOREACH (label IN [l IN labels(n) WHERE l <> '{NODE_LABEL}'] | REMOVE n:$(label))"""

_ALONE = f"""UNWIND $ids AS id
MATCH (n:{NODE_LABEL} {{id: id}}) WHERE n.modified_ms IS NULL AND NOT (n)--()
"""
_FIND_ALONE = f"{_ALONE} RETURN id"
_REMOVE_ALONE = f"{_ALONE} DELETE n"


class _Touched(msgspec.Struct):
    """What the events say that are left out, before or now: ids of nodes, (type, source, id) of edges, and all ends
    of these edges."""

    nodes: set[str] = msgspec.field(default_factory=set)
    edges: set[tuple[str, str, str]] = msgspec.field(default_factory=set)
    ends: set[str] = msgspec.field(default_factory=set)


class GraphExclusions:
    """What the graph leaves out.

    Args:
        driver: Of the Neo4j that holds the graph.
        read_events: Reads the events.
    """

    def __init__(self, driver: Driver, read_events: ReadEvents) -> None:
        self._driver = driver
        self._read_events = read_events

    @staticmethod
    def names(transaction: ManagedTransaction) -> tuple[str, ...]:
        """What is left out, as a transaction sees it. It must have locked a position before."""
        found = transaction.run(_NAMES).single()
        return tuple(found["names"]) if found else ()

    def change(self, names: tuple[str, ...], rewrite: Rewrite) -> None:
        """Leave out other things from here on. What is left out already changes nothing.

        Args:
            names: All that is left out.
            rewrite: Writes events, in order, in transactions that leave out what `names` says.

        Raises:
            RetryLater: Neo4j or Kafka does not answer; the next call begins again.
            Corrupt: The topics no longer have all events, so what others say can't be told.
        """
        with neo4j_errors("changing what the graph leaves out"):
            concerned = self._begin(names)
            if concerned is None:
                return
            log.info("the graph leaves out %s now: reading all events twice", ", ".join(names) or "nothing")
            touched = self._touched(concerned)
            alone = self._remove(touched)
            written, mentioned = self._write_again(touched, alone, names, rewrite)
            gone = sorted(alone - mentioned)
            for part in _parts(gone):
                self._run(_REMOVE_ALONE, ids=part)
            self._driver.execute_query(_END)
        log.info(
            "the graph: %d nodes and %d edges were concerned, %d nodes are gone; %d events of others were written "
            "again", len(touched.nodes), len(touched.edges), len(gone), written,
        )  # fmt: skip

    def _begin(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """Note what is left out. Returns what was, or is now; None if the graph is so already."""
        found = self._driver.execute_query(_NAMES).records
        before = tuple(found[0]["names"]) if found else ()
        unfinished = found[0]["unfinished"] if found else None
        if unfinished is None and set(before) == set(names):
            return None
        concerned = tuple(sorted({*before, *(unfinished or ()), *names}))
        self._driver.execute_query(_BEGIN, names=list(names), unfinished=list(concerned))
        self._driver.execute_query(_WAIT)
        return concerned

    def _touched(self, concerned: tuple[str, ...]) -> _Touched:
        touched = _Touched()
        for message, event in self._events():
            rows = rows_left_out(event, _source(message), concerned)
            touched.nodes.update(node.id for node in rows.nodes)
            for edge in rows.edges:
                touched.edges.add((edge.type, edge.source, edge.id))
                touched.ends.update((edge.source, edge.target))
        return touched

    def _remove(self, touched: _Touched) -> set[str]:
        """Remove what was said. Returns the nodes of which only the id is left."""
        by_type: dict[str, list[dict[str, str]]] = defaultdict(list)
        for kind, source, id_ in sorted(touched.edges):
            by_type[kind].append({"source": source, "id": id_})
        for kind, rows in by_type.items():
            for part in _parts(rows):
                self._run(_REMOVE_EDGES % kind, rows=part)
        for part in _parts(sorted(touched.nodes)):
            self._run(_EMPTY_NODES, ids=part)
        alone: set[str] = set()
        for part in _parts(sorted(touched.nodes | touched.ends)):
            alone.update(row["id"] for row in self._run(_FIND_ALONE, ids=part))
        return alone

    def _write_again(
        self, touched: _Touched, alone: set[str], names: tuple[str, ...], rewrite: Rewrite
    ) -> tuple[int, set[str]]:
        """Write what others say of the nodes and edges. Returns the number of events, and the nodes they name."""
        edges = {id_ for _, _, id_ in touched.edges}
        written, mentioned, waiting = 0, set[str](), list[Placed]()
        for message, event in self._events():
            if is_left_out(event, _source(message), names):
                continue
            rows = without_entities(event_rows(event, message.offset), names)
            ends = {end for edge in rows.edges for end in (edge.source, edge.target)}
            concerned = any(node.id in touched.nodes for node in rows.nodes) or not alone.isdisjoint(ends)
            if concerned or any(edge.id in edges for edge in rows.edges):
                waiting.append((message, event))
                mentioned.update(ends, (node.id for node in rows.nodes))
                written += 1
            if len(waiting) == ROWS_PER_TRANSACTION:
                rewrite(waiting)
                waiting = []
        rewrite(waiting)
        return written, mentioned

    def _events(self) -> Iterator[Placed]:
        for message in itertools.chain.from_iterable(self._read_events()):
            with contextlib.suppress(BadRecord):  # a dead letter already
                yield message, decode(message.value, Event)

    def _run(self, statement: str, **parameters: Any) -> list[Any]:
        # Types are from streams.core.graph_rows: only letters, digits and _.
        records: list[Any] = self._driver.execute_query(statement, parameters).records
        return records


def _source(message: ConsumedMessage) -> Source:
    return Source(message.topic, message.partition, message.offset)


def _parts(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rows = list(rows)
    for start in range(0, len(rows), ROWS_PER_TRANSACTION):
        yield rows[start : start + ROWS_PER_TRANSACTION]
