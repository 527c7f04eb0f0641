"""Small journals made by hand."""

from __future__ import annotations

from itertools import count

from schemas.journal import Example, Record, Source, Tick, in_holdout, key_hash
from schemas.policy import Policy

DAY_MS = 86_400_000
START_MS = 1_600_000_000_000

SMALL = Policy(
    window_examples=10,
    window_age_s=86_400.0,
    bootstrap_examples=20,
    retrain_examples=30,
    champion_age_s=30 * 86_400.0,
    staleness_examples=5,
    cooldown_s=0.0,
    drift_window=20,
    drift_min_support=10,
    drift_every=5,
    drift_threshold=0.5,
    drift_rearm=0.3,
    taxonomy_examples=5,
    reservoir=32,
    rehearsal_examples=8,
    holdout_examples=8,
)


def example(number: int, *labels: str, key: str | None = None, retracted: bool = False) -> Example:
    """The example of event `number` of one topic partition."""
    return Example(
        source=Source("threat.relationships.v1", 0, number),
        key=key or f"relationship:{number}",
        hash=f"{number:016x}",
        text=f"text {number}",
        labels=labels or ("a",),
        taxonomy="enterprise-attack/15.1",
        retracted=retracted,
    )


def training(how_many: int, *labels: str, first: int = 0) -> list[Example]:
    """`how_many` examples that are not in the holdout, with event offsets from `first` on."""
    examples: list[Example] = []
    for number in count(first):
        if len(examples) == how_many:
            return examples
        if not in_holdout(key_hash(f"relationship:{number}")):
            examples.append(example(number, *labels))
    raise AssertionError


def tick(days: float = 0.0) -> Tick:
    """A tick `days` after the start."""
    return Tick(START_MS + int(days * DAY_MS))


def numbered(records: list[Record], first: int = 0) -> list[tuple[int, Record]]:
    """Records with their journal offsets, from `first` on."""
    return list(enumerate(records, first))
