"""What a report says: the techniques and tactics of its sentences, and its severity.

text ──sentences──> nearest examples ──threshold──> techniques, each with its sentences and examples
               ├──> ids in the text ─────────────> techniques that the text itself names
               └──> distilbert-mitre ────────────> tactics
text ──CVSS, CVE──> severity that is looked up; where nothing states one, distilbert-mitre predicts it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from schemas.ids import TECHNIQUE
from schemas.severity import KnownSeverity, cves_in, stated_severity
from schemas.taxonomy import severity_label
from serving.reports.read import ReportText
from serving.reports.sentences import sentences
from serving.techniques.index import FoundTechnique, TechniqueIndex, Threshold

_TECHNIQUE_ID = re.compile(rf"(?<![\w.]){TECHNIQUE}(?![\w]|\.\d)")
SEVERITY_CHARS = 4_000
"""What of a text the prediction of its severity reads; the model truncates it further."""


class SaidTechnique(msgspec.Struct, frozen=True):
    """A technique of a sentence.

    Attributes:
        id, name: Of the technique.
        by: `nearest examples`, or `stated`: the sentence has its id.
        score: Of the nearest examples; 0 if the sentence states the technique.
        found: The examples it rests on; None if the sentence states it.
    """

    id: str
    name: str
    by: Literal["stated", "nearest examples"]
    score: float = 0.0
    found: FoundTechnique | None = None


class ClassifiedSentence(msgspec.Struct, frozen=True):
    """A sentence.

    Attributes:
        start, end: Its place in the text, half open.
        text: The sentence on one line.
        techniques: Surest first.
        tactics: Those that reach their threshold.
        probabilities: Of each of these tactics, calibrated.
    """

    start: int
    end: int
    text: str
    techniques: tuple[SaidTechnique, ...]
    tactics: tuple[str, ...]
    probabilities: tuple[float, ...] = ()


class ReportSeverity(msgspec.Struct, frozen=True):
    """The severity of a report.

    Attributes:
        severity: One of five; empty if it is not known.
        how: `stated`: looked up; `predicted`: by the model; `unknown`.
        source: What states it, or the model and its probability.
    """

    severity: str
    how: Literal["stated", "predicted", "unknown"]
    source: str


class ReportTechnique(msgspec.Struct, frozen=True):
    """A technique of a report, its best score, whether the report states it, and the numbers of its sentences."""

    id: str
    name: str
    score: float
    stated: bool
    sentences: tuple[int, ...]


class ClassifiedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says.

    Attributes:
        id: Name of the file, or of the line in it.
        sentences: All of them, in order.
        techniques: Those that are stated first, then by score.
        tactics: Tactic -> number of its sentences, most first.
        severity: Of the whole text.
        cves: In order.
        threshold: From which score a technique is said, and how often that is right.
        examples: Examples that the techniques were taken from.
        model: Model and version that said the tactics; empty without one.
        away: What the answer comes without -> why.
    """

    id: str
    sentences: tuple[ClassifiedSentence, ...]
    techniques: tuple[ReportTechnique, ...]
    tactics: dict[str, int]
    severity: ReportSeverity
    cves: tuple[str, ...]
    threshold: Threshold
    examples: int
    model: str
    away: dict[str, str]


class TextPrediction(Protocol):
    """See `trainers.models.distilbert.predict.TextPrediction`."""

    @property
    def tactics(self) -> Mapping[str, float]:
        """Tactic -> probability."""

    @property
    def predicted_tactics(self) -> tuple[str, ...]:
        """The tactics that reach their threshold."""

    @property
    def severity(self) -> str | None:
        """The label of the most probable severity."""

    @property
    def severities(self) -> Mapping[str, float] | None:
        """Label -> probability."""


class TextModel(Protocol):
    """A loaded version of `distilbert-mitre`."""

    def predict(self, texts: Sequence[str], /) -> Sequence[TextPrediction]:
        """One prediction for each text."""


