"""Which examples of a journal the champion is to score, and how far it came, from the copy of the journal."""

from __future__ import annotations

from itertools import islice

from schemas.journal import held_out
from trainers.core.dataset import OffsetExample
from trainers.store.journal_reader import JournalReader


def score_every(journal: JournalReader) -> int:
    """One new example in so many is to be scored, by the policy of the journal; 0: none."""
    return next((int(every) for (every,) in journal.rows("SELECT score_every FROM policy")), 0)


def scored_end(journal: JournalReader) -> int:
    """The offset after the latest example that a champion has scored as new; 0 if there is none."""
    found = (last for (last,) in journal.rows("SELECT MAX(last) FROM scores WHERE NOT reference"))
    return max((int(last) + 1 for last in found if last is not None), default=0)


def reference_end(journal: JournalReader, version: str, since: int) -> int | None:
    """How far a version has scored its holdout, by what was written after an offset of the journal.

    Returns:
        The offset after the latest of these examples; 0 if there is none. None: it has scored new ones since, so it
        has scored all of them.
    """
    query = "SELECT reference, last FROM scores WHERE version = ? AND offset > ?"
    found = {int(reference): int(last) for reference, last in journal.rows(query, (version, since))}
    return None if 0 in found else found.get(1, -1) + 1


def to_score(journal: JournalReader, start: int, end: int, every: int, limit: int) -> list[OffsetExample]:
    """The first `limit` examples with an offset in `[start, end)`, of one in `every` keys, which its hash chooses.

    A retraction is no example, and none of the `limit`.
    """
    query = (
        "SELECT offset, value, digest FROM examples WHERE offset >= ? AND offset < ? AND (key / 1000) % ? = 0 "
        "ORDER BY offset"
    )
    rows = journal.rows(query, (start, end, every))
    found = ((offset, journal.example(offset, *row)) for offset, *row in rows)
    return list(islice((each for each in found if not each[1].retracted), limit))


def count_to_score(journal: JournalReader, start: int, every: int) -> int:
    """How many examples from an offset on `to_score` would choose, retractions included."""
    query = "SELECT COUNT(*) FROM examples WHERE offset >= ? AND (key / 1000) % ? = 0"
    return sum(int(count) for (count,) in journal.rows(query, (start, every)))


def holdout_sample(journal: JournalReader, end: int, size: int) -> list[OffsetExample]:
    """Current examples of the holdout with an offset below `end`: those with the least hashes of their keys.

    About ten times as many rows are read, however long the journal is.
    """
    query = "SELECT MAX(offset) FROM examples WHERE offset < ? GROUP BY key ORDER BY key"
    row_of = "SELECT value, digest FROM examples WHERE offset = ?"
    found: list[OffsetExample] = []
    for (offset,) in journal.rows(query, (end,)):
        example = journal.example(offset, *next(journal.rows(row_of, (offset,))))
        if held_out(example) and not example.retracted:
            found.append((offset, example))
        if len(found) == size:
            break
    return sorted(found, key=lambda each: each[0])
