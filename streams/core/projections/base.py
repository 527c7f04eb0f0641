"""From an event to the examples of the models: `project_all(event, ...)` calls the projection of each model.

    event ──> projection of a model ──> Projection ──> sorted labels, content hash, retraction ──> Example

An event retracts the example of its key if nothing can be learned from it any more: the feed revoked or deprecated
it or one of its ends, or it has no labels. The example of a retraction has no content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import cast

import msgspec

from schemas.events import Event, Relationship, Technique
from schemas.journal import Example, Instruction, Link, Node, Source
from schemas.models import load, model_spec
from schemas.taxonomy import taxonomy
from streams.core.projections.text import CleanText, clean_text


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an example. Fields have the names and meanings of `schemas.journal.Example`.

    A retracted projection keeps its content: the content hash of the example covers it.
    """

    key: str
    retracted: bool
    group: str = ""
    text: str = ""
    instructions: tuple[Instruction, ...] = ()
    node: Node | None = None
    link: Link | None = None
    labels: tuple[str, ...] = ()


Project = Callable[[Event, CleanText], Projection | None]
"""`project(event, clean)` of a model; None if the model can learn nothing from events of this kind."""


def project(model: str, event: Event, source: Source, observed_ms: int = 0) -> Example | None:
    """The example that one model can learn from an event.

    Args:
        model: One of `schemas.models.MODELS`.
        event: The content of the event.
        source: Topic, partition and offset of the event.
        observed_ms: When the feed published it, in ms since 1970 UTC.

    Returns:
        The example, or None if the model learns nothing from events of this kind.

    Raises:
        BadConfiguration: There is no such model.
    """
    return project_all(event, source, observed_ms, (model,)).get(model)


def project_all(event: Event, source: Source, observed_ms: int, models: Iterable[str]) -> dict[str, Example]:
    """The examples that several models can learn from an event. Each text of the event is cleaned once.

    Args:
        event, source, observed_ms: As for `project`.
        models: Names of `schemas.models.MODELS`.

    Returns:
        Model -> example, in the order of `models`, without the models that learn nothing from events of this kind.

    Raises:
        BadConfiguration: There is no such model.
    """
    cleaned: dict[str, str] = {}  # lives as long as the event

    def clean(text: str) -> str:
        if text not in cleaned:
            cleaned[text] = clean_text(text)
        return cleaned[text]

    examples: dict[str, Example] = {}
    for model in models:
        projection = _projection_function(model)(event, clean)
        if projection is not None:
            examples[model] = _example(projection, event, source, observed_ms)
    return examples


def any_end_inactive(relationship: Relationship) -> bool:
    """Whether the feed revoked or deprecated a relationship, its source or its target."""
    return {relationship.status, relationship.source.status, relationship.target.status} != {"active"}


@cache
def _projection_function(model: str) -> Project:
    return cast(Project, load(model_spec(model).projection))


def _example(projection: Projection, event: Event, source: Source, observed_ms: int) -> Example:
    labels = tuple(sorted(set(projection.labels)))
    content_hash = _content_hash(projection, labels)
    if projection.retracted:
        projection, labels = Projection(key=projection.key, group=projection.group, retracted=True), ()
    return Example(
        source=source,
        key=projection.key,
        hash=content_hash,
        group=projection.group,
        text=projection.text,
        instructions=projection.instructions,
        node=projection.node,
        link=projection.link,
        labels=labels,
        taxonomy=_taxonomy(event),
        retracted=projection.retracted,
        observed_ms=observed_ms,
    )


def _taxonomy(event: Event) -> str:
    """Where the labels come from. The severities of a feed have no releases."""
    if isinstance(event, Technique | Relationship):
        return taxonomy(event.domain, event.release)
    return event.feed


def _content_hash(projection: Projection, labels: tuple[str, ...]) -> str:
    """64 bits of BLAKE2b over the content, the labels and the retraction, as 16 hex digits."""
    encoded = projection.instructions or projection.node or projection.link
    content = msgspec.json.encode(encoded).decode() if encoded else projection.text
    parts = "\x00".join((content, *labels, str(projection.retracted)))
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()
