"""What `sx9 rebuild` does, from its arguments to the rows of its table."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer

from schemas.errors import BadConfiguration
from schemas.events import Event
from schemas.journal import Source
from schemas.models import model_spec
from schemas.topics import EVENT_TOPICS
from streams.settings import Settings
from sx9_ml_models.connections import topic_reader
from sx9_ml_models.journals import open_journal
from sx9_ml_models.rebuild.exclusion import FeedOf, RemainingJournal, end_at, parse_exclusions
from sx9_ml_models.rebuild.run import Plan, Rebuild, Rebuilt
from trainers.core.progress import ProgressCallback
from trainers.runs.progress import progress_bars
from trainers.settings import TrainerSettings
from transport.kafka import end_offset, read_ranges
from transport.records import decoded
from transport.topics import partitions_of

log = logging.getLogger(__name__)

COLUMNS = ("version", "parent", "gate", "examples", "weights", "seconds", "")
SHOWN_DIGITS = 16
"""Digits of a hash in the table; `--json` has all."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a rebuild: its versions, and how many examples were taken out."""

    plan: Plan
    versions: tuple[Rebuilt, ...]
    excluded: int

    @property
    def differ(self) -> list[str]:
        """Versions whose weights are not the recorded ones, though nothing was excluded."""
        return [] if self.plan.exclusions else [v.version for v in self.versions if v.identical is False]


def plan_of(target: str, until: datetime | None, exclude: Sequence[str]) -> Plan:
    """The plan that the command line asks for.

    Raises:
        BadConfiguration: There is no such model, an exclusion has no known form, or it comes with a version.
    """
    model, _, version = target.partition("@")
    exclusions = tuple(map(str, parse_exclusions(exclude)))
    if exclusions and version:
        raise BadConfiguration(
            f"{target} --exclude: without {exclusions[0]} there are other versions; name the model alone, and "
            "limit it with --until"
        )
    until_ms = int(until.replace(tzinfo=until.tzinfo or UTC).timestamp() * 1000) if until else 0
    return Plan(model=model_spec(model).name, version=version, until_ms=until_ms, exclusions=exclusions)


def rebuild(plan: Plan, file: Path | None, folder: Path, settings: Settings, trainer: TrainerSettings) -> Found:
    """Rebuild a lineage, with progress bars on a terminal.

    Args:
        plan: What to rebuild.
        file: A file of the journal; None: read it from Kafka.
        folder: Of the rebuild.
        settings, trainer: Name Kafka and the recorded versions.

    Raises:
        BadConfiguration, RetryLater, Corrupt: See `Rebuild.versions`.
    """
    if folder.resolve() == trainer.models_dir.resolve():
        raise BadConfiguration(f"--output {folder} is the registry that serves: choose another folder")
    with open_journal(plan.model, file, settings) as log_, feeds_of(plan, file, settings) as feed_of:
        end = end_at(log_, plan.until_ms) if plan.until_ms else log_.end()
        journal = RemainingJournal(log_, end, parse_exclusions(plan.exclusions), feed_of)
        versions = Rebuild(plan, journal, folder, trainer, progress_of=_progress).versions()
        if plan.exclusions and not journal.excluded:
            sum(1 for _ in journal.records())  # all was copied before: count what is left out
    return Found(plan=plan, versions=tuple(versions), excluded=len(journal.excluded))


def table(versions: Sequence[Rebuilt]) -> list[tuple[str, ...]]:
    """The rows of `COLUMNS`."""
    return [
        (
            each.version,
            each.parent or "none",
            "promoted" if each.promoted else f"refused: {each.why_not}",
            str(each.examples),
            ", ".join(sha[:SHOWN_DIGITS] for sha in each.weights.values()),
            f"{each.seconds:.0f}" if each.seconds else "was there",
            _comparison(each),
        )
        for each in versions
    ]


def conclusions(found: Found, folder: Path) -> list[str]:
    """What the table says, in sentences."""
    compared = [each for each in found.versions if each.identical is not None]
    same = sum(bool(each.identical) for each in compared)
    lines = [f"{same} of {len(compared)} recorded versions have the same weights, bit for bit."] if compared else []
    if found.plan.exclusions:
        what = " and ".join(found.plan.exclusions)
        lines.append(
            f"{found.excluded} examples of {what} were taken out of the journal before it was folded: no window, "
            "sample or run had them."
        )
        if not found.excluded:
            lines.append(f"Nothing in the journal matches {what}: check the spelling.")
    return [*lines, f"The versions are in {folder / found.plan.model}."]


def as_plain(found: Found, folder: Path) -> dict[str, Any]:
    """A result as plain objects, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for row, each in zip(plain["versions"], found.versions, strict=True):
        row["identical"] = each.identical
    return plain | {"output": str(folder)}


def _comparison(each: Rebuilt) -> str:
    if each.identical is None:
        return "new"
    return "identical" if each.identical else f"differs: {each.differs}"


@contextlib.contextmanager
def _progress(version: str, after_s: float) -> Iterator[ProgressCallback]:
    log.info("training %s; the versions after it took %.0f s when they were recorded", version, after_s)
    with progress_bars(version, threading.Event()) as on_progress:
        yield on_progress


@contextlib.contextmanager
def feeds_of(plan: Plan, file: Path | None, settings: Settings) -> Iterator[FeedOf]:
    """The feed of each event: as the journal says it, or, for older records, as the event on its topic does."""
    if not any(exclusion.startswith("feed=") for exclusion in plan.exclusions):
        yield lambda _source: ""
        return
    if file is not None:
        yield _feed_in_journal
        return
    with topic_reader(settings) as reader:
        feeds = _feeds_on_topics(reader)
        yield lambda source: source.feed or feeds.get((source.topic, source.partition, source.offset), "")


def _feed_in_journal(source: Source) -> str:
    if not source.feed:
        raise BadConfiguration(
            f"the journal record of {source.topic}/{source.partition}/{source.offset} is from an older version and "
            "does not name its feed: leave out --journal, so that the event is read from its topic"
        )
    return source.feed


def _feeds_on_topics(reader: KafkaConsumer) -> dict[tuple[str, int, int], str]:
    """(topic, partition, offset) -> feed of every event."""
    found: dict[tuple[str, int, int], str] = {}
    ranges = {partition: (0, end_offset(reader, *partition)) for partition in partitions_of(reader, EVENT_TOPICS)}
    for messages in read_ranges(reader, ranges):
        for message, event in decoded(messages, Event, messages[0].topic, messages[0].partition):
            found[(message.topic, message.partition, message.offset)] = event.feed
    return found
