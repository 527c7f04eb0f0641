"""A lineage that was trained again: the journal folded without some of its examples, with answers of its own.

    records ──> without recorded answers ──> fold without what is excluded ──> triggers ──> train ──> answers ──┐
                                             └──< an answer, in the place of the recorded one <────────────────┘

`Refold` does this while versions are trained. A lineage change in the journal has the answers that came of it, so
`follow` leads to the same state again, from the records before the change. The fold goes on from there: what was
excluded is in no window, count or sample, and the run after it starts from the new champion. A change that leaves
out less than the one before it is no other case: what was left out is folded again, for the journal has all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from schemas.errors import Corrupt
from schemas.journal import (
    Answered,
    ChampionRecord,
    Example,
    LineageChange,
    Promoted,
    QuarantineRecord,
    Record,
    Refused,
    Score,
)
from schemas.windows import Trigger
from streams.core.bounds import MAX_ID_CHARS
from streams.core.fold import Output, State, initial, step

Answer = Promoted | Refused
History = Callable[[int], Iterable[tuple[int, Record]]]
"""The records of a journal before an offset, from its beginning on, with their offsets."""
LINEAGE_STEP = 1_000


def numbered_from(latest: int) -> int:
    """The number after which the versions of a new lineage are numbered.

    Args:
        latest: Number of the latest trigger of the lineage that it may replace.

    >>> numbered_from(8), numbered_from(700), numbered_from(1_004)
    (1000, 2000, 2000)
    """
    return ((latest + LINEAGE_STEP // 2) // LINEAGE_STEP + 1) * LINEAGE_STEP


class Refold:
    """Folds a journal whose triggers are answered anew, by the gate.

    An answer has the place of the recorded answer to the same trigger, if there is one; otherwise it comes before
    the next record that is no example. So if nothing changes, the triggers are the recorded ones.

    Args:
        model: The model.
        train: Trains the version of a trigger, and says what the gate decided.
        answered: Whether the journal answers a trigger, by its id.
        exclusions: What is left out, see `schemas.exclusions`.
        numbered_from: The number of the first trigger, less one.

    Attributes:
        state: The state of the fold.
        triggers: The triggers so far, oldest first.
        answers: The answers, in the same order.
        answered: The same, as a lineage change has them.
    """

    def __init__(
        self,
        model: str,
        train: Callable[[Trigger], Answer],
        answered: Callable[[str], bool],
        exclusions: tuple[str, ...] = (),
        numbered_from: int = 0,
    ) -> None:
        self.state = _begin(model, exclusions, numbered_from)
        self.triggers: list[Trigger] = []
        self.answers: list[Answer] = []
        self.answered: list[Answered] = []
        self._train = train
        self._is_answered = answered
        self._waiting: Answer | None = None
        self._end = 0

    def run(self, records: Iterable[tuple[int, Record]], end: int) -> None:
        """Fold (offset, record) of the journal before the offset `end`. A trigger at its end is answered there."""
        self._end = end
        for offset, record in records:
            if isinstance(record, Example | QuarantineRecord):
                self._put(offset, record)
            elif isinstance(record, Promoted | Refused):
                if self._waiting and record.trigger == self._waiting.trigger:
                    self._answer(offset)
            else:
                if self._waiting and not self._is_answered(self._waiting.trigger):
                    self._answer(offset)
                if not isinstance(record, ChampionRecord):
                    self._put(offset, record)
        while self._waiting:
            self._answer(end)

    def _answer(self, offset: int) -> None:
        answer, self._waiting = self._waiting, None
        if answer:
            self.answered.append(Answered(offset, answer.version, isinstance(answer, Promoted)))
            self._take(_put_answer(self.state, offset, answer, self._end))

    def _put(self, offset: int, record: Record) -> None:
        self._take(_put(self.state, offset, record))

    def _take(self, result: tuple[State, list[Output]]) -> None:
        self.state, outputs = result
        for output in outputs:
            if isinstance(output, Trigger):
                self.triggers.append(output)
                self._waiting = self._train(output)
                self.answers.append(self._waiting)


def follow(
    state: State,
    offset: int,
    record: Record,
    history: History,
    on_lineage: Callable[[list[Trigger]], None] = lambda _triggers: None,
) -> tuple[State, list[Output]]:
    """`streams.core.fold.step`, also for a lineage change: that one needs the records before it.

    Args:
        state, offset, record: See `step`.
        history: Reads the journal from its beginning; only for a lineage change, which is rare.
        on_lineage: Called with the triggers of the lineage that takes over.
    """
    if isinstance(record, LineageChange) and is_due(state, offset, record):
        state, triggers = lineage_state(state, record, history(offset))
        state.next_offset = offset
        on_lineage(triggers)
    return step(state, offset, record)


def is_due(state: State, offset: int, change: LineageChange) -> bool:
    """Whether a lineage change was not folded yet."""
    return offset >= state.next_offset and change.request[:MAX_ID_CHARS] not in state.recent_requests


def lineage_state(
    before: State, change: LineageChange, records: Iterable[tuple[int, Record]]
) -> tuple[State, list[Trigger]]:
    """The state to which a lineage change leads, and the triggers of the lineage.

    What came after the end of the rebuild is folded too, but nothing is decided: it is pending.

    Args:
        before: The state before the change.
        change: The lineage change.
        records: (offset, record) of the journal before it.

    Raises:
        Corrupt: This journal does not lead to the versions of the change.
    """
    state = _begin(before.model, change.exclusions, change.numbered_from)
    triggers: list[Trigger] = []
    answers = deque(change.answers)

    def take(result: tuple[State, list[Output]]) -> None:
        nonlocal state
        state, outputs = result
        triggers.extend(output for output in outputs if isinstance(output, Trigger))

    def answer() -> None:
        each = answers.popleft()
        if state.open_trigger is None or state.open_trigger.version != each.version:
            waits = state.open_trigger.version if state.open_trigger else "no version"
            raise Corrupt(
                f"the lineage change to {change.version} of {before.model} answers {each.version} at offset "
                f"{each.offset}, where {waits} waits: it was not made from this journal"
            )
        verdict: dict[str, object] = {"trigger": state.open_trigger.id, "version": each.version, "time_ms": 0}
        kind = Promoted(**verdict) if each.promoted else Refused(**verdict, reason="")  # type: ignore[arg-type]
        take(_put_answer(state, each.offset, kind, change.end))

    ended = False
    for offset, record in records:
        if offset >= change.end and not ended:
            ended = True
            while answers:
                answer()
            state.open_trigger = triggers[-1] if triggers else None
        if answers and answers[0].offset == offset:
            answer()
        if not isinstance(record, ChampionRecord):
            take(_put(state, offset, record))
    while answers:
        answer()
    if state.champion != change.version:
        raise Corrupt(
            f"the lineage change to {change.version} of {before.model} leads to {state.champion or 'no champion'}"
        )
    state.open_trigger = None
    state.recent_requests = before.recent_requests
    return state, triggers


def _begin(model: str, exclusions: tuple[str, ...], number: int) -> State:
    state = initial(model)
    state.exclusions, state.trigger_count, state.lineage_from = exclusions, number, number
    return state


def _put(state: State, offset: int, record: Record) -> tuple[State, list[Output]]:
    """Fold a record; one that is no example may have the offset of an answer that comes before it.

    Scores are left out in a lineage of its own: they are of champions of the journal, and here there are others.
    """
    if isinstance(record, Score) and (state.exclusions or state.lineage_from):
        return state, []
    if not isinstance(record, Example | QuarantineRecord):
        state.next_offset = offset
    return step(state, offset, record)


def _put_answer(state: State, offset: int, answer: Answer, end: int) -> tuple[State, list[Output]]:
    """Fold an answer before the record at an offset. At the end it is at the last record, for no later counts."""
    return _put(state, offset if offset < end else max(state.next_offset - 1, 0), answer)
