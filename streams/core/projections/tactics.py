"""What `distilbert-mitre` learns from an event: a text, and its tactics or its severity.

event               text                                 labels
technique           its name and description             its tactics
uses relationship   the procedure: how it was used       tactics of the technique
template            its name, tags and description       its severity, one of five
rule                its name and description             its severity, and the tactics that its feed gives
report              the passage                          the tactics of its spans
"""

from __future__ import annotations

from schemas.events import Event, Relationship, Report, Technique, Template
from schemas.taxonomy import SEVERITIES, severity_label, tactic_labels
from schemas.text import meaningful
from streams.core.projections.base import Projection
from streams.core.projections.text import CleanText


def project(event: Event, clean: CleanText) -> Projection | None:
    """The text of an event, with its labels.

    Args:
        event: Any event.
        clean: Removes the markup of a text.

    Returns:
        The projection, or None for other events than those above. It is retracted if it is not active, has no
        labels or, as a relationship, has no text.
    """
    if isinstance(event, Technique):
        return _technique(event, clean)
    if isinstance(event, Relationship) and event.relation == "uses" and event.target.kind == "technique":
        return _procedure(event, clean)
    if isinstance(event, Template):
        return _template(event, clean)
    if isinstance(event, Report):
        return _report(event, clean)
    return None


def _technique(event: Technique, clean: CleanText) -> Projection:
    labels = tactic_labels(event.tactics)
    return Projection(
        key=f"technique:{event.id}",
        text=f"{event.name}. {clean(event.text)}",
        labels=labels,
        retracted=event.status != "active" or not labels,
    )


def _procedure(event: Relationship, clean: CleanText) -> Projection:
    text, labels = clean(event.text), tactic_labels(event.target.tactics)
    inactive = event.status != "active" or event.target.status != "active"
    return Projection(
        key=f"relationship:{event.id}",
        text=text,
        labels=labels,
        retracted=inactive or not labels or not text,
    )


def _template(event: Template, clean: CleanText) -> Projection:
    tactics, is_graded = tactic_labels(event.tactics), event.severity in SEVERITIES
    return Projection(
        key=f"template:{event.id}",
        text=clean(_text(event)),
        labels=(*tactics, severity_label(event.severity)) if is_graded or not tactics else tactics,
        retracted=event.status != "active" or not (is_graded or tactics),
    )


def _text(event: Template) -> str:
    """What a template says. The tags of a rule are not text: they name its techniques and tactics."""
    if event.rule_type:
        return f"{event.name}. {event.text}"
    return f"{event.name}. Tags: {', '.join(meaningful(event.tags))}. {event.text}"


def _report(event: Report, clean: CleanText) -> Projection:
    """All passages of a report are on the same side of the holdout: they tell one story."""
    text, labels = clean(event.text), tactic_labels(tuple(t for span in event.spans for t in span.tactics))
    return Projection(
        key=f"report:{event.id}",
        group=f"report:{event.document}",
        text=text,
        labels=labels,
        retracted=event.status != "active" or not labels or not text,
    )
