"""The local copy of a journal: reads each record once, recognises its journal, can be rebuilt."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from schemas.errors import Corrupt, RetryLater
from schemas.journal import Example, LineageChange, Promoted, Score, Tick, key_hash
from tests.trainers.samples import MemoryLog, Record_, example, examples, held_out
from trainers.core.dataset import text_hash
from trainers.store.journal_copy import JournalCopy
from trainers.store.journal_reader import JournalReader, UnusableCopy


def keys(copy: JournalCopy, start: int = 0, end: int = 10_000) -> list[str]:
    return [e.key for _, e in copy.examples_between(start, end)]


def test_examples_come_back_by_range_and_by_offset(tmp_path: Path) -> None:
    journal = [Tick(1), *examples(30), Tick(2)]
    copy = JournalCopy(tmp_path / "a" / "journal.sqlite", MemoryLog(journal))
    assert copy.catch_up() == 32
    assert copy.examples_between(5, 8) == [(5, journal[5]), (6, journal[6]), (7, journal[7])]
    assert copy.examples_at([20, 3]) == {20: journal[20], 3: journal[3]}
    with pytest.raises(Corrupt, match="journal offset 31 is named by a trigger but holds no example"):
        copy.examples_at([3, 31])


def test_examples_come_back_by_key_and_by_group(tmp_path: Path) -> None:
    journal = [*examples(5), example(5, ["impact"], key="relationship:2"), *examples(1, first=9)]
    journal[3] = msgspec.structs.replace(journal[3], group="technique:T1")
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(journal))
    copy.catch_up()
    assert copy.examples_of("relationship:2") == [(2, journal[2]), (5, journal[5])]
    assert copy.examples_of("technique:T1") == [(3, journal[3])]
    assert copy.examples_of(journal[3].key) == [(3, journal[3])]
    assert copy.examples_of("technique:T2") == []


def test_only_new_records_are_read(tmp_path: Path) -> None:
    path, log = tmp_path / "journal.sqlite", MemoryLog(examples(30))
    first = JournalCopy(path, log)
    first.catch_up()
    first.close()
    log.append(*examples(5, first=100))
    log.reads.clear()
    second = JournalCopy(path, log)
    assert second.catch_up() == 5
    assert log.reads == [(29, 30), (30, 35)], "one record to recognise the journal, then the new ones"
    assert len(keys(second)) == 35
    assert second.catch_up() == 0


def test_after_a_lineage_change_it_is_the_copy_of_a_journal_without_what_was_left_out(tmp_path: Path) -> None:
    source = "source=threat.relationships.v1/0/"
    change = LineageChange(
        version="v1001", exclusions=(f"{source}3", f"{source}60"), end=40, numbered_from=1_000, answers=(),
        by="ada", why="bad", request="r", time_ms=1,
    )  # fmt: skip
    same_text = msgspec.structs.replace(examples(1, first=20)[0], text=examples(4)[3].text, group="technique:T1")
    journal = [*examples(20), same_text, *examples(20, first=21), change, *examples(30, first=41)]
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(journal))
    copy.catch_up()
    kept = [at for at in range(len(journal)) if at not in (3, 41, 61)]
    assert [at for at, _ in copy.examples_between(0, 100)] == kept
    assert copy.examples_of("relationship:3") == []
    assert copy.examples_of("technique:T1") == [(20, same_text)]
    assert copy.lineage() == (41, change)
    assert copy.serving() == ("v1001", "r", 41)
    assert [bool(copy.trained_texts([same_text], before)) for before in (20, 21)] == [
        False,
        not held_out(same_text),
    ]
    copy.close()
    again = JournalCopy(tmp_path / "journal.sqlite", MemoryLog([*journal, change, examples(1, first=60)[0]]))
    assert again.catch_up() == 2
    assert [at for at, _ in again.examples_between(0, 100)] == kept


def test_what_a_lineage_change_takes_back_is_in_the_copy_again_and_what_came_in_between_too(tmp_path: Path) -> None:
    source = "source=threat.relationships.v1/0/"
    change = LineageChange(
        version="v1001", exclusions=(f"{source}3", f"{source}9", f"{source}30"), end=20, numbered_from=1_000,
        answers=(), by="ada", why="bad", request="r", time_ms=1,
    )  # fmt: skip
    back = msgspec.structs.replace(
        change, version="v2001", exclusions=(f"{source}9",), numbered_from=2_000, request="s",
        lifted=(f"{source}3", f"{source}30"),
    )  # fmt: skip
    journal = [*examples(20), change, *examples(20, first=21), back, *examples(5, first=42)]
    journal[3] = msgspec.structs.replace(journal[3], group="technique:T1")  # type: ignore[type-var]
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(journal))
    copy.catch_up()
    left = [at for at in range(47) if at not in (9, 20, 41)]
    assert [at for at, _ in copy.examples_between(0, 100)] == left
    assert [at for at, _ in copy.current_examples(100)] == left
    assert copy.examples_of("technique:T1") == [(3, journal[3])]
    assert copy.examples_of("relationship:30") == [(30, journal[30])]
    assert [each for _, each in copy.lineages()] == [change, back]
    assert copy.lineage() == (41, back)


def test_a_redelivery_of_an_event_is_skipped(tmp_path: Path) -> None:
    journal = examples(10)
    log = MemoryLog([*journal, journal[8], journal[2], *examples(1, first=50)])
    copy = JournalCopy(tmp_path / "journal.sqlite", log)
    copy.catch_up()
    assert [offset for offset, _ in copy.examples_between(0, 99)] == [*range(10), 12]


@pytest.mark.parametrize("value", [b"{not json", None])
def test_a_message_that_holds_no_record_is_skipped(tmp_path: Path, value: bytes | None) -> None:
    log = MemoryLog(examples(3))
    log.messages[1] = Record_(1, 1, value)
    copy = JournalCopy(tmp_path / "journal.sqlite", log)
    copy.catch_up()
    assert [offset for offset, _ in copy.examples_between(0, 99)] == [0, 2]
    log.messages.append(Record_(3, 1, value))
    copy.catch_up()
    assert copy.catch_up() == 0, "it recognises the journal by its last message, whatever that is"


@pytest.mark.parametrize(
    "other",
    [
        MemoryLog(examples(30, first=500)),
        MemoryLog(examples(12)),
        MemoryLog(examples(30), timestamp=2),
    ],
    ids=["other records", "shorter", "the same records written again"],
)
def test_another_journal_is_recognised_and_read_from_its_beginning(tmp_path: Path, other: MemoryLog) -> None:
    path = tmp_path / "journal.sqlite"
    first = JournalCopy(path, MemoryLog(examples(30)))
    first.catch_up()
    first.close()
    copy = JournalCopy(path, other)
    assert copy.catch_up() == other.end()
    fresh = JournalCopy(tmp_path / "fresh.sqlite", other)
    fresh.catch_up()
    assert copy.examples_between(0, 99) == fresh.examples_between(0, 99)


@pytest.mark.parametrize("damage", [b"", b"this is no database, and long enough not to be taken for one" * 20])
def test_a_lost_or_damaged_copy_is_rebuilt(tmp_path: Path, damage: bytes) -> None:
    path, log = tmp_path / "journal.sqlite", MemoryLog(examples(30))
    first = JournalCopy(path, log)
    first.catch_up()
    expected = first.examples_between(0, 99)
    first.close()
    path.write_bytes(damage)
    second = JournalCopy(path, log)
    second.catch_up()
    assert second.examples_between(0, 99) == expected


def test_it_has_the_triggers_that_were_answered(tmp_path: Path) -> None:
    log = MemoryLog([Score(trigger="m@1", version="v0001", examples=3, scores={})])
    copy = JournalCopy(tmp_path / "journal.sqlite", log)
    copy.catch_up()
    assert copy.is_scored("m@1")
    assert not copy.is_answered("m@1")
    log.append(Promoted(trigger="m@1", version="v0002", time_ms=1))
    copy.catch_up()
    assert copy.is_answered("m@1")


def test_it_has_the_texts_of_the_training_examples_before_an_offset(tmp_path: Path) -> None:
    journal = examples(100)
    trained = next(e for e in journal if not held_out(e))
    judged = next(e for e in journal if held_out(e))
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(journal))
    copy.catch_up()
    asked: list[Example] = [example(900, [], text=trained.text.upper()), judged]
    assert copy.trained_texts(asked, 100) == {text_hash(trained.text)}
    assert copy.trained_texts(asked, journal.index(trained)) == frozenset()


def zero_a_page(path: Path, text: str) -> None:
    """Fill the page of a SQLite file that has a text with zeros."""
    content = bytearray(path.read_bytes())
    start = content.index(text.encode()) // 4096 * 4096
    content[start : start + 4096] = bytes(4096)
    path.write_bytes(content)


def test_a_damaged_page_is_seen_and_the_copy_is_made_again(tmp_path: Path) -> None:
    path, journal = tmp_path / "journal.sqlite", examples(300)
    first = JournalCopy(path, MemoryLog(journal))
    first.catch_up()
    first.close()
    zero_a_page(path, journal[150].key)
    copy = JournalCopy(path, MemoryLog(journal))
    copy.catch_up()
    with pytest.raises(UnusableCopy, match=r"is damaged|holds no example"):
        copy.examples_at(range(300))
    copy.rebuild("damaged")
    assert copy.examples_at(range(300)) == dict(enumerate(journal))


def test_a_changed_byte_is_seen(tmp_path: Path) -> None:
    path, journal = tmp_path / "journal.sqlite", examples(30)
    first = JournalCopy(path, MemoryLog(journal))
    first.catch_up()
    first.close()
    path.write_bytes(path.read_bytes().replace(b"system user-7", b"system user-1"))
    with pytest.raises(UnusableCopy, match="journal offset 7 differs from what was written"):
        JournalReader(path).examples_between(0, 30)


def test_damage_to_the_answers_is_repaired_when_they_are_asked_for(tmp_path: Path) -> None:
    path, log = tmp_path / "journal.sqlite", MemoryLog(examples(30))
    log.append(Promoted(trigger="m@1", version="v0002", time_ms=1))
    copy = JournalCopy(path, log)
    copy.catch_up()
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE answers")
    assert copy.is_answered("m@1")
    assert len(keys(copy)) == 30


def test_a_copy_is_read_while_it_is_open(tmp_path: Path) -> None:
    path, journal = tmp_path / "journal.sqlite", examples(30)
    copy = JournalCopy(path, MemoryLog(journal))
    copy.catch_up()
    reader = JournalReader(path)
    assert reader.examples_between(3, 5) == [(3, journal[3]), (4, journal[4])]
    with pytest.raises(UnusableCopy, match="is missing"):
        JournalReader(tmp_path / "another.sqlite")


def test_no_room_for_the_copy_is_not_damage(tmp_path: Path) -> None:
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(examples(300)))
    copy._db.execute("PRAGMA max_page_count = 10")
    with pytest.raises(RetryLater, match=r"can't be read or written now \(database or disk is full\)"):
        copy.catch_up()


def lived(keys_: int, count: int) -> list[Example]:
    """Examples of a few keys, some of them retracted, some of which come back."""
    return [
        example(n, [] if n % 7 == 3 else ["impact"], key=f"k:{key_hash(str(n)) % keys_}", retracted=n % 7 == 3)
        for n in range(count)
    ]


def standing(journal: list[Example | None], end: int) -> list[int]:
    latest = {one.key: (at, one) for at, one in enumerate(journal[:end]) if one}
    return sorted(at for at, one in latest.values() if not one.retracted)


def test_current_examples_are_those_that_stood_at_an_offset_whatever_came_later(tmp_path: Path) -> None:
    journal = lived(9, 80)
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog(journal))
    copy.catch_up()
    for end in range(82):
        assert [at for at, _ in copy.current_examples(end)] == standing([*journal], end)


def test_what_a_lineage_change_takes_out_has_superseded_nothing(tmp_path: Path) -> None:
    journal = lived(5, 60)
    gone = {offset for offset in range(20, 50) if offset % 3}
    change = LineageChange(
        version="v1001", exclusions=tuple(f"source=threat.relationships.v1/0/{offset}" for offset in sorted(gone)),
        end=60, numbered_from=1_000, answers=(), by="ada", why="bad", request="r", time_ms=1,
    )  # fmt: skip
    copy = JournalCopy(tmp_path / "journal.sqlite", MemoryLog([*journal, change]))
    copy.catch_up()
    left = [None if at in gone else one for at, one in enumerate(journal)]
    for end in range(61):
        assert [at for at, _ in copy.current_examples(end)] == standing(left, end)


def test_reading_the_current_examples_takes_no_more_steps_after_a_hundred_times_the_edits(tmp_path: Path) -> None:
    steps = []
    for count in (40, 4_000):
        copy = JournalCopy(
            tmp_path / f"{count}.sqlite",
            MemoryLog([example(n, ["impact"], key=f"k:{n % 20}") for n in range(count)]),
        )
        copy.catch_up()
        taken = [0]
        copy._db.set_progress_handler(lambda taken=taken: taken.__setitem__(0, taken[0] + 1), 1)
        assert len(copy.current_examples(count)) == 20
        steps.append(taken[0])
    assert steps[1] == steps[0]
