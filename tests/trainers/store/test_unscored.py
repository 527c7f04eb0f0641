"""Which examples the champion is to score."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.trainers.samples import MemoryLog, example
from trainers.store.journal_copy import JournalCopy
from trainers.store.unscored import to_score


def test_a_full_batch_of_retractions_hides_no_example_behind_it(tmp_path: Path) -> None:
    retractions = [example(n, ["execution"], retracted=True) for n in range(5)]
    log = MemoryLog([*retractions[:3], example(8, ["execution"]), *retractions[3:], example(9, ["execution"])])
    with contextlib.closing(JournalCopy(tmp_path / "journal.sqlite", log)) as copy:
        copy.catch_up()
        assert [offset for offset, _ in to_score(copy, 0, 7, every=1, limit=3)] == [3, 6]
        assert [offset for offset, _ in to_score(copy, 0, 7, every=1, limit=1)] == [3]
