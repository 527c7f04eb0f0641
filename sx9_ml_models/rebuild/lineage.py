"""Which versions a rebuild trains: those that were recorded, or those that a smaller journal leads to.

all of the journal     recorded answers  ──> fold ──> triggers ──> the ancestors of a version, and the version
a part of it           answers of the gate ──> fold ──> trigger ──> train ──> answer ──> fold ──> ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from schemas.errors import BadConfiguration
from schemas.journal import (
    Example,
    Manual,
    PolicyChange,
    Promoted,
    QuarantineRecord,
    Record,
    Refused,
    Score,
    Tick,
)
from schemas.windows import Trigger
from streams.core.fold import Output, State, initial, step

Answer = Promoted | Refused


def recorded_lineage(model: str, records: Iterable[tuple[int, Record]], version: str) -> list[Trigger]:
    """The triggers of a version and of its ancestors, oldest first.

    Args:
        model: The model.
        records: (offset, record) of its whole journal.
        version: Its name; empty: the champion at the end of the journal.

    Raises:
        BadConfiguration: The journal has no such version.
    """
    state, triggers = initial(model), dict[str, Trigger]()
    for offset, record in records:
        state, outputs = step(state, offset, record)
        triggers |= {output.version: output for output in outputs if isinstance(output, Trigger)}
    wanted = version or state.champion
    if wanted not in triggers:
        known = ", ".join(triggers) or "none: the journal has no trigger yet (`sx9 triggers --declined` says why)"
        raise BadConfiguration(f"the journal of {model} has no trigger of {wanted or 'a champion'}; it has {known}")
    lineage = [triggers[wanted]]
    while parent := lineage[0].parent:
        if parent not in triggers:
            raise BadConfiguration(
                f"{lineage[0].version} of {model} started from {parent}, which no trigger here led to: it "
                "can't be rebuilt from it"
            )
        lineage.insert(0, triggers[parent])
    return lineage


class Refold:
    """Folds a journal whose triggers are answered anew, by the gate.

    An answer has the place of the recorded answer to the same trigger, if there is one; otherwise it comes before
    the next record that is no example. So if nothing changes, the triggers are the recorded ones.

    Args:
        model: The model.
        train: Trains the version of a trigger, and says what the gate decided.
        answered: Ids of the triggers that the journal answers.

    Attributes:
        state: The state of the fold.
        triggers: The triggers so far, oldest first.
        answers: The answers, in the same order.
    """

    def __init__(self, model: str, train: Callable[[Trigger], Answer], answered: Callable[[str], bool]) -> None:
        self.state: State = initial(model)
        self.triggers: list[Trigger] = []
        self.answers: list[Answer] = []
        self._train = train
        self._is_answered = answered
        self._waiting: Answer | None = None

    def run(self, records: Iterable[tuple[int, Record]]) -> None:
        """Fold (offset, record) of the journal. A trigger at its end is answered there."""
        for offset, record in records:
            if isinstance(record, Example | QuarantineRecord):
                self._put(offset, record)
            elif isinstance(record, Promoted | Refused):
                if self._waiting and record.trigger == self._waiting.trigger:
                    self._answer(offset)
            else:
                if self._waiting and not self._is_answered(self._waiting.trigger):
                    self._answer(offset)
                if isinstance(record, Tick | Manual | PolicyChange | Score):
                    self._put(offset, record)
        while self._waiting:
            self._answer(self.state.next_offset)

    def _answer(self, offset: int) -> None:
        answer, self._waiting = self._waiting, None
        if answer:
            self._put(offset, answer)

    def _put(self, offset: int, record: Record) -> None:
        """Fold a record; one that is no example may have the offset of an answer that comes before it."""
        if not isinstance(record, Example | QuarantineRecord):
            self.state.next_offset = offset
        outputs: list[Output]
        self.state, outputs = step(self.state, offset, record)
        for output in outputs:
            if isinstance(output, Trigger):
                self.triggers.append(output)
                self._waiting = self._train(output)
                self.answers.append(self._waiting)