class ReportClassifier:
    """Says what reports say.

    Args:
        index: The examples.
        threshold: Of the index, from `serving.techniques.index.calibrate`.
        severities: CVEs -> the severities that feeds give.
        model: Says tactics, and severities that nothing states; None: it is away.
        model_name: Its model and version, or why there is none.
    """

    def __init__(
        self,
        index: TechniqueIndex,
        threshold: Threshold,
        severities: Callable[[Sequence[str]], Mapping[str, KnownSeverity]],
        model: TextModel | None = None,
        model_name: str = "no version of distilbert-mitre was given",
    ) -> None:
        self._index = index
        self._names = index.techniques
        self._threshold = threshold
        self._severities = severities
        self._model = model
        self._model_name = model_name

    def classify(self, report: ReportText) -> ClassifiedReport:
        """Say what one report says."""
        parts = sentences(report.text)
        texts = [part.text for part in parts]
        nearest = self._index.nearest(texts, k=3)
        predicted = self._model.predict(texts) if self._model else ()
        tactics = [{each: p.tactics[each] for each in p.predicted_tactics} for p in predicted] or [{}] * len(parts)
        said = [
            said_techniques(text, near, self._names, self._threshold)
            for text, near in zip(texts, nearest, strict=True)
        ]
        found = tuple(
            ClassifiedSentence(part.start, part.end, part.text, of_part, tuple(each), tuple(each.values()))
            for part, of_part, each in zip(parts, said, tactics, strict=True)
        )
        counts = Counter(tactic for sentence in found for tactic in sentence.tactics)
        return ClassifiedReport(
            id=report.id,
            sentences=found,
            techniques=_of_report(found),
            tactics=dict(counts.most_common()),
            severity=self._severity(report.text),
            cves=cves_in(report.text),
            threshold=self._threshold,
            examples=len(self._index),
            model=self._model_name if self._model else "",
            away={} if self._model else {"tactics": self._model_name},
        )

    def _severity(self, text: str) -> ReportSeverity:
        stated = stated_severity(text, self._severities(cves_in(text)))
        if stated:
            return ReportSeverity(stated.severity, "stated", f"{stated.by}: {stated.source}")
        prediction = self._model.predict([text[:SEVERITY_CHARS]])[0] if self._model else None
        if prediction is None or not prediction.severity or not prediction.severities:
            return ReportSeverity("", "unknown", "nothing states it, and no model knows severities")
        probability = prediction.severities[prediction.severity]
        severity = prediction.severity.removeprefix(severity_label(""))
        return ReportSeverity(severity, "predicted", f"{self._model_name}, probability {probability:.2f}")


def said_techniques(
    text: str, near: Sequence[FoundTechnique], names: Mapping[str, str], threshold: Threshold
) -> tuple[SaidTechnique, ...]:
    """The techniques of a sentence: those that it states, then those of its nearest examples over the threshold.

    Args:
        text: The sentence.
        near: What its nearest examples have, best first.
        names: Id of a technique -> its name.
        threshold: Of the index.
    """
    stated = dict.fromkeys(_TECHNIQUE_ID.findall(text))
    said = [SaidTechnique(id_, names.get(id_, ""), "stated") for id_ in stated]
    said += [
        SaidTechnique(each.id, each.name, "nearest examples", each.score, each)
        for each in near
        if each.score >= threshold.score and each.id not in stated
    ]
    return tuple(said)


def _of_report(found: Sequence[ClassifiedSentence]) -> tuple[ReportTechnique, ...]:
    said: dict[str, list[tuple[int, SaidTechnique]]] = {}
    for number, sentence in enumerate(found):
        for each in sentence.techniques:
            said.setdefault(each.id, []).append((number, each))
    techniques = (
        ReportTechnique(
            id=id_,
            name=each[0][1].name,
            score=max(technique.score for _, technique in each),
            stated=any(technique.by == "stated" for _, technique in each),
            sentences=tuple(number for number, _ in each),
        )
        for id_, each in said.items()
    )
    return tuple(sorted(techniques, key=lambda each: (not each.stated, -each.score, each.id)))
