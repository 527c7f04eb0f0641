"""A backtest: the journal of a model folded again, under its own rules or under others.

    records ──> without recorded answers and policies ──┐
    policy of the backtest ─────────────────────────────┼──> fold ──> triggers ──┐
    answer of the backtest, a while after each trigger ─┘ <──────────────────────┘

Under other rules the triggers lie elsewhere, so the recorded answers answer none of them. The backtest answers each
trigger itself, as promoted or as the gate decides, `answer_after_ms` after it: before the first tick that is not
earlier. An answer has the offset of that tick; so every offset in a trigger is one of the journal.

What a lineage change leaves out is left out from there on, and what it takes back counts from there on; with the
recorded answers both hold, as in the fold, from the beginning on.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas.journal import (
    Example,
    LineageChange,
    Manual,
    PolicyChange,
    Promoted,
    QuarantineRecord,
    Record,
    Tick,
)
from schemas.policy import Policy
from schemas.windows import Reason, Trigger, version_name
from streams.core.fold import Output, State, initial, step
from streams.core.lineage import Answer, History, follow
from streams.core.waits import Waits


class Retrain(msgspec.Struct, kw_only=True):
    """A retrain of a backtest.

    Attributes:
        number, offset, reason, at_ms, examples: Those of the trigger.
        rehearsal: The number of older examples that are trained again.
        measure: The rule that tripped, as `value` and `limit`.
        promoted_ms: When its version was promoted, by the ticks; 0: it was not.
    """

    number: int
    offset: int
    reason: Reason
    at_ms: int
    examples: int
    rehearsal: int
    value: float
    limit: float
    promoted_ms: int = 0

    @property
    def version(self) -> str:
        """The name of the version that it leads to."""
        return version_name(self.number)


class Backtest:
    """Folds the records of one journal, which are fed in order.

    Args:
        model: The model.
        policy: The rules of the whole journal; None: those that the journal recorded, each from its place on.
        answer_after_ms: How long a run takes, by the ticks, 0 or more; None: the recorded answers count, and no
            others.
        history: Reads the journal from its beginning, where it has a lineage change.
        train: Trains the version of a trigger when its answer is due, and says what the gate decided; None: it is
            promoted.

    Attributes:
        state: The state of the fold.
        retrains: What was triggered, in order.
        waits: How long examples waited for the promotion of a version that learnt them.
    """

    def __init__(
        self,
        model: str,
        policy: Policy | None,
        answer_after_ms: int | None,
        history: History = lambda _end: (),
        train: Callable[[Trigger], Answer] | None = None,
    ) -> None:
        self.state: State = initial(model)
        self.retrains: list[Retrain] = []
        self.waits = Waits()
        self._answer_after_ms = answer_after_ms
        self._history = history
        self._train = train
        self._own_policy = policy is not None
        if policy is not None:
            self._put(0, PolicyChange(policy))
            self.state.next_offset = 0

    def feed(self, offset: int, record: Record) -> list[Trigger]:
        """Fold one record of the journal.

        Args:
            offset: Its offset, above those before.
            record: The record. What the backtest replaces is passed over.

        Returns:
            The triggers that it led to.
        """
        state = self.state
        if isinstance(record, Example):
            pending = state.pending_examples
            self.state, outputs = step(state, offset, record)
            if self.state.pending_examples > pending:
                self.waits.arrive(state.now_ms)
            return self._triggers(outputs) if outputs else []
        if isinstance(record, Tick):
            return self._tick(offset, record)
        if isinstance(record, LineageChange) and self._answer_after_ms is not None:
            state.exclusions = record.exclusions
        elif self._passes(record):
            return self._control(offset, record, self.state.now_ms)
        return []

    def _passes(self, record: Record) -> bool:
        """Whether a control record counts here."""
        if isinstance(record, PolicyChange):
            return not self._own_policy
        return isinstance(record, Manual | QuarantineRecord) or self._answer_after_ms is None

    def _tick(self, offset: int, record: Tick) -> list[Trigger]:
        triggers = self._answer_if_due(offset, record.time_ms)
        had_time = self.state.now_ms > 0
        outputs = self._put(offset, record)
        if not had_time:
            self.waits.first_tick(self.state.now_ms)
        return triggers + self._triggers(outputs)

    def _answer_if_due(self, offset: int, time_ms: int) -> list[Trigger]:
        """Answer the open trigger, if the run is assumed to end before a tick."""
        waiting = self.state.open_trigger
        if self._answer_after_ms is None or waiting is None:
            return []
        ended_ms = waiting.at_ms + self._answer_after_ms
        if time_ms < ended_ms:
            return []
        answer: Answer = Promoted(trigger=waiting.id, version=waiting.version, time_ms=ended_ms)
        if self._train:
            answer = msgspec.structs.replace(self._train(waiting), time_ms=ended_ms)
        return self._control(offset, answer, ended_ms)

    def _control(self, offset: int, record: Record, at_ms: int) -> list[Trigger]:
        """Fold a control record. What it promotes has learnt its examples at `at_ms`, the oldest first."""
        waiting, pending = self.state.open_trigger, self.state.pending_examples
        outputs = self._put(offset, record)
        if waiting and isinstance(record, Promoted) and record.trigger == waiting.id:
            self.retrains[-1].promoted_ms = at_ms
        self.waits.learn(pending - self.state.pending_examples, at_ms)
        return self._triggers(outputs)

    def _put(self, offset: int, record: Record) -> list[Output]:
        """Fold a record at an offset that another record may have."""
        self.state.next_offset = offset
        self.state, outputs = follow(self.state, offset, record, self._history)
        return outputs

    def _triggers(self, outputs: list[Output]) -> list[Trigger]:
        triggers = [output for output in outputs if isinstance(output, Trigger)]
        self.retrains += map(_retrain, triggers)
        return triggers


def _retrain(trigger: Trigger) -> Retrain:
    measure = next((m for m in trigger.measures if m.rule == trigger.reason), None)
    return Retrain(
        number=trigger.number,
        offset=trigger.offset,
        reason=trigger.reason,
        at_ms=trigger.at_ms,
        examples=trigger.examples,
        rehearsal=len(trigger.rehearsal),
        value=measure.value if measure else 0.0,
        limit=measure.limit if measure else 0.0,
    )
