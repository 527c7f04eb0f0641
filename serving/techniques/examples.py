"""What an event says about techniques: one text, and the techniques that it is about.

event               text                                   techniques
technique           its name and description               itself
uses relationship   the procedure: how it was used         its target
template, rule      its name, tags and description         those that its feed names
report              the passage                            those of its spans
"""

from __future__ import annotations

import msgspec

from schemas.events import Event, Relationship, Report, Technique, Template
from schemas.text import meaningful
from streams.core.projections.text import clean_text

MIN_CHARS = 12
"""A shorter text says nothing by which another could be near to it."""


class TechniqueExample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text that is about techniques.

    Attributes:
        key: Of the event: `technique:T1059`, `relationship:...`, as in the journal.
        text: Without markup.
        techniques: Ids, sorted, at least one.
        feed, release: Where the text is from.
        subject: Who used the technique in a procedure text (`APT29`), the name of a rule, or of a report.
    """

    key: str
    text: str
    techniques: tuple[str, ...]
    feed: str
    release: str = ""
    subject: str = ""


class Removed(msgspec.Struct, frozen=True):
    """What an event with this key said no longer counts: it was revoked, withdrawn, or names no technique now."""

    key: str


_Content = tuple[str, str, tuple[str, ...], str]
"""Kind, text, techniques, subject."""


def technique_example(event: Event) -> TechniqueExample | Removed | None:
    """What an event says about techniques.

    Args:
        event: Any event.

    Returns:
        None for events that never name the techniques of a text.
    """
    found = _content(event)
    if found is None:
        return None
    kind, text, techniques, subject = found
    key = f"{kind}:{event.id}"
    if event.status != "active" or not techniques or len(text) < MIN_CHARS:
        return Removed(key)
    return TechniqueExample(
        key=key,
        text=text,
        techniques=tuple(sorted(set(techniques))),
        feed=event.feed,
        release=event.release,
        subject=subject,
    )


def _content(event: Event) -> _Content | None:
    match event:
        case Technique():
            return "technique", f"{event.name}. {clean_text(event.text)}", (event.id,), event.name
        case Relationship(relation="uses") if event.target.kind == "technique":
            techniques = (event.target.id,) if event.target.status == "active" else ()
            return "relationship", clean_text(event.text), techniques, event.source.name
        case Template():
            tags = "" if event.rule_type else f"Tags: {', '.join(meaningful(event.tags))}. "
            return "template", clean_text(f"{event.name}. {tags}{event.text}"), event.techniques, event.name
        case Report():
            spans = tuple(span.id for span in event.spans if span.kind == "technique" and span.id)
            return "report", clean_text(event.text), spans, event.name
        case _:
            return None
