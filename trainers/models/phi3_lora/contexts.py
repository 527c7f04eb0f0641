"""The context of each instruction: what the journal said of its technique up to there, and what does not belong.

    instruction ──technique──> what the examples of the technique say, none of them later in the journal
                                  │
                     hash of the key: 4 of 10 as it is
                                      3 of 10 beside another technique, which does not belong
                                      2 of 10 without what answers the question
                                      1 of 10 without the technique: only the other one is there
                                  │
                                  └──> input, and the answer that this input gives

So the model learns to use what it is given, to ignore what does not belong, and to say that it does not know. It
all depends on the examples, their offsets and the hashes of their keys alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from schemas.context import (
    ANSWERED_BY,
    MAX_CONTEXT_CHARS,
    Context,
    Line,
    Question,
    answer,
    as_text,
    fitted,
    from_text,
    not_there,
)
from schemas.journal import Example, Instruction, held_out, key_hash
from trainers.core.dataset import Dataset, OffsetExample

MAX_TRIED = 8
"""Techniques that are looked at to find one that does not belong and could mislead."""
_TENTHS = 10
_NOT_THERE, _WITHOUT_ANSWER, _BESIDE_ANOTHER = 1, 2, 3
"""Tenths of the instructions. A question what a technique is has no answer where the technique is not there."""
_OTHER_SHARE = 0.4
"""Share of the prompt's context for the technique that does not belong."""

_Known = tuple[int, str, Context]
"""Offset and key of an example, and what it says of its technique."""


class KnownTechniques:
    """What examples say of techniques, by the group of the examples.

    Args:
        examples: In any order; instructions whose input is not a context say nothing.
    """

    def __init__(self, examples: Iterable[OffsetExample]) -> None:
        found: dict[tuple[int, str], OffsetExample] = {(at[0], at[1].key): at for at in examples}
        self._by_group: dict[str, list[_Known]] = {}
        for offset, key in sorted(found):
            example = found[offset, key][1]
            for known in (known for one in example.instructions for known in from_text(one.input)):
                self._by_group.setdefault(_group(example), []).append((offset, key, known))
        self._groups = tuple(sorted(self._by_group))

    def at(self, group: str, offset: int, first: str = "") -> Context | None:
        """What was known of a technique at an offset of the journal.

        Args:
            group: Of its examples.
            offset: Examples after it were not known.
            first: Key of an example whose lines are listed before those of the same role of others.

        Returns:
            The lines in an order that a hash decides; of a key that has several examples the latest. None if
            nothing was known.
        """
        latest: dict[str, int] = {}
        known = [each for each in self._by_group.get(group, ()) if each[0] <= offset]
        for at, key, _ in known:
            latest[key] = at
        current = [(key, context) for at, key, context in known if latest[key] == at]
        if not current:
            return None
        newest = next((context for key, context in current if key == first), current[-1][1])
        ranked = sorted(current, key=lambda one: (one[0] != first, key_hash(f"{first} {one[0]}")))
        lines = tuple(dict.fromkeys(line for _, context in ranked for line in context.lines))
        return msgspec.structs.replace(newest, lines=lines)

    def another(self, group: str, offset: int, question: Question, salt: str) -> Context | None:
        """What was known at an offset of another technique, if possible one that answers the question.

        Args:
            group: Of the technique that is asked about.
            offset: Of the journal.
            question: What is asked.
            salt: Decides the technique.

        Returns:
            None if nothing was known of another one.
        """
        found: Context | None = None
        for turn in range(min(MAX_TRIED, len(self._groups))):
            other = self._groups[key_hash(f"{salt} {turn}") % len(self._groups)]
            known = self.at(other, offset, salt) if other != group else None
            if known and known.of(question):
                return known
            found = found or known
        return found


def with_contexts(data: Dataset, max_chars: int) -> Dataset:
    """A dataset whose instructions have contexts and the answers that these give.

    Args:
        data: `context` has what else is known; only examples of the same side of the holdout are seen.
        max_chars: Limit of a context, in characters; 0: no instruction has one, and answers stay as they are.

    Returns:
        The same examples. Instructions whose input is not a context, as in older journals, are left as they are.
    """
    everything = (*data.context, *data.train, *data.old, *data.recent)
    sides = {side: [at for at in everything if held_out(at[1]) == side] for side in (False, True)}
    known = {side: KnownTechniques(examples) for side, examples in sides.items()}

    def part(examples: Sequence[OffsetExample]) -> tuple[OffsetExample, ...]:
        return tuple((offset, _example(offset, one, known, max_chars)) for offset, one in examples)

    return msgspec.structs.replace(
        data, fresh=part(data.fresh), rehearsal=part(data.rehearsal), old=part(data.old), recent=part(data.recent)
    )


