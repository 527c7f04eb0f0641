"""The examples of all models: deterministic, hashed by content, retracted with their event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BadConfiguration
from schemas.events import Event, NodeRef, Relationship
from schemas.journal import Example, Source
from schemas.models import MODEL_SPECS, MODELS, ModelSpec, load
from schemas.topics import EVENT_TOPICS, topic_of, topics_of
from streams.core.projections import base
from streams.core.projections.base import project, project_all
from streams.core.projections.text import clean_text
from tests.streams.core.events import events, relationship, technique

DISTILBERT, PHI3, GNN = MODELS
SOURCE = Source("threat.test", 0, 0)


def content_of(example: Example) -> tuple[Any, ...]:
    """All of an example that a model learns from."""
    content = (example.text, example.instructions, example.node, example.link, example.labels)
    return (*content, example.retracted)


@given(st.sampled_from(MODELS), events())
@settings(max_examples=300, deadline=None)
def test_an_event_gives_the_same_example_every_time(model: str, event: Event) -> None:
    again = msgspec.convert(msgspec.to_builtins(event), Event)
    assert project(model, event, SOURCE) == project(model, again, SOURCE)


@given(st.sampled_from(MODELS), events(), events())
@settings(max_examples=500, deadline=None)
def test_equal_hashes_mean_that_the_same_is_content_of(model: str, one: Event, other: Event) -> None:
    first, second = project(model, one, SOURCE), project(model, other, SOURCE)
    if first is not None and second is not None and not (first.retracted or second.retracted):
        assert (first.hash == second.hash) == (content_of(first) == content_of(second))


@pytest.mark.parametrize(
    ("model", "event", "edits"),
    [
        (PHI3, technique(detection="Look."), {"text": "New.", "detection": "See.", "name": "D", "tactics": ("x",),
                                              "platforms": ("Linux",), "status": "revoked"}),
        (PHI3, relationship("mitigates", "mitigation"), {"text": "New.", "status": "revoked"}),
        (GNN, technique(), {"text": "New.", "name": "D", "tactics": ("x",), "status": "deprecated"}),
        (GNN, relationship("uses", "group"), {"relation": "targets", "target": NodeRef(id="T1", kind="technique")}),
    ],
)  # fmt: skip
def test_an_edit_changes_the_hash(model: str, event: Event, edits: Mapping[str, Any]) -> None:
    versions = [event, *(msgspec.structs.replace(event, **{name: value}) for name, value in edits.items())]
    found = [project(model, version, SOURCE) for version in versions]
    assert len({example.hash for example in found if example}) == len(versions)
    assert len({example.key for example in found if example}) == 1


@given(st.sampled_from(MODELS), events())
@settings(max_examples=300, deadline=None)
def test_an_inactive_event_is_a_retraction_without_content(model: str, event: Event) -> None:
    found = project(model, event, SOURCE)
    gone = event.status != "active" or (isinstance(event, Relationship) and event.target.status != "active")
    if found is not None and gone:
        assert found.retracted
    if found is not None and found.retracted:
        assert content_of(found) == ("", (), None, None, (), True)


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("model", [PHI3, GNN])
def test_a_relationship_is_retracted_with_either_of_its_ends(model: str, end: str) -> None:
    edge = relationship("mitigates", "mitigation")
    gone = msgspec.structs.replace(edge, **{end: msgspec.structs.replace(getattr(edge, end), status="revoked")})
    before, after = project(model, edge, SOURCE), project(model, gone, SOURCE)
    assert before is not None
    assert after is not None
    assert (before.retracted, after.retracted) == (False, True)
    assert (before.key, before.group) == (after.key, after.group)


@given(st.sampled_from(MODEL_SPECS), events())
@settings(max_examples=200, deadline=None)
def test_a_model_learns_only_from_the_topics_of_its_specification(spec: ModelSpec, event: Event) -> None:
    assert project(spec.name, event, SOURCE) is None or topic_of(event) in topics_of(spec)


def test_every_model_has_a_projection_and_every_topic_a_model() -> None:
    assert all(callable(load(spec.projection)) for spec in MODEL_SPECS)
    assert {topic.name for spec in MODEL_SPECS for topic in topics_of(spec)} == {t.name for t in EVENT_TOPICS}


@given(events(), st.permutations(MODELS), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_several_models_get_the_same_examples_together_as_alone(event: Event, order: list[str], count: int) -> None:
    models = order[:count]
    alone = {model: project(model, event, SOURCE, 7) for model in models}
    together = project_all(event, SOURCE, 7, models)
    assert msgspec.json.encode(list(together.items())) == msgspec.json.encode(
        [(model, example) for model, example in alone.items() if example is not None]
    )


@pytest.mark.parametrize(
    ("event", "texts"),
    [
        (technique("Run <code>x</code>.", detection="Watch."), ["Run <code>x</code>.", "Watch."]),
        (relationship("uses", "group", "Dump it."), ["Dump it."]),
        (relationship("mitigates", "mitigation", "Audit it."), ["Audit it."]),
    ],
)
def test_each_text_of_an_event_is_cleaned_once_for_all_models(
    event: Event, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[str] = []

    def counted(text: str) -> str:
        cleaned.append(text)
        return clean_text(text)

    monkeypatch.setattr(base, "clean_text", counted)
    assert len(project_all(event, SOURCE, 0, MODELS)) >= 2
    assert cleaned == texts
    project_all(event, SOURCE, 0, MODELS)
    assert cleaned == [*texts, *texts], "nothing is remembered from one event to the next"


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="no model 'gnn'"):
        project("gnn", technique(), SOURCE)


@pytest.mark.parametrize("model", MODELS)
def test_a_tactic_that_reads_as_a_severity_is_no_label(model: str) -> None:
    tactics = ("impact", "severity:critical")
    found = project(model, technique(tactics=tactics), SOURCE)
    assert found is not None
    assert (found.labels, found.retracted) == (("impact",), False)


@pytest.mark.parametrize("model", [DISTILBERT, PHI3])
def test_without_another_tactic_there_is_nothing_to_learn(model: str) -> None:
    found = project(model, technique(tactics=("severity:critical",)), SOURCE)
    assert found is not None
    assert (found.labels, found.retracted) == ((), True)
