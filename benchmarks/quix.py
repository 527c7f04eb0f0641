"""The path from the topics to the graph as a Quix Streams application with its own `Neo4jSink`.

It runs in a separate virtual environment, without our packages: `python benchmarks/quix.py '{"argument": ...}'`.
The time is measured from the first message that reaches a sink to the end of the last transaction.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

# Quix Streams is not installed where the types are checked.
from quixstreams import Application  # type: ignore[import-not-found]
from quixstreams.kafka.configuration import ConnectionConfig  # type: ignore[import-not-found]
from quixstreams.sinks.community.neo4j import Neo4jSink  # type: ignore[import-not-found]

NEWER = """WITH {it}, event, __timestamp AS at
WHERE {it}.modified_ms IS NULL OR event.modified_ms > {it}.modified_ms
  OR (event.modified_ms = {it}.modified_ms AND at >= {it}.offset)
SET {it} += {properties}, {it}.modified_ms = coalesce(event.modified_ms, 0), {it}.offset = at"""

NODE = """text: coalesce(event.text, ""), feed: event.feed, release: event.release,
  status: coalesce(event.status, "active"), revoked_by: coalesce(event.revoked_by, ""),
  created_ms: coalesce(event.created_ms, 0), name: event.name"""

TECHNIQUES = "MERGE (n:Entity {id: event.id})\n" + NEWER.format(
    it="n",
    properties="{"
    + NODE
    + """, stix_id: event.stix_id, tactics: coalesce(event.tactics, []),
  platforms: coalesce(event.platforms, []), domain: event.domain}, n:Technique""",
)
ENTITIES = "MERGE (n:Entity {id: event.id})\n" + NEWER.format(
    it="n",
    properties="{"
    + NODE
    + """, external_id: coalesce(event.external_id, ""),
  aliases: coalesce(event.aliases, [])}, n:$(event.label)""",
)
RELATIONSHIPS = """MERGE (a:Entity {id: event.source.id})
MERGE (b:Entity {id: event.target.id})
MERGE (a)-[r:%s {id: event.id}]->(b)
""" + NEWER.format(
    it="r",
    properties="""{text: coalesce(event.text, ""), feed: event.feed, release: event.release,
  status: coalesce(event.status, "active"), created_ms: coalesce(event.created_ms, 0)}""",
)
# One sink per type: a single sink for all of them, with `$(event.type)` in its query, takes three times as long.
RELATIONS = ("uses", "detects", "mitigates", "subtechnique-of", "revoked-by", "attributed-to")


class TimedSink(Neo4jSink):  # type: ignore[misc]
    """A `Neo4jSink` that records when its first message arrived and when its last transaction ended, seconds."""

    first = last = 0.0

    def add(self, *args: Any, **kwargs: Any) -> None:
        """See `BatchingSink.add`."""
        TimedSink.first = TimedSink.first or time.monotonic()
        super().add(*args, **kwargs)

    def write(self, batch: Any) -> None:
        """See `BatchingSink.write`."""
        super().write(batch)
        TimedSink.last = time.monotonic()


def main(bootstrap: str, neo4j: str, group: str, topics: list[str], events: int, every: int, chunk: int) -> None:
    """Write events to the graph, and print the number of events and the seconds as JSON.

    Args:
        bootstrap: host:port of Kafka.
        neo4j: URI of Neo4j.
        group: The consumer group.
        topics: Names of the topics of techniques, entities and relationships.
        events: Number of events on the topics.
        every: Number of messages after which to commit, and so to write; 0: the default, every 5 s.
        chunk: Rows per statement.
    """
    host, _, port = neo4j.rpartition("/")[2].partition(":")

    def sink(query: str) -> TimedSink:
        login = (os.environ["SX9_NEO4J_USER"], os.environ["SX9_NEO4J_PASSWORD"])
        return TimedSink(host, int(port), *login, query, chunk_size=chunk, notifications_min_severity="OFF")

    app = Application(
        broker_address=connection(bootstrap), consumer_group=group, auto_offset_reset="earliest",
        loglevel="WARNING", commit_every=every, auto_create_topics=False,
    )  # fmt: skip
    techniques, entities, relationships = (app.dataframe(app.topic(name)) for name in topics)
    techniques.sink(sink(TECHNIQUES))
    entities.update(_label).sink(sink(ENTITIES))
    for relation in RELATIONS:
        of_type = relationships.filter(lambda event, relation=relation: event["relation"] == relation)
        of_type.sink(sink(RELATIONSHIPS % relation.upper().replace("-", "_")))
    app.run(count=events, timeout=10)
    print(json.dumps({"events": events, "seconds": TimedSink.last - TimedSink.first}), flush=True)


def connection(bootstrap: str) -> ConnectionConfig:
    """How to log in to the Kafka of the benchmark."""
    return ConnectionConfig(
        bootstrap_servers=bootstrap, security_protocol="sasl_plaintext", sasl_mechanism="PLAIN",
        sasl_username=os.environ["SX9_KAFKA_USER"], sasl_password=os.environ["SX9_KAFKA_PASSWORD"],
    )  # fmt: skip


def _label(event: dict[str, Any]) -> None:
    event["label"] = event["kind"].title().replace("-", "")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
