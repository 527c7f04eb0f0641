"""The table of topics: name, key, partitions, retention and record type. Topics are created from it."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import DeadLetter, Entity, Event, Relationship, Report, Technique, Template
from schemas.journal import Record
from schemas.models import MODELS, ModelSpec, model_spec
from schemas.versions import VersionEvent
from schemas.windows import Trigger, Window

FOR_EVER = -1


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic.

    Attributes:
        name: Name, ending in the version of the contract.
        key: Meaning of the message key.
        partitions: Number of partitions; topics that are keyed by model have one for each model.
        record: Type (or union) of the values.
        by_model: Partition n is that of model n in the table of models. A topic may have further partitions:
            those of a `by_model` topic hold nothing of ours, those of the others are read too.
        retention_ms: Retention; `FOR_EVER` keeps what rebuilding a version needs.
        retention_bytes: Size of a partition at which the oldest messages are deleted.
    """

    name: str
    key: str
    partitions: int
    record: Any
    by_model: bool = False
    retention_ms: int = FOR_EVER
    retention_bytes: int = FOR_EVER


TECHNIQUES = Topic(name="threat.techniques.v1", key="external id", partitions=4, record=Technique)
TEMPLATES = Topic(name="threat.templates.v1", key="feed:id", partitions=4, record=Template)
ENTITIES = Topic(name="threat.entities.v1", key="STIX id or CVE", partitions=4, record=Entity)
RELATIONSHIPS = Topic(name="threat.relationships.v1", key="STIX id", partitions=4, record=Relationship)
REPORTS = Topic(name="threat.reports.v1", key="feed:document:passage", partitions=4, record=Report)
DEAD_LETTERS = Topic(name="threat.dead-letters.v1", key="origin", partitions=1, record=DeadLetter)
JOURNAL = Topic(name="retrain.journal.v1", key="model", partitions=len(MODELS), record=Record, by_model=True)
WINDOWS = Topic(name="retrain.windows.v1", key="model", partitions=len(MODELS), record=Window, by_model=True)
TRIGGERS = Topic(name="retrain.triggers.v1", key="model", partitions=len(MODELS), record=Trigger, by_model=True)
VERSIONS = Topic(name="model.versions.v1", key="model", partitions=1, record=VersionEvent)

TOPICS: tuple[Topic, ...] = (
    TECHNIQUES, TEMPLATES, ENTITIES, RELATIONSHIPS, REPORTS, DEAD_LETTERS, JOURNAL, WINDOWS, TRIGGERS, VERSIONS,
)  # fmt: skip
EVENT_TOPICS: tuple[Topic, ...] = (TECHNIQUES, TEMPLATES, ENTITIES, RELATIONSHIPS, REPORTS)

_TOPIC_OF: dict[type, Topic] = {
    Technique: TECHNIQUES,
    Template: TEMPLATES,
    Entity: ENTITIES,
    Relationship: RELATIONSHIPS,
    Report: REPORTS,
}


def topic_of(event: Event) -> Topic:
    """The topic of an event."""
    return _TOPIC_OF[type(event)]


def topics_of(spec: ModelSpec) -> tuple[Topic, ...]:
    """The topics whose events a model may learn from."""
    return tuple(_TOPIC_OF[event_type] for event_type in spec.learns_from)


def partition_of(model: str) -> int:
    """The partition of a model in the topics that have one per model.

    Raises:
        BadConfiguration: There is no such model.
    """
    return model_spec(model).partition
