"""The examples of distilbert-mitre."""

from __future__ import annotations

from schemas.events import NodeRef, Template
from schemas.journal import Source
from schemas.models import MODELS
from streams.core.projections.base import project
from streams.core.projections.tactics import project as project_tactics
from streams.core.projections.text import clean_text
from tests.streams.core.events import relationship, technique

DISTILBERT = MODELS[0]
SOURCE = Source("threat.test", 0, 0)


def test_hashes_are_those_of_the_recorded_journals() -> None:
    events_then = (technique(), relationship("uses", "group"), technique(status="revoked"))
    found = [project(DISTILBERT, event, SOURCE) for event in events_then]
    assert [e.hash for e in found if e] == ["468877b4ef0b6264", "bebc1a5f8e1b01fc", "8f488593cc6a0a59"]


def test_a_template_has_its_severity_as_label_and_one_of_unknown_severity_is_retracted() -> None:
    template = Template(id="n:1", feed="n", name="A", text="<b>B</b>", severity="high", tags=("cve", "rce"))
    found = project_tactics(template, clean_text)
    assert found is not None
    assert (found.key, found.text, found.labels) == ("template:n:1", "A. Tags: cve, rce. B", ("severity:high",))
    unknown = project_tactics(Template(id="n:1", feed="n", name="A", severity="unknown"), clean_text)
    assert unknown is not None
    assert (found.retracted, unknown.retracted) == (False, True)


def test_a_procedure_without_text_or_tactics_is_retracted() -> None:
    assert not project_tactics(relationship("uses", "group"), clean_text).retracted
    assert project_tactics(relationship("uses", "group", "(Citation: X)"), clean_text).retracted
    no_tactics = NodeRef(id="T1003.001", kind="technique")
    assert project_tactics(relationship("uses", "group", target=no_tactics), clean_text).retracted


def test_other_relationships_give_no_text() -> None:
    assert project_tactics(relationship("mitigates", "mitigation"), clean_text) is None
