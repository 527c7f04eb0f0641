"""Events made by hand, and a strategy that draws any."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schemas.events import Entity, Event, NodeRef, Relationship, Status, Technique, Template

FEED = {"feed": "attack-enterprise", "release": "15.1"}

STATUS: st.SearchStrategy[Status] = st.sampled_from(("active", "active", "active", "revoked", "deprecated"))
TACTICS = st.sets(st.sampled_from(("credential-access", "impact", "execution")), max_size=2).map(
    lambda drawn: tuple(sorted(drawn))
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.just("Adversaries may. (Citation: X)")
NUMBERS = st.integers(0, 300)
KINDS = st.sampled_from(("group", "malware", "mitigation", "data-component", "detection-strategy", "matrix"))


@st.composite
def node_refs(draw: st.DrawFn, technique: bool) -> NodeRef:
    """The source or the target of a relationship."""
    number, status = draw(NUMBERS), draw(STATUS)
    if technique:
        return NodeRef(id=f"T{1000 + number}", kind="technique", name="X", tactics=draw(TACTICS), status=status)
    kind = draw(KINDS)
    return NodeRef(id=f"{kind}--{number}", kind=kind, name=f"{kind} {number}", status=status)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event that a feed may publish, with braces and other scripts in its texts."""
    number, status, text = draw(NUMBERS), draw(STATUS), draw(TEXTS)
    match draw(st.sampled_from(("technique", "relationship", "entity", "template"))):
        case "technique":
            return Technique(
                id=f"T{1000 + number}", stix_id="x", name=draw(TEXTS), text=text, tactics=draw(TACTICS),
                detection=draw(TEXTS), platforms=draw(st.sampled_from(((), ("PRE",), ("Linux", "macOS")))),
                domain="enterprise-attack", status=status, **FEED,
            )  # fmt: skip
        case "relationship":
            relation = draw(st.sampled_from(("uses", "mitigates", "detects", "subtechnique-of", "revoked-by")))
            return Relationship(
                id=f"relationship--{number}", relation=relation, source=draw(node_refs(technique=False)),
                target=draw(node_refs(technique=draw(st.booleans()))), text=text, domain="enterprise-attack",
                status=status, **FEED,
            )  # fmt: skip
        case "entity":
            kind = draw(KINDS)
            return Entity(id=f"{kind}--{number}", kind=kind, name=f"{{{number}}}", text=text, status=status, **FEED)
    return Template(
        id=f"nuclei-templates:{number}", feed="nuclei-templates", name="N", text=text, status=status,
        severity=draw(st.sampled_from(("high", "unknown"))),
    )  # fmt: skip


def technique(text: str = "Adversaries may.", **fields: Any) -> Technique:
    """The active technique T1003.001, with other fields where they are given."""
    given: dict[str, Any] = {"tactics": ("impact",), "domain": "enterprise-attack", **FEED} | fields
    return Technique(id="T1003.001", stix_id="attack-pattern--1", name="Dump", text=text, **given)


def relationship(relation: str, source_kind: str, text: str = "Do it.", **fields: Any) -> Relationship:
    """An active relationship to T1003.001, with other fields where they are given."""
    given: dict[str, Any] = {"domain": "enterprise-attack", **FEED} | fields
    source = given.pop("source", NodeRef(id=f"{source_kind}--1", kind=source_kind, name="Audit"))
    target = given.pop("target", NodeRef(id="T1003.001", kind="technique", name="Dump", tactics=("impact",)))
    return Relationship(id="relationship--1", relation=relation, source=source, target=target, text=text, **given)
