"""What a classifier says of texts: of each as a whole, and of each sentence.

text ──> sentences ──> passages that fit the model ──> one prediction each ──> the text: highest of its passages
            └────────────────────────────────────────> one prediction each ──> labels with offsets
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from serving.passages import Span, passages
from serving.reports.sentences import sentences

if TYPE_CHECKING:  # it imports torch, which a server does without until somebody asks it
    from trainers.models.distilbert.predict import TextPrediction

CHARS_PER_TOKEN = 4
"""A passage has at most this many characters for each token that the model reads."""


class Labels(msgspec.Struct, frozen=True):
    """What is said of a text or a sentence.

    Attributes:
        tactics: The tactics whose probability reaches the threshold of the version, most probable first.
        probabilities: Tactic -> calibrated probability, 0 to 1.
        severity: The most probable severity, such as `high`; None if the version knows none.
        severity_probability: Its probability.
    """

    tactics: tuple[str, ...]
    probabilities: dict[str, float]
    severity: str | None = None
    severity_probability: float | None = None


class Plan(msgspec.Struct, frozen=True):
    """The parts of a text that are classified.

    Attributes:
        passages: Together the whole text.
        sentences: Those that are to be answered; empty if none are wanted.
    """

    passages: tuple[Span, ...]
    sentences: tuple[Span, ...]


def plan(text: str, max_tokens: int, with_sentences: bool) -> Plan:
    """Decide what is classified of a text.

    >>> plan("One. Two.", 128, True).sentences
    (Span(start=0, end=4), Span(start=5, end=9))
    """
    found = [Span(sentence.start, sentence.end) for sentence in sentences(text)]
    joined = passages(found, max_tokens * CHARS_PER_TOKEN) or [Span(0, len(text))]
    return Plan(tuple(joined), tuple(found) if with_sentences else ())


def queries(text: str, planned: Plan) -> list[str]:
    """The texts to classify: the passages, then the sentences that are no passage."""
    return [text[span.start : span.end] for span in _spans(planned)]


def answer(planned: Plan, predictions: Sequence[TextPrediction]) -> tuple[Labels, list[Labels]]:
    """What is said of the text, and of each of its sentences.

    Args:
        planned: Its parts.
        predictions: One for each of `queries`.
    """
    by_span = dict(zip(_spans(planned), map(_labels, predictions), strict=True))
    whole = [by_span[span] for span in planned.passages]
    return _joined(whole), [by_span[span] for span in planned.sentences]


def _spans(planned: Plan) -> list[Span]:
    return list(dict.fromkeys((*planned.passages, *planned.sentences)))


def _labels(prediction: TextPrediction) -> Labels:
    severities = prediction.severities or {}
    severity = prediction.severity
    return Labels(
        tactics=_by_probability(prediction.predicted_tactics, prediction.tactics),
        probabilities={tactic: round(p, 4) for tactic, p in prediction.tactics.items()},
        severity=severity.partition(":")[2] if severity else None,
        severity_probability=round(severities[severity], 4) if severity in severities else None,
    )


def _joined(parts: Sequence[Labels]) -> Labels:
    """The labels of a text: tactics of any passage, the severity that is most probable in any."""
    if len(parts) == 1:
        return parts[0]
    probabilities = {t: max(part.probabilities[t] for part in parts) for t in parts[0].probabilities}
    surest = max(parts, key=lambda part: part.severity_probability or 0.0)
    tactics = _by_probability({tactic for part in parts for tactic in part.tactics}, probabilities)
    return Labels(tactics, probabilities, surest.severity, surest.severity_probability)


def _by_probability(tactics: set[str] | Sequence[str], probabilities: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(sorted(tactics, key=lambda tactic: (-probabilities[tactic], tactic)))
