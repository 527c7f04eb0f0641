"""The decisions of the system as they are made: new windows, triggers and versions, and one line about each.

retrain.windows, retrain.triggers, model.versions  ──DecisionFollower.poll──>  decisions  ──describe──>  a line
"""

from __future__ import annotations

from kafka import KafkaConsumer

from schemas.codec import decode
from schemas.errors import BadRecord
from schemas.topics import TRIGGERS, VERSIONS, WINDOWS
from schemas.versions import VersionEvent
from schemas.windows import Trigger, Window
from sx9_ml_models.render import describe_measure
from trainers.reporting.summary import headline
from transport.kafka import end_offset, kafka_errors
from transport.topics import partitions_of

Decision = Window | Trigger | VersionEvent
TOPICS = {topic.name: topic for topic in (WINDOWS, TRIGGERS, VERSIONS)}


class DecisionFollower:
    """Reads the decisions that are made after it was created.

    Args:
        reader: A consumer without a group that nothing else uses.

    Raises:
        RetryLater: Kafka does not answer.
    """

    def __init__(self, reader: KafkaConsumer) -> None:
        self._reader = reader
        partitions = partitions_of(reader, TOPICS.values())
        with kafka_errors("finding the latest decisions"):
            reader.assign(partitions)
            for partition in partitions:
                reader.seek(partition, end_offset(reader, *partition))

    def poll(self, timeout_ms: int = 500) -> list[Decision]:
        """The decisions since the last call.

        Args:
            timeout_ms: Longest wait for the first of them.

        Returns:
            The decisions in the order of each topic; none if there are no new ones. Records that can't be decoded
            are skipped.

        Raises:
            RetryLater: Kafka does not answer.
        """
        with kafka_errors("following decisions"):
            found = self._reader.poll(timeout_ms=timeout_ms)
        decisions = (
            _decoded(message.value, partition.topic)
            for partition, messages in found.items()
            for message in messages
        )
        return [decision for decision in decisions if decision is not None]


def _decoded(value: bytes | None, topic: str) -> Decision | None:
    try:
        decision: Decision = decode(value, TOPICS[topic].record)
    except BadRecord:
        return None
    return decision


def describe(decision: Decision) -> str:
    """One line about a decision."""
    match decision:
        case Window():
            return f"window {decision.id}: {decision.examples} examples, closed by {decision.closed_by}"
        case Trigger():
            return f"trigger {decision.id}: retrain because of {decision.reason} ({_measures(decision)})"
        case VersionEvent():
            return f"{decision.model} {decision.version} {decision.outcome}{_scores(decision)}"


def _measures(trigger: Trigger) -> str:
    """The measured values of the rules that tripped, or of all rules if none did."""
    shown = [m for m in trigger.measures if m.tripped] or trigger.measures
    return ", ".join(
        f"{describe_measure(m.rule, m.value, m.limit)}{f' {m.detail}' if m.detail else ''}" for m in shown
    )


def _scores(event: VersionEvent) -> str:
    if event.outcome == "refused":
        return f": {event.detail}"
    scores = headline(event.evaluation, event.parent_evaluation)
    return f": {scores}" if event.outcome == "promoted" and scores else ""
