"""Events into Neo4j: one transaction a batch holds the rows and the positions they bring the graph to.

Order of effects: 1 decode, and reject what Neo4j can't hold, 2 rows, 3 UNWIND + MERGE per label and type,
4 the positions, 5 commit in Neo4j. Only then does the caller commit in Kafka. A row is written only where
nothing newer stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString, cast

from neo4j import Driver, ManagedTransaction

from schemas.errors import BadRecord
from schemas.events import Event, Relationship, Template
from streams.app.dead_letters import decoded, rejecter
from streams.app.sink import Message, Place
from streams.core.graph_rows import NODE_LABEL, EdgeRow, GraphRows, NodeRow, batch_rows
from transport.kafka import RecordProducer
from transport.neo4j import neo4j_errors

CONSTRAINTS: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT stream_place IF NOT EXISTS FOR (p:StreamPosition) REQUIRE (p.topic, p.partition) IS UNIQUE",
    "CREATE INDEX entity_name IF NOT EXISTS FOR (n:Entity) ON (n.name)",
)

MAX_INDEXED_BYTES = 8_000
"""Neo4j refuses an indexed value of more than 8,175 bytes, and with it the whole transaction."""

MAX_INTEGER = 2**63 - 1
"""Neo4j's largest."""

_NEWER = """WITH {it}, row WHERE {it}.modified_ms IS NULL OR row.modified_ms > {it}.modified_ms
  OR (row.modified_ms = {it}.modified_ms AND row.offset >= {it}.offset)
SET {it} += row.properties, {it}.modified_ms = row.modified_ms, {it}.offset = row.offset"""

_NODES = f"""UNWIND $rows AS row
MERGE (n:{NODE_LABEL} {{id: row.id}})
{_NEWER.format(it="n")}, n:`%s`"""

_EDGES = f"""UNWIND $rows AS row
MERGE (a:{NODE_LABEL} {{id: row.source}})
MERGE (b:{NODE_LABEL} {{id: row.target}})
MERGE (a)-[r:`%s` {{id: row.id}}]->(b)
{_NEWER.format(it="r")}"""

_POSITIONS = """UNWIND $rows AS row
MERGE (p:StreamPosition {topic: row.topic, partition: row.partition})
SET p.next = CASE WHEN p.next > row.next THEN p.next ELSE row.next END"""


def create_constraints(driver: Driver) -> None:
    """Create the constraints and indexes that are not there yet."""
    with neo4j_errors("creating constraints"):
        for statement in CONSTRAINTS:
            driver.execute_query(statement)


class GraphSink:
    """Writes the graph.

    Args:
        driver: Of the Neo4j that holds it.
        outbox: For dead letters.
    """

    def __init__(self, driver: Driver, outbox: RecordProducer) -> None:
        self._driver = driver
        self._outbox = outbox
        self._reject = rejecter(outbox)

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """What the graph itself says: the next offset of each place, 0 where it has none."""
        with neo4j_errors("reading positions"):
            found, _, _ = self._driver.execute_query(
                "MATCH (p:StreamPosition) RETURN p.topic AS topic, p.partition AS partition, p.next AS next"
            )
        known = {(row["topic"], row["partition"]): row["next"] for row in found}
        return {place: known.get(place, 0) for place in places}

    def take(self, messages: Sequence[Message]) -> None:
        """See `Sink.take`."""
        batch = batch_rows((event, message.offset) for message, event in self._storable(messages))
        with neo4j_errors(f"writing {len(messages)} events"), self._driver.session() as session:
            session.execute_write(_write, batch, _ends(messages))
        self._outbox.flush()

    def _storable(self, messages: Sequence[Message]) -> Iterator[tuple[Message, Event]]:
        for message, event in decoded(messages, Event, self._reject):
            try:
                _check(event)
            except BadRecord as error:
                self._reject(message, error)
            else:
                yield message, event


def _check(event: Event) -> None:
    """One event that Neo4j refuses would hold up all that come after it."""
    for time_ms in (event.created_ms, event.modified_ms):
        if not -MAX_INTEGER - 1 <= time_ms <= MAX_INTEGER:
            raise BadRecord("out-of-range", f"{event.id[:100]}: time {time_ms} does not fit 64 bits")
    for text in _indexed(event):
        if 4 * len(text) > MAX_INDEXED_BYTES and len(text.encode()) > MAX_INDEXED_BYTES:
            raise BadRecord(
                "too-long",
                f"{text[:100]}...: {len(text)} characters; ids and names may have {MAX_INDEXED_BYTES} bytes",
            )


def _indexed(event: Event) -> tuple[str, ...]:
    """What an event brings into the indexes of the graph."""
    match event:
        case Relationship():
            return event.source.id, event.target.id
        case Template():
            return event.id, event.name, *event.techniques, *event.cves
    return event.id, event.name


def _write(transaction: ManagedTransaction, batch: GraphRows, ends: list[dict[str, Any]]) -> None:
    for label, nodes in _grouped(batch.nodes, lambda node: node.label):
        _run(transaction, _NODES % label, [_node_row(node) for node in nodes])
    for kind, edges in _grouped(batch.edges, lambda edge: edge.type):
        _run(transaction, _EDGES % kind, [_edge_row(edge) for edge in edges])
    _run(transaction, _POSITIONS, ends)


def _run(transaction: ManagedTransaction, statement: str, rows: list[dict[str, Any]]) -> None:
    # Labels and types come from streams.core.graph_rows, where they are reduced to letters, digits and _.
    transaction.run(cast(LiteralString, statement), rows=rows).consume()


def _node_row(node: NodeRow) -> dict[str, Any]:
    modified_ms, offset = node.revision
    return {"id": node.id, "modified_ms": modified_ms, "offset": offset, "properties": node.properties}


def _edge_row(edge: EdgeRow) -> dict[str, Any]:
    modified_ms, offset = edge.revision
    return {
        "id": edge.id,
        "source": edge.source,
        "target": edge.target,
        "modified_ms": modified_ms,
        "offset": offset,
        "properties": edge.properties,
    }


def _grouped(rows: Iterable[Any], by: Any) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    return sorted(groups.items())


def _ends(messages: Sequence[Message]) -> list[dict[str, Any]]:
    ends: dict[Place, int] = {}
    for message in messages:
        place = (message.topic, message.partition)
        ends[place] = max(ends.get(place, 0), message.offset + 1)
    return [
        {"topic": topic, "partition": partition, "next": end} for (topic, partition), end in sorted(ends.items())
    ]
