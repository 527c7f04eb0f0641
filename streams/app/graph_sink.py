"""Writes events to Neo4j: one transaction per batch holds the rows and the new positions.

Order of effects: 1 decode, and make a dead letter of what Neo4j can't store, 2 rows, 3 UNWIND + MERGE per label and
type, 4 positions, 5 commit in Neo4j. Only then does the caller commit in Kafka. A row never overwrites a newer
revision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString

from kafka import TopicPartition
from neo4j import Driver, ManagedTransaction

from schemas.errors import BadRecord
from schemas.events import Event, Relationship, Template
from streams.app.dead_letters import dead_letter_writer, decode_messages
from streams.app.sink import ConsumedMessage
from streams.core.graph_rows import NODE_LABEL, EdgeRow, GraphRows, NodeRow, batch_rows
from transport.kafka import RecordProducer
from transport.neo4j import neo4j_errors

CONSTRAINTS: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT stream_position IF NOT EXISTS FOR (p:StreamPosition) "
    "REQUIRE (p.topic, p.partition) IS UNIQUE",
    "CREATE INDEX entity_name IF NOT EXISTS FOR (n:Entity) ON (n.name)",
)

MAX_INDEXED_BYTES = 8_000
"""Longest indexed value. Neo4j refuses a transaction with one of more than 8,175 bytes."""

MAX_INTEGER = 2**63 - 1
"""Largest integer of Neo4j."""

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
    """Create the missing constraints and indexes.

    Raises:
        RetryLater, BadConfiguration: See `transport.neo4j.neo4j_errors`.
    """
    with neo4j_errors("creating constraints"):
        for statement in CONSTRAINTS:
            driver.execute_query(statement)


class GraphSink:
    """Writes the graph.

    Args:
        driver: Driver of the Neo4j that holds it.
        producer: For dead letters.
    """

    def __init__(self, driver: Driver, producer: RecordProducer) -> None:
        self._driver = driver
        self._producer = producer
        self._write_dead_letter = dead_letter_writer(producer)

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The positions that are stored in the graph; 0 for a partition that has none."""
        with neo4j_errors("reading positions"):
            found, _, _ = self._driver.execute_query(
                "MATCH (p:StreamPosition) RETURN p.topic AS topic, p.partition AS partition, p.next AS next"
            )
        stored = {TopicPartition(row["topic"], row["partition"]): row["next"] for row in found}
        return {partition: stored.get(partition, 0) for partition in partitions}

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`."""
        rows = batch_rows((event, message.offset) for message, event in self._storable(messages))
        with neo4j_errors(f"writing {len(messages)} events"), self._driver.session() as session:
            session.execute_write(_write_rows, rows, _positions(messages))
        self._producer.flush()

    def _storable(self, messages: Sequence[ConsumedMessage]) -> Iterator[tuple[ConsumedMessage, Event]]:
        """(message, event) of the messages that Neo4j can store; the others become dead letters."""
        for message, event in decode_messages(messages, Event, self._write_dead_letter):
            try:
                _check(event)
            except BadRecord as error:
                self._write_dead_letter(message, error)
            else:
                yield message, event


def _check(event: Event) -> None:
    """Raise `BadRecord` for an event that Neo4j would refuse: it would block all events after it."""
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
    """The values of an event that go into indexes of the graph."""
    match event:
        case Relationship():
            return event.source.id, event.target.id
        case Template():
            return event.id, event.name, *event.techniques, *event.cves
    return event.id, event.name


def _write_rows(transaction: ManagedTransaction, rows: GraphRows, positions: list[dict[str, Any]]) -> None:
    for label, nodes in _grouped(rows.nodes, lambda node: node.label):
        _run(transaction, _NODES % label, [_node_row(node) for node in nodes])
    for kind, edges in _grouped(rows.edges, lambda edge: edge.type):
        _run(transaction, _EDGES % kind, [_edge_row(edge) for edge in edges])
    _run(transaction, _POSITIONS, positions)


def _run(transaction: ManagedTransaction, statement: str, rows: list[dict[str, Any]]) -> None:
    # Labels and types are from streams.core.graph_rows: only letters, digits and _.
    transaction.run(statement, rows=rows).consume()


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


def _positions(messages: Sequence[ConsumedMessage]) -> list[dict[str, Any]]:
    """The offset after the last message of each partition."""
    ends: dict[TopicPartition, int] = {}
    for message in messages:
        partition = message.topic_partition
        ends[partition] = max(ends.get(partition, 0), message.offset + 1)
    return [{"topic": topic, "partition": number, "next": end} for (topic, number), end in sorted(ends.items())]
