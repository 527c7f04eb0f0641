"""What is wrong with an event: its fields (schema), and what it refers to (semantic).

Each fault names the file, the field, the value and the rule. The rules of a technique are those of ATT&CK's ids and
tactics; those of a rule are the words of Sigma, which Nuclei and others share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from schemas.events import Entity, Technique, Template
from schemas.ids import is_cve, is_technique
from streams.content.current import Current
from streams.content.dsl.entities import entity_type, level
from streams.content.dsl.hd4 import PHASE_OF_TACTIC
from streams.content.dsl.model import Fault

STATUSES = ("experimental", "test", "stable", "deprecated")
"""Of a Sigma rule. `unsupported` rules are not active, and not converted."""
LEVELS = ("informational", "low", "medium", "high", "critical")
"""Of a rule."""
FEEDS_WITH_LEVELS = ("sigma", "nuclei-templates")
"""Feeds that give every rule a level; `unknown` is a word of Nuclei."""
MAX_VALUE_CHARS = 200

_NOT_CONTENT = (
    "id",
    "feed",
    "release",
    "created_ms",
    "modified_ms",
    "path",
    "author",
    "date",
    "references",
    "stix_id",
)
"""Fields of an event that say nothing about what it does."""

Source = Technique | Template | Entity


def faults_of(event: Source, content: Current) -> Iterator[Fault]:
    """The faults of an event; none if it is valid.

    Args:
        event: Any with an entity type.
        content: Which techniques exist.
    """
    file = event.path if not isinstance(event, Technique) else ""
    file = f"{event.feed}:{file or event.release}"
    for field, value, rule in _schema(event):
        yield Fault(file=file, field=field, value=value[:MAX_VALUE_CHARS], rule=rule, kind="schema")
    for field, value, rule in _semantic(event, content):
        yield Fault(file=file, field=field, value=value[:MAX_VALUE_CHARS], rule=rule, kind="semantic")


def content_hash(event: Source) -> str:
    """The same for events that do the same, whatever their ids, files, authors and dates."""
    fields = {name: value for name, value in msgspec.to_builtins(event).items() if name not in _NOT_CONTENT}
    return hashlib.sha256(msgspec.json.encode([entity_type(event), fields], order="sorted")).hexdigest()[:32]


_Rule = tuple[str, str, str]
"""Field, value, rule."""


def _schema(event: Source) -> Iterator[_Rule]:
    if not event.name.strip():
        yield "name", event.name, "required"
    if isinstance(event, Technique):
        if not is_technique(event.id):
            yield "id", event.id, "T and four digits, for a sub-technique a dot and three digits"
        return
    if isinstance(event, Template):
        if event.rule_status and event.rule_status not in STATUSES:
            yield "status", event.rule_status, f"one of {', '.join(STATUSES)}"
        if event.severity and level(event) not in LEVELS:
            yield "level", event.severity, f"one of {', '.join(LEVELS)}"
        elif not event.severity and event.feed in FEEDS_WITH_LEVELS:
            yield "level", "", f"required: one of {', '.join(LEVELS)}"
        if event.feed == "sigma" and not event.detection:
            yield "detection", "", "required"
        if event.feed == "sigma" and event.log_source == type(event.log_source)():
            yield "logsource", "", "required: a category, a product or a service"
    for cve in event.cves:
        if not is_cve(cve):
            yield "cves", cve, "CVE, a year and at least four digits"


def _semantic(event: Source, content: Current) -> Iterator[_Rule]:
    if not isinstance(event, Entity):
        for tactic in event.tactics:
            if tactic not in PHASE_OF_TACTIC:
                yield "tactics", tactic, "a tactic of ATT&CK or ATLAS"
    if isinstance(event, Technique):
        if not event.tactics:
            yield "tactics", "", "at least one"
    elif content.techniques:  # without ATT&CK nothing can be said
        for id_ in event.techniques:
            if content.valid_id(id_) not in content.techniques:
                yield "techniques", id_, "a technique of ATT&CK that is neither revoked nor deprecated"