def with_own_context(example: Example, max_chars: int = MAX_CONTEXT_CHARS) -> Example:
    """An example whose instructions have what its own event says, as far as it fits a prompt.

    Args:
        example: Of the journal.
        max_chars: Limit of a context, in characters.
    """

    def changed(one: Instruction) -> Instruction:
        own = from_text(one.input)
        if not own:
            return one
        question = question_of(own[0])
        known = fitted(own[0], question, max_chars)
        return msgspec.structs.replace(one, input=as_text([known]), output=answer(known, question))

    return msgspec.structs.replace(example, instructions=tuple(map(changed, example.instructions)))


def question_of(known: Context) -> Question:
    """The question that an instruction of the journal asks, from what its event says."""
    roles = {line.role for line in known.lines}
    return next((q for q in ("mitigate", "detect") if roles & set(ANSWERED_BY[q])), "explain")


def _group(example: Example) -> str:
    return example.group or example.key


def _example(offset: int, example: Example, known: Mapping[bool, KnownTechniques], max_chars: int) -> Example:
    changed = tuple(
        _instruction(one, offset, example, f"{example.key}:{number}", known[held_out(example)], max_chars)
        for number, one in enumerate(example.instructions)
    )
    return msgspec.structs.replace(example, instructions=changed)


def _instruction(
    one: Instruction, offset: int, example: Example, salt: str, known: KnownTechniques, max_chars: int
) -> Instruction:
    own = from_text(one.input)
    if not own:
        return one
    if not max_chars:
        return msgspec.structs.replace(one, input="")
    question = question_of(own[0])
    subject = known.at(_group(example), offset, example.key) or own[0]
    turn = key_hash(f"{salt} context") % _TENTHS
    other: Context | None = None
    if turn < _NOT_THERE + _WITHOUT_ANSWER + _BESIDE_ANOTHER:
        other = known.another(_group(example), offset, question, salt)
    if turn < _NOT_THERE or (turn < _NOT_THERE + _WITHOUT_ANSWER and question == "explain"):
        given = [fitted(other, question, max_chars)] if other else []
        said = not_there(_as_called(subject, one.instruction))
        return msgspec.structs.replace(one, input=as_text(given), output=said)
    if turn < _NOT_THERE + _WITHOUT_ANSWER:
        lines = tuple(line for line in subject.lines if line.role not in ANSWERED_BY[question])
        subject = msgspec.structs.replace(subject, lines=lines)
        other = other if turn == _NOT_THERE else None
    room = max_chars
    if other:
        other = fitted(_briefly(other, question), question, round(max_chars * _OTHER_SHARE))
        room -= 2 + len(as_text([other]))
    subject = _as_listed(fitted(subject, question, room))
    return msgspec.structs.replace(
        one, input=as_text(_ordered(subject, other, salt)), output=answer(subject, question)
    )


def _as_called(context: Context, question: str) -> str:
    """A technique with its name and its id, or with the one of them that a question names it by."""
    named, by_id = context.name in question, context.id in question
    if named == by_id:
        return f"{context.name} ({context.id})"
    return context.name if named else context.id


def _ordered(subject: Context, other: Context | None, salt: str) -> list[Context]:
    """Both contexts; a hash decides which comes first."""
    both = [each for each in (subject, other) if each]
    return both[::-1] if key_hash(f"{salt} order") % 2 else both


def _briefly(context: Context, question: Question) -> Context:
    """A context with what answers a question only."""
    return msgspec.structs.replace(context, lines=tuple(context.of(question)))


def _as_listed(context: Context) -> Context:
    """A context with its lines in the order of their roles and names, as the server lists them."""
    roles = list(dict.fromkeys(role for roles in ANSWERED_BY.values() for role in roles))

    def place(line: Line) -> tuple[int, str, str]:
        return roles.index(line.role), line.id, line.name

    return msgspec.structs.replace(context, lines=tuple(sorted(context.lines, key=place)))
