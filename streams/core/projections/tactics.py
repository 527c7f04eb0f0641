"""What `distilbert-mitre` learns from an event: a text, and its tactics or its severity.

event               text                                 labels
technique           its name and description             its tactics
uses relationship   the procedure: how it was used       tactics of the technique
template            its name, tags and description       its severity, one of five
"""

from __future__ import annotations

from schemas.events import Event, Relationship, Technique, Template
from schemas.taxonomy import SEVERITIES, severity_label
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
    return None


def _technique(event: Technique, clean: CleanText) -> Projection:
    return Projection(
        key=f"technique:{event.id}",
        text=f"{event.name}. {clean(event.text)}",
        labels=event.tactics,
        retracted=event.status != "active" or not event.tactics,
    )


def _procedure(event: Relationship, clean: CleanText) -> Projection:
    text = clean(event.text)
    inactive = event.status != "active" or event.target.status != "active"
    return Projection(
        key=f"relationship:{event.id}",
        text=text,
        labels=event.target.tactics,
        retracted=inactive or not event.target.tactics or not text,
    )


def _template(event: Template, clean: CleanText) -> Projection:
    return Projection(
        key=f"template:{event.id}",
        text=clean(f"{event.name}. Tags: {', '.join(event.tags)}. {event.text}"),
        labels=(severity_label(event.severity),),
        retracted=event.status != "active" or event.severity not in SEVERITIES,
    )
