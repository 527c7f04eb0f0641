"""What the system decides, as it decides it: windows, triggers and versions from their topics, in sentences."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, TopicPartition

from schemas.codec import decode
from schemas.errors import BadRecord
from schemas.topics import TRIGGERS, VERSIONS, WINDOWS
from schemas.versions import VersionEvent
from schemas.windows import Trigger, Window
from sx9_ml_models.render import against
from trainers.reporting.summary import headline
from transport.kafka import kafka_errors

Decision = Window | Trigger | VersionEvent
TOPICS = {topic.name: topic for topic in (WINDOWS, TRIGGERS, VERSIONS)}


class Follower:
    """Reads the decisions that come from now on.

    Args:
        reader: A consumer without a group, for this alone.
    """

    def __init__(self, reader: KafkaConsumer) -> None:
        self._reader = reader
        places = [TopicPartition(topic.name, p) for topic in TOPICS.values() for p in range(topic.partitions)]
        with kafka_errors("finding the latest decisions"):
            reader.assign(places)
            for place, end in reader.end_offsets(places).items():
                reader.seek(place, end)

    def poll(self, timeout_ms: int = 500) -> list[Decision]:
        """What has come since the last call; waits for `timeout_ms` at most."""
        with kafka_errors("following decisions"):
            found = self._reader.poll(timeout_ms=timeout_ms)
        decisions: list[Decision] = []
        for place, messages in found.items():
            for message in messages:
                decision = _decoded(message.value, place.topic)
                if decision is not None:
                    decisions.append(decision)
        return decisions


def _decoded(value: bytes, topic: str) -> Decision | None:
    try:
        decision: Decision = decode(value, TOPICS[topic].record)
    except BadRecord:
        return None
    return decision


def sentence(decision: Decision) -> str:
    """A decision in one line."""
    match decision:
        case Window():
            return f"window {decision.id}: {decision.examples} examples, closed by {decision.closed_by}"
        case Trigger():
            return f"trigger {decision.id}: retrain because of {decision.reason} ({numbers(decision)})"
        case VersionEvent():
            return f"{decision.model} {decision.version} {decision.outcome}{_scores(decision)}"


def numbers(decided: Any) -> str:
    """The numbers of the rules that tripped, or of all rules where none did."""
    tripped = [m for m in decided.measures if m.tripped] or decided.measures
    return ", ".join(f"{against(m.rule, m.value, m.limit)}{f' {m.detail}' if m.detail else ''}" for m in tripped)


def _scores(event: VersionEvent) -> str:
    if event.outcome == "refused":
        return f": {event.detail}"
    said = headline(event.evaluation, event.parent_evaluation)
    return f": {said}" if event.outcome == "promoted" and said else ""
