"""What each model can learn from one event: `project(model, event)` gives at most one example.

    technique                 text of the technique            its tactics
    uses relationship         the procedure sentence           the tactics of the technique it uses
    template                  name, description and tags       its severity, if it is one of the five

A revoked or deprecated technique, a sentence about one, or a template that lost its severity retracts what was
learnt from it earlier.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

from schemas.events import Event, Relationship, Technique, Template
from schemas.journal import Example, Source
from schemas.taxonomy import SEVERITIES, severity_label, taxonomy

MAX_TEXT_CHARS = 8_000
"""Longer texts are cut: no encoder here reads further, and the journal stays light."""

_CITATION = re.compile(r"\(Citation: [^)]{0,300}\)")
_LINK = re.compile(r"\[([^\]\[]{1,300})\]\([^()\s]{0,500}\)")
_TAG = re.compile(r"</?(?:code|br|p|i|b|ul|li)\s*/?>", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


def clean_text(text: str) -> str:
    """ATT&CK's prose without citations, link targets and markup, on one line, at most `MAX_TEXT_CHARS`.

    >>> clean_text("[Shamoon](https://x.test/S0140) obtains the time.(Citation: Palo Alto 2016)")
    'Shamoon obtains the time.'
    """
    text = _CITATION.sub("", text[: 4 * MAX_TEXT_CHARS])
    text = _TAG.sub("", _LINK.sub(r"\1", text))
    return _SPACE.sub(" ", text).strip()[:MAX_TEXT_CHARS]


def project(model: str, event: Event, source: Source, observed_ms: int = 0) -> Example | None:
    """The example that `model` can learn from an event, or None where there is nothing in it to learn.

    Args:
        model: One of `schemas.topics.MODELS`.
        event: What the feed said.
        source: Topic, partition and offset of the event.
        observed_ms: When the feed said so, ms since 1970.
    """
    make = PROJECTIONS.get(model)
    found = make(event) if make else None
    if found is None:
        return None
    key, text, labels, retracted = found
    labels = tuple(sorted(set(labels)))
    return Example(
        source=source,
        key=key,
        hash=_hash(text, labels, retracted),
        text="" if retracted else text,
        labels=() if retracted else labels,
        taxonomy=_taxonomy(event),
        retracted=retracted,
        observed_ms=observed_ms,
    )


def _taxonomy(event: Event) -> str:
    """Where the labels come from. The severities of a feed have no releases."""
    if isinstance(event, Technique | Relationship):
        return taxonomy(event.domain, event.release)
    return event.feed


Projected = tuple[str, str, tuple[str, ...], bool]


def _tactics_or_severity(event: Event) -> Projected | None:
    if isinstance(event, Technique):
        text = f"{event.name}. {clean_text(event.text)}"
        retracted = event.status != "active" or not event.tactics
        return f"technique:{event.id}", text, event.tactics, retracted
    if isinstance(event, Relationship) and event.relation == "uses" and event.target.kind == "technique":
        text = clean_text(event.text)
        retracted = (
            event.status != "active" or event.target.status != "active" or not event.target.tactics or not text
        )
        return f"relationship:{event.id}", text, event.target.tactics, retracted
    if isinstance(event, Template):
        text = clean_text(f"{event.name}. {event.text} Tags: {', '.join(event.tags)}.")
        retracted = event.status != "active" or event.severity not in SEVERITIES
        return f"template:{event.id}", text, (severity_label(event.severity),), retracted
    return None


def _hash(text: str, labels: tuple[str, ...], retracted: bool) -> str:
    parts = "\x00".join((text, *labels, str(retracted)))
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


PROJECTIONS: Mapping[str, Callable[[Event], Projected | None]] = {"distilbert-mitre": _tactics_or_severity}
"""Model -> how an event becomes (key, text, labels, retracted). A model without one has an empty journal."""
