"""Where the answers of two versions differ, on held-out examples that neither was trained on.

    copy of the journal ──> current examples of the holdout ──> predict with both ──> what differs

distilbert-mitre   the labels of texts: `AnswerDiff`
phi3-mitre-lora    the facts and sentences of answers: `text_answers.TextDiff`
gnn-threat         the techniques that are ranked for actors and software: `link_answers.RankDiff`
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadConfiguration
from schemas.journal import Example, held_out, key_hash
from schemas.versions import Manifest
from sx9_ml_models.explain import link_answers, text_answers
from sx9_ml_models.explain.link_answers import RankDiff
from sx9_ml_models.explain.text_answers import TextDiff
from trainers.core.progress import ProgressCallback, no_progress
from trainers.models.predictor import load_predictor
from trainers.store.journal_reader import JournalReader
from trainers.store.registry import Registry

MOST = 2_000
"""Examples that are compared; of more, those with the smallest hashes of their keys, so that they stay the same."""
SHOWN = 10
"""Examples that are named."""
TEXT_CHARS = 120

Load = Callable[[Manifest], Any]
"""Loads the predictor of a version."""
Answer = Mapping[str, tuple[float, bool]]
"""Label -> its probability, and whether the version says it."""


class LabelAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """A label: how many examples have it, to how many each version gives it, and how many it won and lost."""

    label: str
    true: int
    before: int
    after: int
    won: int
    lost: int


class ChangedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An example whose answer changed; `label` is the one with the largest change of its probability."""

    key: str
    text: str
    labels: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    label: str
    probability_before: float
    probability_after: float


class AnswerDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of two versions.

    Attributes:
        examples: Compared ones.
        held_out: There are so many; see `MOST`.
        differ: Examples to which the versions give other labels.
        labels: The labels whose answers differ, most of them first.
        largest: The examples with the largest change of a probability, among those that differ.
    """

    examples: int
    held_out: int
    differ: int
    labels: tuple[LabelAnswers, ...]
    largest: tuple[ChangedAnswer, ...]


AnyDiff = AnswerDiff | TextDiff | RankDiff


def compare(examples: Sequence[Example], before: Sequence[Answer], after: Sequence[Answer]) -> AnswerDiff:
    """Compare the answers of two versions to the same examples, in the same order.

    A label that a version does not know has the probability 0.
    """
    counts: dict[str, list[int]] = {}
    changed = []
    for example, old, new in zip(examples, before, after, strict=True):
        then, now = _said(old), _said(new)
        for label in {*then, *now, *example.labels}:
            row = counts.setdefault(label, [0, 0, 0, 0, 0])
            has = (label in example.labels, label in then, label in now)
            for column, value in enumerate((*has, has[2] and not has[1], has[1] and not has[2])):
                row[column] += value
        if then != now:
            changed.append(_changed(example, old, new))
    rows = [
        LabelAnswers(label=label, true=t, before=b, after=a, won=w, lost=x)
        for label, (t, b, a, w, x) in counts.items()
    ]
    differing = [row for row in rows if row.won or row.lost]
    return AnswerDiff(
        examples=len(examples),
        held_out=len(examples),
        differ=len(changed),
        labels=tuple(sorted(differing, key=lambda row: (-row.won - row.lost, row.label))),
        largest=tuple(sorted(changed, key=lambda each: (-abs(_change(each)), each.key))[:SHOWN]),
    )


def answer_diff(
    registry: Registry,
    journal: Path,
    before: Manifest,
    after: Manifest,
    on_progress: ProgressCallback = no_progress,
) -> AnyDiff:
    """Load two versions, and compare their answers on the holdout.

    Args:
        registry: Has the versions.
        journal: The copy of the journal of a trainer.
        before, after: Of the versions.
        on_progress: Called while texts are generated, which takes long.

    Raises:
        BadConfiguration: No trainer has run here, or nothing that can be asked about is held out.
    """
    model = before.model
    if not journal.is_file():
        raise BadConfiguration(f"no trainer of {model} has run here ({journal} is missing)")
    reader = JournalReader(journal)
    try:
        current = [example for _, example in reader.current_examples(2**62)]
    finally:
        reader.close()

    def load(manifest: Manifest) -> Any:
        return load_predictor(model, registry.folder(model, manifest.version))

    found: AnyDiff | None
    if model == "phi3-mitre-lora":
        found = text_answers.text_diff(load, before, after, current, on_progress)
    elif model == "gnn-threat":
        found = link_answers.rank_diff(load(before), load(after), current)
    else:
        found = _label_diff(load, before, after, current)
    if found is None:
        raise BadConfiguration(f"no example of {model} is held out yet")
    return found


def _label_diff(load: Load, before: Manifest, after: Manifest, current: Sequence[Example]) -> AnswerDiff | None:
    holdout = [example for example in current if example.text and held_out(example)]
    if not holdout:
        return None
    chosen = heapq.nsmallest(MOST, holdout, key=lambda example: key_hash(example.key))
    answers = [_answers(load(each), chosen) for each in (before, after)]
    return msgspec.structs.replace(compare(chosen, *answers), held_out=len(holdout))


def _answers(predictor: Any, examples: Sequence[Example]) -> list[Answer]:
    probabilities, said = predictor.predict_arrays([example.text for example in examples])
    labels = predictor.labels
    return [
        {label: (float(p), bool(s)) for label, p, s in zip(labels, *row, strict=True)}
        for row in zip(probabilities, said, strict=True)
    ]


def _said(answer: Answer) -> tuple[str, ...]:
    return tuple(sorted(label for label, (_, said) in answer.items() if said))


def _changed(example: Example, before: Answer, after: Answer) -> ChangedAnswer:
    def probability(answer: Answer, label: str) -> float:
        return answer.get(label, (0.0, False))[0]

    labels = sorted({*before, *after})
    largest = max(labels, key=lambda label: abs(probability(after, label) - probability(before, label)))
    return ChangedAnswer(
        key=example.key,
        text=example.text[:TEXT_CHARS],
        labels=example.labels,
        before=_said(before),
        after=_said(after),
        label=largest,
        probability_before=probability(before, largest),
        probability_after=probability(after, largest),
    )


def _change(each: ChangedAnswer) -> float:
    return each.probability_after - each.probability_before
