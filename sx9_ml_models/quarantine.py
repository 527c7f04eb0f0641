"""What is in quarantine, and the verdicts of people about it: journal records that the journal role follows.

sx9 quarantine release FEED ──> quarantine-verdict ──> journal ──journal role──> examples, in their order
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from kafka import KafkaConsumer

from schemas.errors import BadConfiguration
from schemas.journal import Held, QuarantineVerdict
from schemas.models import MODELS
from schemas.topics import JOURNAL, partition_of
from streams.app.replay import journal, state_now
from streams.core.fold import State
from streams.core.quarantine import Hold, waiting_records
from transport.kafka import RecordProducer, producer

Action = Literal["release", "purge"]

MAX_KEYS = 10_000
"""Entity keys that one verdict may name, so that it fits a message."""


def holds(reader: KafkaConsumer, snapshots_dir: Path, models: Sequence[str] = MODELS) -> list[dict[str, Any]]:
    """What waits, a row for each model and feed, in the order of the models.

    Args:
        reader: A consumer without a group.
        snapshots_dir: Folder of the snapshots of the fold.
        models: The models.

    Raises:
        RetryLater: Kafka does not answer.
    """
    return [row for model in models for row in rows_of(state_now(reader, model, snapshots_dir))]


def rows_of(state: State) -> list[dict[str, Any]]:
    """The rows of one model; see `holds`."""
    rows: dict[str, dict[str, Any]] = {}
    for partition, feed, hold in state.quarantine.holds():
        begins = {
            "model": state.model, "feed": feed, "waiting": 0, "reason": hold.why.reason, "value": hold.why.value,
            "limit": hold.why.limit, "since_ms": hold.since_ms, "partitions": [],
        }  # fmt: skip
        row = rows.setdefault(feed, begins)
        row["waiting"] += hold.waiting
        row["partitions"].append(partition)
    return list(rows.values())


def held(reader: KafkaConsumer, snapshots_dir: Path, feed: str, model: str) -> list[dict[str, Any]]:
    """The examples of a feed that wait, oldest first.

    Raises:
        BadConfiguration: Nothing of the feed waits; the message says what does.
        RetryLater: Kafka does not answer.
    """
    state = state_now(reader, model, snapshots_dir)
    found = {name: hold for name, of_feed, hold in state.quarantine.holds() if of_feed == feed}
    if not found:
        raise nothing_waits(feed, rows_of(state), model)
    return [
        {
            "offset": offset,
            "key": record.example.key,
            "reason": record.reason,
            "labels": list(record.example.labels),
            "retracted": record.example.retracted,
            "text": _text(record),
            "event": "/".join(map(str, msgspec.structs.astuple(record.example.source)[:3])),
            "observed_ms": record.example.observed_ms,
        }
        for offset, record in _waiting(reader, state, feed, found)
    ]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the examples of `held` have in common: how many there are, and of which labels."""
    labels = Counter(label for row in rows for label in row["labels"])
    return {
        "waiting": len(rows),
        "entities": len({row["key"] for row in rows}),
        "labels": dict(labels.most_common(5)),
    }


def decide(
    bootstrap: str,
    waiting: Sequence[dict[str, Any]],
    feed: str,
    action: Action,
    *,
    by: str,
    why: str,
    keys: Sequence[str] = (),
) -> list[str]:
    """Write a verdict to the journal of each model of which something of a feed waits.

    Args:
        bootstrap: host:port of Kafka.
        waiting: From `holds`.
        feed: The feed.
        action: `release` or `purge`.
        by, why: Who, and the reason.
        keys: Only the examples with these entity keys; empty: all.

    Returns:
        The models.

    Raises:
        BadConfiguration: There is no reason, or nothing of the feed waits.
        RetryLater: Kafka did not acknowledge all verdicts: give them again.
    """
    if not why.strip():
        raise BadConfiguration("why is empty: give the reason, it is kept in the log")
    if len(keys) > MAX_KEYS:
        raise BadConfiguration(f"{len(keys)} entities are named; the limit is {MAX_KEYS}: decide in several steps")
    models = [row["model"] for row in waiting if row["feed"] == feed]
    if not models:
        raise nothing_waits(feed, waiting)
    verdict = QuarantineVerdict(
        feed=feed, action=action, keys=tuple(keys), by=by, why=why, request=uuid.uuid4().hex,
        time_ms=int(time.time() * 1000),
    )  # fmt: skip
    writer = producer(bootstrap)
    try:
        records = RecordProducer(writer)
        for model in models:
            records.send(JOURNAL.name, verdict, key=model, partition=partition_of(model))
        records.flush()
    finally:
        writer.close(timeout=5)
    return models


def nothing_waits(feed: str, waiting: Sequence[dict[str, Any]], model: str = "") -> BadConfiguration:
    """The error for a feed of which nothing waits."""
    feeds = ", ".join(sorted({row["feed"] for row in waiting})) or "nothing"
    return BadConfiguration(
        f"nothing of {feed!r} waits in quarantine{f' of {model}' if model else ''}; what waits is of: {feeds} "
        "(`sx9 quarantine list`)"
    )


def _waiting(
    reader: KafkaConsumer, state: State, feed: str, found: Mapping[str, Hold]
) -> Iterator[tuple[int, Held]]:
    start = min(hold.start for hold in found.values())
    records = journal(reader, state.model, start, state.next_offset)
    return waiting_records(state.quarantine, feed, found, records)


def _text(record: Held) -> str:
    """What a person recognises an example by."""
    example = record.example
    if example.node:
        return example.node.name
    if example.link:
        return f"{example.link.source} {example.link.relation} {example.link.target}"
    return example.text or (example.instructions[0].output if example.instructions else "")
