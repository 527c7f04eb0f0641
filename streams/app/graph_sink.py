"""Writes events to Neo4j in transactions of bounded size, which hold the rows and the new positions.

Order of effects: 1 decode, and make a dead letter of what Neo4j can't store, 2 positions, which locks them, 3 rows
of what is not left out, 4 UNWIND + MERGE per label and type, 5 commit in Neo4j. Only then does the caller commit in
Kafka. A row never overwrites a newer revision. A transaction for which Neo4j has too little memory is divided in
two; an event that is too much alone, although Neo4j can write, becomes a dead letter.

What a lineage change of `GRAPH_MODEL` leaves out, the graph leaves out (`graph_exclusions`). The sink learns of it
from `model.versions.v1`, and from no memory of its own: a graph that is made again leaves out the same.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from kafka import TopicPartition

from schemas.errors import BadRecord
from schemas.events import Entity, Event, Relationship, Report, Template
from schemas.journal import Source
from schemas.topics import VERSIONS
from schemas.versions import VersionEvent
from streams.app.dead_letters import dead_letter_writer, decode_messages
from streams.app.graph_exclusions import GraphExclusions, ReadEvents
from streams.app.sink import ConsumedMessage
from streams.core.graph_exclusions import is_left_out, without_entities
from streams.core.graph_rows import (
    NAMING,
    NODE_LABEL,
    TECHNIQUE,
    WITHDRAWN,
    EdgeRow,
    GraphRows,
    NodeRow,
    batch_rows,
)
from transport.kafka import RecordProducer
from transport.neo4j import OutOfMemory, neo4j_errors, out_of_memory_errors
from transport.retry import retry
from transport.topics import TopicIds

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from neo4j import Driver, ManagedTransaction

CONSTRAINTS: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT stream_position IF NOT EXISTS FOR (p:StreamPosition) "
    "REQUIRE (p.topic, p.partition) IS UNIQUE",
    "CREATE INDEX entity_name IF NOT EXISTS FOR (n:Entity) ON (n.name)",
)

GRAPH_MODEL = "gnn-threat"
"""The model that learns the graph: what its lineage leaves out, the graph does."""

MAX_INDEXED_BYTES = 8_000
"""Longest indexed value. Neo4j refuses a transaction with one of more than 8,175 bytes."""

MAX_TRANSACTION_BYTES = 8_000_000
"""Bytes of message values in one transaction. Neo4j needs several times as much of its heap.

A batch of events of 1 kB, as most are, does not reach it."""

MEMORY_WAIT_S = 10.0
"""How long a single event waits for memory that others use, seconds."""

MAX_INTEGER = 2**63 - 1
"""Largest integer of Neo4j."""

DecodedMessage = tuple[ConsumedMessage, Event | None]
"""A message and its event; None if it became a dead letter."""

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

_MOVED = f"""UNWIND $rows AS row
MATCH (:{NODE_LABEL} {{id: row.source}})-[r:`%s`]->() WHERE r.id IN row.ids
WITH r.id AS id, collect(r) AS edges WHERE size(edges) > 1
UNWIND edges AS r
WITH id, r ORDER BY r.modified_ms DESC, r.offset DESC
WITH id, collect(r)[1..] AS older
UNWIND older AS r DELETE r"""
"""Of an edge that has another target now only the newest revision is kept."""

_DROPPED = f"""UNWIND $rows AS row
MATCH (n:{NODE_LABEL} {{id: row.id}})-[r:REFERENCES|MENTIONS]->()
WHERE r.status <> '{WITHDRAWN}'
  AND (r.modified_ms < n.modified_ms OR (r.modified_ms = n.modified_ms AND r.offset < n.offset))
