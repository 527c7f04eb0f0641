"""What `gnn-threat` learns from an event: a node or a link of the threat graph.

event                example   labels
technique            a node    its tactics
entity               a node    none
relationship         a link    `<relation>:<kind of its source>`
"""

from __future__ import annotations

from schemas.events import Entity, Event, Relationship, Technique
from schemas.journal import Link, Node
from schemas.taxonomy import tactic_labels
from streams.core.projections.base import Projection, any_end_inactive
from streams.core.projections.text import CleanText

NODE_KINDS = frozenset(
    ("group", "malware", "tool", "campaign", "mitigation", "data-component", "detection-strategy", "asset")
)
"""Kinds of entities that relationships connect. Entities of other kinds are not in the graph."""


def project(event: Event, clean: CleanText) -> Projection | None:
    """The node or the link of an event.

    Args:
        event: Any event.
        clean: Removes the markup of a text.

    Returns:
        The projection, or None for templates, entities of other kinds than `NODE_KINDS` and `revoked-by`
        relationships. A node is retracted if it is not active, a link if it or one of its ends is not.
    """
    if isinstance(event, Technique):
        return _node(event, "technique", tactic_labels(event.tactics), clean)
    if isinstance(event, Entity) and event.kind in NODE_KINDS:
        return _node(event, event.kind, (), clean)
    if isinstance(event, Relationship) and event.relation != "revoked-by":  # its source is always revoked
        return _link(event)
    return None


def _node(event: Technique | Entity, kind: str, labels: tuple[str, ...], clean: CleanText) -> Projection:
    node = Node(id=event.id, kind=kind, name=event.name, text=clean(event.text))
    return Projection(key=f"node:{event.id}", node=node, labels=labels, retracted=event.status != "active")


def _link(event: Relationship) -> Projection:
    link = Link(
        source=event.source.id,
        source_kind=event.source.kind,
        relation=event.relation,
        target=event.target.id,
        target_kind=event.target.kind,
    )
    labels = (f"{event.relation}:{event.source.kind}",)
    return Projection(key=f"link:{event.id}", link=link, labels=labels, retracted=any_end_inactive(event))
