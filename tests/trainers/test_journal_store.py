"""The local copy of a journal: reads what is new, once; knows its journal; can be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import Corrupt
from schemas.journal import Example, Promoted, Score, Tick
from tests.trainers.material import MemoryLog, Record_, example, examples, held_out
from trainers.core.dataset import text_hash
from trainers.store.journal_copy import JournalCopy


def keys(store: JournalCopy, start: int = 0, end: int = 10_000) -> list[str]:
    return [e.key for _, e in store.span(start, end)]


def test_examples_come_back_by_range_and_by_offset(tmp_path: Path) -> None:
    journal = [Tick(1), *examples(30), Tick(2)]
    store = JournalCopy(tmp_path / "a" / "journal.sqlite", MemoryLog(journal))
    assert store.catch_up() == 32
    assert store.span(5, 8) == [(5, journal[5]), (6, journal[6]), (7, journal[7])]
    assert store.at([20, 3]) == {20: journal[20], 3: journal[3]}
    with pytest.raises(Corrupt, match="journal offset 31 is named by a trigger but holds no example"):
        store.at([3, 31])


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    path, log = tmp_path / "journal.sqlite", MemoryLog(examples(30))
    first = JournalCopy(path, log)
    first.catch_up()
    first.close()
    log.append(*examples(5, first=100))
    log.reads.clear()
    second = JournalCopy(path, log)
    assert second.catch_up() == 5
    assert log.reads == [(29, 30), (30, 35)], "one record to know the journal by, then the new ones"
    assert len(keys(second)) == 35
    assert second.catch_up() == 0


def test_a_second_delivery_of_an_event_is_left_out(tmp_path: Path) -> None:
    journal = examples(10)
    log = MemoryLog([*journal, journal[8], journal[2], *examples(1, first=50)])
    store = JournalCopy(tmp_path / "journal.sqlite", log)
    store.catch_up()
    assert [offset for offset, _ in store.span(0, 99)] == [*range(10), 12]


def test_a_record_that_does_not_decode_is_passed_over(tmp_path: Path) -> None:
    log = MemoryLog(examples(3))
    log.messages[1] = Record_(1, 1, b"{not json")
    store = JournalCopy(tmp_path / "journal.sqlite", log)
    store.catch_up()
    assert [offset for offset, _ in store.span(0, 99)] == [0, 2]


@pytest.mark.parametrize(
    "other",
    [
        MemoryLog(examples(30, first=500)),
        MemoryLog(examples(12)),
        MemoryLog(examples(30), timestamp=2),
    ],
    ids=["other records", "shorter", "the same records written again"],
)
def test_another_journal_is_noticed_and_read_from_its_beginning(tmp_path: Path, other: MemoryLog) -> None:
    path = tmp_path / "journal.sqlite"
    first = JournalCopy(path, MemoryLog(examples(30)))
    first.catch_up()
    first.close()
    store = JournalCopy(path, other)
    assert store.catch_up() == other.end()
    fresh = JournalCopy(tmp_path / "fresh.sqlite", other)
    fresh.catch_up()
    assert store.span(0, 99) == fresh.span(0, 99)


@pytest.mark.parametrize("damage", [b"", b"this is no database, and long enough not to be taken for one" * 20])
def test_a_lost_or_damaged_copy_is_built_again(tmp_path: Path, damage: bytes) -> None:
    path, log = tmp_path / "journal.sqlite", MemoryLog(examples(30))
    first = JournalCopy(path, log)
    first.catch_up()
    expected = first.span(0, 99)
    first.close()
    path.write_bytes(damage)
    second = JournalCopy(path, log)
    second.catch_up()
    assert second.span(0, 99) == expected


def test_it_knows_which_triggers_were_answered(tmp_path: Path) -> None:
    log = MemoryLog([Score(trigger="m@1", version="v0001", examples=3, scores={})])
    store = JournalCopy(tmp_path / "journal.sqlite", log)
    store.catch_up()
    assert store.scored("m@1")
    assert not store.answered("m@1")
    log.append(Promoted(trigger="m@1", version="v0002", time_ms=1))
    store.catch_up()
    assert store.answered("m@1")


def test_it_knows_which_texts_were_to_be_trained_on_before_an_offset(tmp_path: Path) -> None:
    journal = examples(100)
    trained = next(e for e in journal if not held_out(e))
    judged = next(e for e in journal if held_out(e))
    store = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(journal))
    store.catch_up()
    asked: list[Example] = [example(900, [], text=trained.text.upper()), judged]
    assert store.trained_texts(asked, 100) == {text_hash(trained.text)}
    assert store.trained_texts(asked, journal.index(trained)) == frozenset()
