"""Where the answers of two versions that generate text differ: the facts that they name, and their sentences.

    held-out instructions, with what their own event says ──> generate with both ──> facts, sentences ──> TextDiff

A fact is an id, a tactic or a mitigation that an answer names. Texts that differ in words alone have the same ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from schemas.context import from_text
from schemas.grounding import ids, names_in, tactics_in
from schemas.journal import Example, Instruction, held_out, key_hash
from schemas.versions import Manifest
from serving.reports.sentences import sentences
from trainers.core.progress import ProgressCallback, RunProgress, no_progress
from trainers.models.phi3_lora.contexts import with_own_context

MOST = 32
"""Questions that are asked; of more, those whose examples have the smallest hashes of keys. Generating is slow."""
AT_ONCE = 16
"""Questions between two steps of the progress."""
SHOWN = 10
"""Answers that are named."""

FactKind = Literal["id", "tactic", "mitigation"]
Fact = tuple[FactKind, str]


class FactAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """A fact: how many contexts give it, how many answers of each version name it, how many gained and lost it."""

    kind: FactKind
    name: str
    given: int
    before: int
    after: int
    gained: int
    lost: int


class ChangedText(msgspec.Struct, frozen=True, kw_only=True):
    """A question whose answer changed.

    Attributes:
        key: Of the example.
        question: What was asked.
        gained, lost: Facts that only the later, or only the earlier answer names.
        added, removed: Sentences that only one of them has.
    """

    key: str
    question: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


class TextDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of two versions.

    Attributes:
        examples: Examples whose questions were asked.
        held_out: There are so many.
        questions: What was asked, at most `MOST`; an example may have several.
        differ: Questions whose answers have other sentences.
        facts_differ: Questions whose answers name other facts.
        facts: The facts that were gained or lost, most of them first.
        largest: The questions whose facts, then whose sentences changed most.
    """

    examples: int
    held_out: int
    questions: int
    differ: int
    facts_differ: int
    facts: tuple[FactAnswers, ...]
    largest: tuple[ChangedText, ...]


Asked = tuple[str, Instruction]
"""The key of an example, and one of its questions."""


def text_diff(
    load: Callable[[Manifest], Any],
    before: Manifest,
    after: Manifest,
    current: Sequence[Example],
    on_progress: ProgressCallback = no_progress,
) -> TextDiff | None:
    """Ask two versions the questions of held-out examples.

    Args:
        load: Loads a version; one of them is in memory at a time.
        before, after: Of the versions.
        current: All current examples.
        on_progress: Called after every `AT_ONCE` answers.

    Returns:
        What differs; None if nothing is held out.
    """
    holdout = [example for example in current if example.instructions and held_out(example)]
    if not holdout:
        return None
    chosen = heapq.nsmallest(MOST, holdout, key=lambda example: key_hash(example.key))
    asked = [(example.key, one) for example in chosen for one in with_own_context(example).instructions][:MOST]
    answers = [_answers(load(each), each.version, asked, on_progress) for each in (before, after)]
    found = compare(asked, *answers)
    return msgspec.structs.replace(found, examples=len({key for key, _ in asked}), held_out=len(holdout))


def compare(asked: Sequence[Asked], before: Sequence[str], after: Sequence[str]) -> TextDiff:
    """Compare the answers of two versions to the same questions, in the same order."""
    mitigations = {name for _, one in asked for name in _mitigations_given(one)}
    counts: dict[Fact, list[int]] = {}
    changed = []
    for (key, one), *answers in zip(asked, before, after, strict=True):
        given, then, now = (set(facts_in(text, mitigations)) for text in (one.input, *answers))
        for fact in given | then | now:
            row = counts.setdefault(fact, [0, 0, 0, 0, 0])
            has = (fact in given, fact in then, fact in now, fact in now - then, fact in then - now)
            for column, value in enumerate(has):
                row[column] += value
        if difference := _changed(key, one.instruction, answers, (then, now)):
            changed.append(difference)
    rows = [
        FactAnswers(kind=kind, name=name, given=g, before=b, after=a, gained=w, lost=x)
        for (kind, name), (g, b, a, w, x) in counts.items()
        if w or x
    ]
    return TextDiff(
        examples=len(asked),
        held_out=len(asked),
        questions=len(asked),
        differ=len(changed),
        facts_differ=sum(bool(each.gained or each.lost) for each in changed),
        facts=tuple(sorted(rows, key=lambda row: (-row.gained - row.lost, row.kind, row.name))),
        largest=tuple(sorted(changed, key=_by_size)[:SHOWN]),
    )


def facts_in(text: str, mitigations: set[str]) -> Iterator[Fact]:
    """The facts that a text names.

    Args:
        text: An answer, or what it was given.
        mitigations: Names to look for.

    >>> sorted(facts_in("Lua (T1) serves impact. Audit helps.", {"Audit"}))
    [('mitigation', 'Audit'), ('tactic', 'impact')]
    """
    for each in ids(text):
        yield "id", each
    for sentence in sentences(text):
        for each in tactics_in(sentence.text):
            yield "tactic", each
    for each in names_in(text, mitigations):
        yield "mitigation", each


def _answers(predictor: Any, version: str, asked: Sequence[Asked], on_progress: ProgressCallback) -> list[str]:
    found: list[str] = []
    for start in range(0, len(asked), AT_ONCE):
        found += predictor.predict([one for _, one in asked[start : start + AT_ONCE]])
        on_progress(RunProgress(f"answers of {version}", len(found), len(asked)))
    return found


def _mitigations_given(one: Instruction) -> set[str]:
    lines = (line for context in from_text(one.input) for line in context.lines)
    return {line.name for line in lines if line.role == "mitigation" and line.name}


def _changed(
    key: str, question: str, answers: Sequence[str], facts: tuple[set[Fact], set[Fact]]
) -> ChangedText | None:
    """What changed in one answer; None if no sentence did."""
    then, now = (list(dict.fromkeys(each.text for each in sentences(text))) for text in answers)
    if then == now:
        return None
    gained, lost = facts[1] - facts[0], facts[0] - facts[1]
    return ChangedText(
        key=key,
        question=question,
        gained=tuple(sorted(name for _, name in gained)),
        lost=tuple(sorted(name for _, name in lost)),
        added=tuple(sentence for sentence in now if sentence not in then),
        removed=tuple(sentence for sentence in then if sentence not in now),
    )


def _by_size(each: ChangedText) -> tuple[int, int, str, str]:
    sizes = (len(each.gained) + len(each.lost), len(each.added) + len(each.removed))
    return -sizes[0], -sizes[1], each.key, each.question