SET r.status = '{WITHDRAWN}'"""
"""What the newest revision of a node does not name any more."""

_POSITIONS = """UNWIND $rows AS row
MERGE (p:StreamPosition {topic: row.topic, partition: row.partition})
SET p.next = CASE WHEN p.next > row.next THEN p.next ELSE row.next END, p.topic_id = row.topic_id"""

_REPLACED: LiteralString = """MATCH (p:StreamPosition) WHERE p.topic_id <> $ids[p.topic]
RETURN collect(DISTINCT p.topic) AS topics"""

_FORGET: tuple[LiteralString, ...] = (
    f"MATCH (n:{NODE_LABEL}) WHERE n.offset > -1 SET n.offset = -1",
    f"MATCH (:{NODE_LABEL})-[r]->() WHERE r.offset > -1 SET r.offset = -1",
    "MATCH (p:StreamPosition) WHERE p.topic IN $topics DELETE p",
)

_ADOPT: LiteralString = """MATCH (p:StreamPosition)
SET p.topic_id = coalesce(p.topic_id, $ids[p.topic])
RETURN p.topic AS topic, p.partition AS partition, p.next AS next"""


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
        topics: Ids of the topics that are read.
        read_events: Reads all events, for a change of what is left out.
    """

    def __init__(
        self,
        driver: Driver,
        producer: RecordProducer,
        topics: TopicIds,
        read_events: ReadEvents = lambda: iter(()),
    ) -> None:
        self._topics = topics
        self._exclusions = GraphExclusions(driver, read_events)
        self._driver = driver
        self._producer = producer
        self._write_dead_letter = dead_letter_writer(producer)

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Nothing is to be prepared: the graph itself says what it has."""

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The positions that are stored in the graph; 0 for a partition that has none.

        A position in a topic that was deleted and made again is dropped, and so are the offsets of all rows: they
        order nothing any more. A position without the id of its topic is of the topic that is there now.
        """
        ids = {name: self._topics[name] for name in {partition.topic for partition in partitions}}
        with neo4j_errors("reading positions"):
            replaced = self._driver.execute_query(_REPLACED, ids=ids).records[0]["topics"]
            if replaced:
                log.warning("%s: made again since the graph was written; read from the beginning", replaced)
                for statement in _FORGET:
                    self._driver.execute_query(statement, topics=replaced)
                if VERSIONS.name in replaced:  # the new one has no lineage change yet
                    self._exclusions.change((), self._write_again)
            found, _, _ = self._driver.execute_query(_ADOPT, ids=ids)
        stored = {TopicPartition(row["topic"], row["partition"]): row["next"] for row in found}
        return {partition: stored.get(partition, 0) for partition in partitions}

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`."""
        self._topics.check()
        self._follow([message for message in messages if message.topic == VERSIONS.name])
        for part in _parts([message for message in messages if message.topic != VERSIONS.name]):
            events = {id(message): event for message, event in self._storable(part)}
            self._producer.flush()  # the dead letters, before the positions pass over their messages
            self._write_part([(message, events.get(id(message))) for message in part])

    def _follow(self, messages: Sequence[ConsumedMessage]) -> None:
        """Leave out what the latest lineage change of the model among some version events does."""
        if not messages:
            return
        for _, event in decode_messages(messages, VersionEvent, self._write_dead_letter):
            if event.model == GRAPH_MODEL and event.exclusions is not None:
                self._exclusions.change(event.exclusions, self._write_again)
        self._producer.flush()
        self._write_transaction([], _positions(messages))

    def _write_again(self, events: Sequence[DecodedMessage]) -> None:
        """Write events that were read again, and no positions; what became a dead letter is passed over."""
        messages = {id(message): event for message, event in events}
        for part in _parts([message for message, event in events if event and not _why_not(event)]):
            self._write_halves([(message, messages[id(message)]) for message in part])

    def _write_halves(self, events: Sequence[DecodedMessage]) -> None:
        try:
            self._write_transaction(events, [])
        except OutOfMemory as error:
            if len(events) == 1:
                log.warning("%s: passed over, it is a dead letter already: %s", events[0][0].topic_partition, error)
                return
            self._write_halves(events[: len(events) // 2])
            self._write_halves(events[len(events) // 2 :])

    def _write_part(self, part: Sequence[DecodedMessage]) -> None:
        """Write events and the positions after their messages; in halves if Neo4j has too little memory."""
        if len(part) == 1:
            self._write_single(*part[0])
            return
        try:
            self._write_transaction(
                [event for event in part if event[1]], _positions(message for message, _ in part)
            )
        except OutOfMemory as error:
            log.warning("%s; writing them in two halves", error)
            self._write_part(part[: len(part) // 2])
            self._write_part(part[len(part) // 2 :])

    def _write_single(self, message: ConsumedMessage, event: Event | None) -> None:
        """Write one event. If it is too much although Neo4j can write, it becomes a dead letter."""
        events = [(message, event)] if event else []
        try:
            retry(lambda: self._write_transaction(events, _positions([message])), MEMORY_WAIT_S)
        except OutOfMemory as error:
            if not events:
                raise
            self._write_transaction([], _positions([message], after=0))  # raises if the event is not the cause
            self._write_dead_letter(message, BadRecord("too-large-for-graph", str(error)))
            self._producer.flush()
            self._write_transaction([], _positions([message]))

    def _write_transaction(self, events: Sequence[DecodedMessage], positions: list[dict[str, Any]]) -> None:
        positions = [row | {"topic_id": self._topics[row["topic"]]} for row in positions]
        with neo4j_errors(f"writing {len(events)} events"), self._driver.session() as session:
            session.execute_write(_write_rows, events, positions)

    def _storable(self, messages: Sequence[ConsumedMessage]) -> Iterator[tuple[ConsumedMessage, Event]]:
        """(message, event) of the messages that Neo4j can store; the others become dead letters."""
        for message, event in decode_messages(messages, Event, self._write_dead_letter):
            try:
                _check(event)
            except BadRecord as error:
                self._write_dead_letter(message, error)
            else:
                yield message, event


def _why_not(event: Event) -> str:
    """Why Neo4j can't store an event; empty if it can."""
    try:
        _check(event)
    except BadRecord as error:
        return str(error)
    return ""


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
        case Template() | Entity():
            return event.id, event.name, *event.techniques, *event.cves
        case Report():
            return event.id, event.name, *(span.id for span in event.spans)
    return event.id, event.name


def _write_rows(
    transaction: ManagedTransaction, events: Sequence[DecodedMessage], positions: list[dict[str, Any]]
) -> None:
    with out_of_memory_errors("writing a batch"):  # the driver would try the same batch again for half a minute
        _run(transaction, _POSITIONS, positions)  # first: a change of what is left out waits for their locks
        _run_rows(transaction, _rows_of(events, GraphExclusions.names(transaction)))


def _rows_of(events: Sequence[DecodedMessage], left_out: tuple[str, ...]) -> GraphRows:
    kept = ((event, message) for message, event in events if event)
    if left_out:
        kept = ((e, m) for e, m in kept if not is_left_out(e, Source(m.topic, m.partition, m.offset), left_out))
    return without_entities(batch_rows((event, message.offset) for event, message in kept), left_out)


def _run_rows(transaction: ManagedTransaction, rows: GraphRows) -> None:
    for label, nodes in _grouped(rows.nodes, lambda node: node.label):
        _run(transaction, _NODES % label, [_node_row(node) for node in nodes])
    for kind, edges in _grouped(rows.edges, lambda edge: edge.type):
        _run(transaction, _EDGES % kind, [_edge_row(edge) for edge in edges])
        if kind not in NAMING:
            _run(transaction, _MOVED % kind, _ids_by_source(edges))
    _run(transaction, _DROPPED, [{"id": node.id} for node in rows.nodes if node.label != TECHNIQUE])


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


def _ids_by_source(edges: Iterable[EdgeRow]) -> list[dict[str, Any]]:
    """The ids of the edges of each source, so that a query walks the edges of a source only once."""
    by_source = _grouped(edges, lambda edge: edge.source)
    return [{"source": source, "ids": [edge.id for edge in of_source]} for source, of_source in by_source]


def _grouped(rows: Iterable[Any], by: Any) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    return sorted(groups.items())


def _positions(messages: Iterable[ConsumedMessage], after: int = 1) -> list[dict[str, Any]]:
    """The offset after the last message of each partition; with `after=0`, of the last message itself."""
    ends: dict[TopicPartition, int] = {}
    for message in messages:
        partition = message.topic_partition
        ends[partition] = max(ends.get(partition, 0), message.offset + after)
    return [{"topic": topic, "partition": number, "next": end} for (topic, number), end in sorted(ends.items())]


def _parts(messages: Sequence[ConsumedMessage]) -> Iterator[list[ConsumedMessage]]:
    """The messages in order, in parts of at most `MAX_TRANSACTION_BYTES`, or of one message."""
    part: list[ConsumedMessage] = []
    size = 0
    for message in messages:
        if part and size + len(message.value) > MAX_TRANSACTION_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message.value)
    if part:
        yield part
