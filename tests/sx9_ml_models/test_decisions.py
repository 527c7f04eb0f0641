"""Decisions are followed from the moment the follower is created, and each is described in one line."""

from __future__ import annotations

import time

from schemas.scores import TaskScores
from schemas.topics import TRIGGERS, partition_of
from schemas.versions import VersionEvent
from schemas.windows import Measure, Trigger
from sx9_ml_models.decisions import DecisionFollower, describe
from transport.kafka import RecordProducer, consumer, producer
from transport.topics import create_topics

MODEL = "gnn-threat"
TRIGGER = Trigger(
    model=MODEL, number=2, offset=9, reason="volume", at_ms=0,
    measures=(
        Measure("volume", 3000.0, 1500.0, True),
        Measure("taxonomy", 7.0, 5.0, True, "stealth"),
        Measure("drift", 0.1, 0.25, False),
    ),
)  # fmt: skip


def test_a_trigger_is_described_by_the_rules_that_tripped() -> None:
    assert describe(TRIGGER) == (
        "trigger gnn-threat@9: retrain because of volume (volume 3000 of 1500, taxonomy 7 of 5 stealth)"
    )


def test_a_refused_version_is_described_by_the_reason_and_a_promoted_one_by_its_scores() -> None:
    refused = VersionEvent(model=MODEL, version="v0002", outcome="refused", detail="recall fell by 0.1")
    assert describe(refused) == "gnn-threat v0002 refused: recall fell by 0.1"
    scores = {"techniques": {"holdout": TaskScores(30, {"recall_at_20": 0.5})}}
    promoted = VersionEvent(model=MODEL, version="v0002", outcome="promoted", evaluation=scores)
    assert "0.5" in describe(promoted)
    assert describe(VersionEvent(model=MODEL, version="v0002", outcome="trained")) == "gnn-threat v0002 trained"


def test_a_follower_returns_only_later_decisions_and_skips_undecodable_ones(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap)
    writer, reader = producer(kafka_bootstrap), consumer(kafka_bootstrap)
    records = RecordProducer(writer)
    place = {"key": MODEL, "partition": partition_of(MODEL)}
    records.send(TRIGGERS.name, TRIGGER, **place)
    records.flush()
    follower = DecisionFollower(reader)
    assert follower.poll(timeout_ms=200) == []
    writer.send(TRIGGERS.name, key=b"bad", value=b"{nonsense", partition=partition_of(MODEL)).get(timeout=30)
    later = Trigger(model=MODEL, number=3, offset=20, reason="manual", at_ms=0)
    records.send(TRIGGERS.name, later, **place)
    records.flush()
    found, deadline = list(follower.poll()), time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        found += follower.poll()
    assert found == [later]
    writer.close()
    reader.close()
