"""Verdicts are carried out once and in order, whoever dies half-way, by the worker that has the partition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from schemas.fetch_totals import FetchTotals, totals_to_header
from schemas.journal import Example, Held, QuarantineSettled, QuarantineVerdict, Record
from schemas.policy import Policy, QuarantineRules
from schemas.topics import TEMPLATES
from streams.app import quarantine as module
from streams.app.journal_sink import JournalSink
from streams.app.quarantine import QuarantineGate
from streams.app.sink import ConsumedMessage
from streams.core.fold import State, fold, initial
from tests.flow.events import template
from tests.flow.world import MODEL
from tests.streams.app.messages import FakeTopicIds, message

POLICY = Policy(quarantine=QuarantineRules(relabelled_events=5, relabelled_share=0.5))
POISON = FetchTotals(9, known=4, relabelled=8)


class Died(Exception):
    """A worker died."""


class Journal:
    """The journal of `MODEL` in memory, and the producer that writes to it; it dies after `left` more records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.left = 10**9

    def send(
        self, _topic: str, record: Any, *, key: str, partition: int | None = None, headers: Any = None
    ) -> None:
        if key == MODEL:
            if not self.left:
                raise Died
            self.left -= 1
            self.records.append(record)

    def flush(self) -> None:
        """All of it is acknowledged."""

    def read(self, _reader: Any, model: str, start: int, end: int) -> Iterator[tuple[int, Record]]:
        assert model == MODEL
        yield from list(enumerate(self.records))[start:end]

    def state(self) -> State:
        state = initial(MODEL)
        state.policy = POLICY
        return fold(state, enumerate(self.records))[0]

    def texts(self, kind: type) -> list[str]:
        """Names of the entities in the records of a kind that are no repetitions, in order."""
        seen: set[tuple[str, int]] = set()
        names = []
        for record in self.records:
            example = record.example if isinstance(record, Held) else record
            if isinstance(example, Example):
                at = (
                    f"{example.source.partition}/{example.source.held >= 0}",
                    max(example.source.held, 0) or example.source.offset,
                )
                if at not in seen and isinstance(record, kind):
                    names.append(example.key.rpartition(":")[2])
                seen.add(at)
        return names


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Journal:
    made = Journal()
    monkeypatch.setattr(module, "journal", made.read)
    monkeypatch.setattr(module, "end_offset", lambda *_: len(made.records))
    return made


def worker(log: Journal, *partitions: int) -> JournalSink:
    """A worker that has partitions of the templates."""
    state = log.state()
    gate = QuarantineGate(log, None, {MODEL: state})  # type: ignore[arg-type]
    sink = JournalSink(log, {MODEL: state.source_offsets}, dict, FakeTopicIds(), gate)  # type: ignore[arg-type]
    sink.assigned([of_templates(number) for number in partitions])
    return sink


def of_templates(number: int) -> Any:
    return message(template(1), 0, number).topic_partition


def event(
    number: int, offset: int, partition: int = 0, totals: FetchTotals = POISON, second: int = 1
) -> ConsumedMessage:
    observed = f"2026-11-27T00:00:{second:02d}.000Z".encode()
    plain = message(template(number), offset, partition, TEMPLATES.name)
    return msgspec.structs.replace(plain, observed=observed, fetch=totals_to_header(totals))


def verdict(log: Journal, action: Any, *names: int) -> None:
    keys = tuple(f"template:nuclei-templates:{name}" for name in names)
    log.records.append(
        QuarantineVerdict(
            feed="nuclei-templates", action=action, by="ada", why="w", request="r", time_ms=0, keys=keys
        )
    )


@pytest.fixture(autouse=True)
def only_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.app import journal_sink

    specs = tuple(spec for spec in journal_sink.MODEL_SPECS if spec.name == MODEL)
    monkeypatch.setattr(journal_sink, "MODEL_SPECS", specs)


def test_a_worker_that_dies_at_any_record_leaves_what_the_next_completes(log: Journal) -> None:
    worker(log, 0).write([event(n, n) for n in range(6)])
    assert (log.texts(Held), log.texts(Example)) == (list("012345"), [])
    verdict(log, "release", 1, 4)
    until_verdict = list(log.records)
    for survived in range(7):
        log.records, log.left = list(until_verdict), survived
        with pytest.raises(Died):
            worker(log, 0).settle()
        log.left = 10**9
        after = worker(log, 0)
        after.settle()
        after.settle()
        assert log.texts(Example) == ["1", "4"]
        assert log.state().quarantine.waiting() == {("nuclei-templates", "relabelled"): 4}
        verdict(log, "purge")
        after.settle()
        after.write([event(9, 9, totals=FetchTotals(1, known=9), second=2)])
        assert log.texts(Example) == ["1", "4", "9"]
        state = log.state().quarantine
        assert (state.released, state.purged, state.is_open) == (2, 4, False)


def test_each_worker_settles_its_own_partitions(log: Journal) -> None:
    first, second = worker(log, 0), worker(log, 1)
    first.write([event(n, n) for n in range(3)])
    second.write([event(10 + n, n, 1) for n in range(3)])
    verdict(log, "release")
    first.settle()
    assert sorted(log.texts(Example)) == ["0", "1", "2"]
    second.settle()
    assert sorted(log.texts(Example)) == ["0", "1", "10", "11", "12", "2"]
    assert [r.partition for r in log.records if isinstance(r, QuarantineSettled)] == [0, 1]
    assert not log.state().quarantine.is_open


def test_what_comes_between_a_verdict_and_its_settling_waits_for_another(log: Journal) -> None:
    one = worker(log, 0)
    one.write([event(n, n) for n in range(3)])
    verdict(log, "release")
    one.write([event(3, 3)])
    one.settle()
    assert (log.texts(Example), log.state().quarantine.waiting()) == (
        ["0", "1", "2"],
        {("nuclei-templates", "relabelled"): 1},
    )
    verdict(log, "release")
    one.settle()
    assert log.texts(Example) == ["0", "1", "2", "3"]


def test_a_worker_that_gets_a_partition_knows_what_another_has_held_there(log: Journal) -> None:
    late = worker(log, 1)
    worker(log, 0).write([event(n, n) for n in range(2)])
    late.assigned([of_templates(0), of_templates(1)])
    late.write([event(1, 1), event(7, 7, totals=FetchTotals(1, known=9), second=2)])
    assert (log.texts(Held), len(log.records)) == (["0", "1", "7"], 3)
