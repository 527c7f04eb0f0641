"""A partition that was written to a file reads as the partition does, from any offset, and a bad line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import Corrupt
from schemas.journal import Record, Tick
from schemas.topics import JOURNAL
from tests.trainers.samples import MemoryLog, example, examples
from transport import partition_file
from transport.partition_file import PartitionFile, write_partition
from transport.records import decoded


def written(path: Path, records: list[Record]) -> PartitionFile:
    assert write_partition(path, MemoryLog(records, timestamp=5), Record) == len(records)
    return PartitionFile(path, JOURNAL.name, 0)


def test_the_file_holds_what_the_partition_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_file, "_TAIL_BYTES", 2_000)
    records: list[Record] = [*examples(1_500), Tick(7), *examples(1_500, first=1_500)]
    log = written(tmp_path / "deep" / "journal.jsonl", records)
    assert log.end() == len(records)
    for start, end in (
        (0, len(records)),
        (1_234, 2_900),
        (1_500, 1_501),
        (len(records) - 1, 9_999_999),
        (5_000, 6_000),
    ):
        messages = [message for batch in log.read(start, end) for message in batch]
        assert [record for _, record in decoded(messages, Record, log.topic, 0)] == records[start:end]
        assert [message.offset for message in messages] == list(range(start, min(end, len(records))))


def test_a_file_without_lines_is_an_empty_partition(tmp_path: Path) -> None:
    log = written(tmp_path / "journal.jsonl", [])
    assert (log.end(), list(log.read(0, 10))) == (0, [])


def test_a_line_that_is_no_message_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"offset":0,"timestamp":1,"value":{}}\n{"o": 1}\n')
    with pytest.raises(Corrupt, match=r'o.*: 1.*"offset":0'):
        PartitionFile(tmp_path / "journal.jsonl", JOURNAL.name, 0)


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="sx9 export journal"):
        PartitionFile(tmp_path / "gone.jsonl", JOURNAL.name, 0)


@pytest.mark.parametrize("block", [1, 300, 1_000_000])
def test_messages_with_a_text_are_found_wherever_a_block_ends(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_file, "_BLOCK_BYTES", block)
    log = written(tmp_path / "journal.jsonl", [*examples(40), Tick(7), *examples(3, first=7)])
    found = list(log.containing([b'"relationship:7"', b'"tick"', b':8"', b"nowhere"]))
    assert [message.offset for message in found] == [7, 8, 40, 41, 42]
    assert [record for _, record in decoded(found, Record, log.topic, 0)][2] == Tick(7)


@pytest.mark.parametrize("block", [1, 300, 1_000_000])
def test_messages_with_a_key_are_found_between_two_offsets(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in {"_BLOCK_BYTES": block, "_TAIL_BYTES": 600}.items():
        monkeypatch.setattr(partition_file, name, size)
    escaped = example(50, [], key='relationship:"q"')
    log = written(tmp_path / "journal.jsonl", [*examples(40), Tick(7), escaped, *examples(3, first=7)])
    keys = {"relationship:7", "relationship:9", 'relationship:"q"'}
    expected = {(0, 99): [7, 9, 41, 42, 44], (8, 44): [9, 41, 42], (9, 42): [9, 41], (7, 7): [], (43, 99): [44]}
    assert {span: [m.offset for m in log.with_keys(keys, *span)] for span in expected} == expected
