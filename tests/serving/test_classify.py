"""What a report says: techniques with their sentences, severity looked up or predicted, and the forms of others."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from schemas.severity import KnownSeverity
from serving.classify import ClassifiedReport, ReportClassifier
from serving.reports.read import ReportText
from serving.share import as_navigator_layer, as_stix
from serving.techniques.index import TechniqueIndex, Threshold
from tests.serving.techniques.test_techniques import EVENTS, examples_of

TEXT = "The actor dumps lsass memory for credentials. It was sunny. They used T1059.001 (PowerShell)."


class Prediction(msgspec.Struct):
    """A prediction of a version."""

    predicted_tactics: tuple[str, ...] = ("credential-access",)
    tactics: dict[str, float] = msgspec.field(default_factory=lambda: {"impact": 0.1, "credential-access": 0.9})
    severity: str | None = "severity:high"
    severities: dict[str, float] | None = msgspec.field(default_factory=lambda: {"severity:high": 0.7})


class Predicts:
    """A version that always says the same."""

    def predict(self, texts: Sequence[str], /) -> list[Prediction]:
        return [Prediction() for _ in texts]


@pytest.fixture(scope="module")
def index() -> TechniqueIndex:
    return TechniqueIndex(examples_of(EVENTS))


def classify(index: TechniqueIndex, text: str, model: Predicts | None = None) -> ClassifiedReport:
    known = {"CVE-2021-44228": KnownSeverity("critical", "nvd")}
    threshold = Threshold(1.0, 0.8, 0.5, 60)
    name = "distilbert-mitre v0001" if model else "no champion"
    return ReportClassifier(index, threshold, lambda _: known, model, name).classify(ReportText("r.txt", text))


def test_a_sentence_has_the_techniques_that_are_near_enough_or_that_it_states(index: TechniqueIndex) -> None:
    found = classify(index, TEXT)
    assert [[(t.id, t.by) for t in s.techniques] for s in found.sentences] == [
        [("T1003", "nearest examples")], [], [("T1059.001", "stated")],
    ]  # fmt: skip
    assert [(t.id, t.stated, t.sentences) for t in found.techniques] == [
        ("T1059.001", True, (2,)), ("T1003", False, (0,)),
    ]  # fmt: skip
    sentence = found.sentences[0]
    assert sentence.techniques[0].found is not None
    assert sentence.techniques[0].found.examples
    assert TEXT[sentence.start : sentence.end] == sentence.text


def test_a_severity_is_looked_up_where_it_is_stated_and_predicted_where_not(index: TechniqueIndex) -> None:
    severities = [classify(index, text, Predicts()).severity for text in (TEXT, f"{TEXT} It is CVE-2021-44228.")]
    assert [(s.severity, s.how) for s in severities] == [("high", "predicted"), ("critical", "stated")]
    assert "distilbert-mitre v0001, probability 0.70" in severities[0].source


def test_without_a_model_the_answer_says_so(index: TechniqueIndex) -> None:
    found = classify(index, TEXT)
    assert (found.tactics, found.severity.how, found.away) == ({}, "unknown", {"tactics": "no champion"})
    assert classify(index, TEXT, Predicts()).tactics == {"credential-access": 3}


def test_a_report_as_a_stix_bundle_refers_only_to_what_is_in_it(index: TechniqueIndex) -> None:
    bundle = as_stix([classify(index, f"{TEXT} CVE-2021-44228.")], 1_700_000_000_123)
    objects = {each["id"]: each for each in bundle["objects"]}
    kinds = sorted(each["type"] for each in objects.values())
    assert kinds == ["attack-pattern", "attack-pattern", "note", "note", "report", "vulnerability"]
    assert {ref for each in objects.values() for ref in each.get("object_refs", [])} <= objects.keys()
    assert {each["created"] for each in objects.values()} == {"2023-11-14T22:13:20.123Z"}
    assert all(each["spec_version"] == "2.1" for each in objects.values())


def test_a_report_that_names_nothing_is_an_empty_bundle(index: TechniqueIndex) -> None:
    assert "objects" not in as_stix([classify(index, "It was sunny.")], 0)


def test_a_layer_counts_the_sentences_of_each_technique(index: TechniqueIndex) -> None:
    layer = as_navigator_layer([classify(index, TEXT), classify(index, TEXT)], "r.txt")
    assert [(t["techniqueID"], t["score"]) for t in layer["techniques"]] == [("T1003", 2), ("T1059.001", 2)]
    assert layer["gradient"]["maxValue"] == 2
