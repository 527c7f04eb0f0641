"""What the models learn from an event: the same every time, and another thing when it says another thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Entity, Event, NodeRef, Relationship, Status, Technique, Template
from schemas.journal import Example, Instruction, Link, Node, Source, held_out
from schemas.models import MODELS
from schemas.topics import EVENT_TOPICS, topic_of
from streams.core.projections.examples import LEARNS_FROM, PROJECTIONS, clean_text, project
from streams.core.projections.instructions import cut

DISTILBERT, PHI3, GNN = MODELS
SOURCE = Source("threat.test", 0, 0)
FEED = {"feed": "attack-enterprise", "release": "15.1"}

STATUS: st.SearchStrategy[Status] = st.sampled_from(("active", "active", "active", "revoked", "deprecated"))
TACTICS = st.sets(st.sampled_from(("credential-access", "impact", "execution")), max_size=2).map(
    lambda found: tuple(sorted(found))
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.just("Adversaries may. (Citation: X)")
NUMBERS = st.integers(0, 300)
KINDS = st.sampled_from(("group", "malware", "mitigation", "data-component", "detection-strategy", "matrix"))


@st.composite
def ends(draw: st.DrawFn, technique: bool) -> NodeRef:
    """An end of a relationship."""
    number, status = draw(NUMBERS), draw(STATUS)
    if technique:
        return NodeRef(id=f"T{1000 + number}", kind="technique", name="X", tactics=draw(TACTICS), status=status)
    kind = draw(KINDS)
    return NodeRef(id=f"{kind}--{number}", kind=kind, name=f"{kind} {number}", status=status)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """An event as a feed may say it, with words in braces and in other scripts, too."""
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
                id=f"relationship--{number}", relation=relation, source=draw(ends(technique=False)),
                target=draw(ends(technique=draw(st.booleans()))), text=text, domain="enterprise-attack",
                status=status, **FEED,
            )  # fmt: skip
        case "entity":
            kind = draw(KINDS)
            return Entity(id=f"{kind}--{number}", kind=kind, name=f"{{{number}}}", text=text, status=status, **FEED)
    return Template(
        id=f"nuclei-templates:{number}", feed="nuclei-templates", name="N", text=text, status=status,
        severity=draw(st.sampled_from(("high", "unknown"))),
    )  # fmt: skip


def learnt(example: Example) -> tuple[Any, ...]:
    """All that a model sees of an example."""
    said = (example.text, example.instructions, example.node, example.link, example.labels)
    return (*said, example.retracted)


def technique(text: str = "Adversaries may.", **fields: Any) -> Technique:
    given: dict[str, Any] = {"tactics": ("impact",), "domain": "enterprise-attack", **FEED} | fields
    return Technique(id="T1003.001", stix_id="attack-pattern--1", name="Dump", text=text, **given)


def relation(relation: str, source_kind: str, text: str = "Do it.", **fields: Any) -> Relationship:
    given: dict[str, Any] = {"domain": "enterprise-attack", **FEED} | fields
    source = given.pop("source", NodeRef(id=f"{source_kind}--1", kind=source_kind, name="Audit"))
    target = given.pop("target", NodeRef(id="T1003.001", kind="technique", name="Dump", tactics=("impact",)))
    return Relationship(id="relationship--1", relation=relation, source=source, target=target, text=text, **given)


def phi3(event: Event) -> Example:
    found = project(PHI3, event, SOURCE)
    assert found is not None
    return found


@given(st.sampled_from(MODELS), events())
@settings(max_examples=300, deadline=None)
def test_an_event_gives_the_same_example_every_time(model: str, event: Event) -> None:
    again = msgspec.convert(msgspec.to_builtins(event), Event)
    assert project(model, event, SOURCE) == project(model, again, SOURCE)


@given(st.sampled_from(MODELS), events(), events())
@settings(max_examples=500, deadline=None)
def test_equal_hashes_mean_that_the_same_is_learnt(model: str, one: Event, other: Event) -> None:
    first, second = project(model, one, SOURCE), project(model, other, SOURCE)
    if first is not None and second is not None and not (first.retracted or second.retracted):
        assert (first.hash == second.hash) == (learnt(first) == learnt(second))


@pytest.mark.parametrize(
    ("model", "event", "edits"),
    [
        (PHI3, technique(detection="Look."), {"text": "New.", "detection": "See.", "name": "D", "tactics": ("x",),
                                              "platforms": ("Linux",), "status": "revoked"}),
        (PHI3, relation("mitigates", "mitigation"), {"text": "New.", "status": "revoked"}),
        (GNN, technique(), {"text": "New.", "name": "D", "tactics": ("x",), "status": "deprecated"}),
        (GNN, relation("uses", "group"), {"relation": "targets", "target": NodeRef(id="T1", kind="technique")}),
    ],
)  # fmt: skip
def test_an_edit_changes_the_hash(model: str, event: Event, edits: Mapping[str, Any]) -> None:
    versions = [event, *(msgspec.structs.replace(event, **{name: value}) for name, value in edits.items())]
    found = [project(model, version, SOURCE) for version in versions]
    assert len({example.hash for example in found if example}) == len(versions)
    assert len({example.key for example in found if example}) == 1


@given(st.lists(events(), max_size=40))
@settings(max_examples=100, deadline=None)
def test_nothing_of_a_held_out_technique_is_on_the_training_side_of_phi3(feed: Iterable[Event]) -> None:
    sides: dict[str, set[bool]] = {}
    for event in feed:
        found = project(PHI3, event, SOURCE)
        if found is not None:
            name = event.target.id if isinstance(event, Relationship) else event.id
            assert found.group == f"technique:{name}"  # retractions too
            sides.setdefault(name, set()).add(held_out(found))
    assert all(len(side) == 1 for side in sides.values())


@given(st.sampled_from(MODELS), events())
@settings(max_examples=300, deadline=None)
def test_what_the_feed_took_back_is_a_retraction_that_says_nothing_else(model: str, event: Event) -> None:
    found = project(model, event, SOURCE)
    gone = event.status != "active" or (isinstance(event, Relationship) and event.target.status != "active")
    if found is not None and gone:
        assert found.retracted
    if found is not None and found.retracted:
        assert learnt(found) == ("", (), None, None, (), True)


@given(st.sampled_from(MODELS), events())
@settings(max_examples=200, deadline=None)
def test_a_model_learns_from_no_other_topics_than_are_listed(model: str, event: Event) -> None:
    assert project(model, event, SOURCE) is None or topic_of(event) in LEARNS_FROM[model]


def test_every_model_has_a_projection_and_every_topic_a_model() -> None:
    assert set(PROJECTIONS) == set(LEARNS_FROM) == set(MODELS)
    assert {topic.name for topics in LEARNS_FROM.values() for topic in topics} == {t.name for t in EVENT_TOPICS}


def test_a_technique_teaches_its_explanation_and_its_detection_where_it_has_one() -> None:
    bare = phi3(technique(platforms=("PRE",)))
    (asked,) = bare.instructions
    assert asked.output == (
        "Dump (T1003.001) is a sub-technique of ATT&CK that serves the tactic impact. Adversaries may."
    )
    assert (bare.group, bare.labels, bare.text) == ("technique:T1003.001", ("impact",), "")
    more = phi3(technique(detection="Watch <code>lsass</code>", platforms=("Linux", "macOS")))
    assert [one.output for one in more.instructions] == [
        "Dump (T1003.001) is a sub-technique of ATT&CK that serves the tactic impact. It concerns Linux and macOS. "
        "Adversaries may.",
        "Dump (T1003.001), which serves the tactic impact, can be detected as follows. Watch lsass.",
    ]
    assert all("T1003.001" in one.instruction + one.input or "Dump" in one.instruction for one in more.instructions)


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (
            relation("mitigates", "mitigation"),
            "ATT&CK lists the mitigation Audit against Dump (T1003.001), which serves the tactic impact. Do it.",
        ),
        (
            relation("detects", "data-component", "Monitor it. Analytic 1 - index=main"),
            "Dump (T1003.001), which serves the tactic impact, can be detected with data from Audit. Monitor it.",
        ),
        (
            relation("detects", "detection-strategy", ""),
            "Dump (T1003.001), which serves the tactic impact, can be detected with the detection strategy Audit.",
        ),
    ],
)
def test_a_relationship_teaches_what_helps_against_the_technique(event: Relationship, answer: str) -> None:
    found = phi3(event)
    assert [one.output for one in found.instructions] == [answer]
    assert (found.key, found.group) == ("relationship:relationship--1", "technique:T1003.001")


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("model", [PHI3, GNN])
def test_a_relationship_goes_with_either_of_its_ends(model: str, end: str) -> None:
    edge = relation("mitigates", "mitigation")
    gone = msgspec.structs.replace(edge, **{end: msgspec.structs.replace(getattr(edge, end), status="revoked")})
    before, after = project(model, edge, SOURCE), project(model, gone, SOURCE)
    assert before is not None
    assert after is not None
    assert (before.retracted, after.retracted) == (False, True)
    assert (before.key, before.group) == (after.key, after.group)


def test_people_ask_in_many_ways_and_an_edit_keeps_the_question() -> None:
    def asked(number: int, text: str) -> Instruction:
        return phi3(msgspec.structs.replace(technique(text), id=f"T{number}", name="Dump")).instructions[0]

    wordings = {
        (one.instruction.replace(str(n), "0"), one.input.replace(str(n), "0"))
        for n in range(1000, 1100)
        for one in [asked(n, "a")]
    }
    assert len(wordings) >= 8
    assert all(asked(n, "a").instruction == asked(n, "b").instruction for n in range(1000, 1100))


@given(st.text(max_size=200), st.integers(5, 100))
def test_a_cut_text_is_never_much_longer_than_asked_and_loses_nothing_that_fits(text: str, most: int) -> None:
    assert len(cut(text, most)) <= most + len(" ...")
    assert cut(text, len(text)) == text


@given(st.text(max_size=60), st.sampled_from(("<code>x</code>", "[a](https://x.test)", "(Citation: X)", "")))
def test_cleaning_makes_one_line_without_markup_whatever_stands_around_it(text: str, markup: str) -> None:
    cleaned = clean_text(f"{text} {markup}")
    assert cleaned == re.sub(r"\s+", " ", cleaned).strip()
    assert markup not in cleaned or markup == ""


def test_the_graph_has_techniques_entities_and_what_joins_them() -> None:
    group = Entity(id="intrusion-set--1", kind="group", name="APT0", text="[A](https://x.test) group.", **FEED)
    node, entity, link = (project(GNN, e, SOURCE) for e in (technique(), group, relation("uses", "group")))
    assert node is not None
    assert entity is not None
    assert link is not None
    assert (node.key, node.labels) == ("node:T1003.001", ("impact",))
    assert node.node == Node(id="T1003.001", kind="technique", name="Dump", text="Adversaries may.")
    assert (entity.key, entity.labels) == ("node:intrusion-set--1", ())
    assert entity.node == Node(id="intrusion-set--1", kind="group", name="APT0", text="A group.")
    assert (link.key, link.labels, link.text) == ("link:relationship--1", ("uses:group",), "")
    assert link.link == Link(
        source="group--1", source_kind="group", relation="uses", target="T1003.001", target_kind="technique"
    )


def test_what_no_relationship_joins_is_no_node() -> None:
    assert project(GNN, Entity(id="x-mitre-tactic--1", kind="tactic", name="Impact", **FEED), SOURCE) is None
    assert project(GNN, relation("revoked-by", "group"), SOURCE) is None


def test_the_examples_of_distilbert_have_the_hashes_that_they_always_had() -> None:
    events_then = (technique(), relation("uses", "group"), technique(status="revoked"))
    found = [project(DISTILBERT, event, SOURCE) for event in events_then]
    assert [e.hash for e in found if e] == ["468877b4ef0b6264", "bebc1a5f8e1b01fc", "8f488593cc6a0a59"]
