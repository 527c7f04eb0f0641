"""What `sx9 rebuild` does, from its arguments to the rows of its table."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer

from schemas.errors import BadConfiguration
from schemas.events import Event
from schemas.exclusions import FeedOf, parse_exclusions
from schemas.journal import Example, LineageChange, Source
from schemas.models import model_spec
from schemas.topics import EVENT_TOPICS, JOURNAL, partition_of
from streams.settings import Settings
from sx9_ml_models.connections import kafka_with_topics, topic_reader
from sx9_ml_models.journals import history_of, open_journal
from sx9_ml_models.rebuild.derived import Derived, derive
from sx9_ml_models.rebuild.remaining import RemainingJournal, end_at
from sx9_ml_models.rebuild.run import PLAN, Rebuild, Rebuilt, keep_plan
from sx9_ml_models.rebuild.scope import Plan, Scope, scope_of
from sx9_ml_models.stage_bars import stage_bars
from trainers.core.progress import ProgressCallback
from trainers.runs.progress import progress_bars
from trainers.runs.run_process import Run, run_in_process
from trainers.runs.takeover import take_over
from trainers.settings import TrainerSettings
from trainers.store.registry import Registry
from trainers.store.shared_registry import open_registry
from transport.admin import admin_client
from transport.kafka import end_offset, read_ranges
from transport.partition_file import PartitionFile
from transport.partition_log import PartitionLog
from transport.records import decoded
from transport.topics import TopicIds, partitions_of

log = logging.getLogger(__name__)

COLUMNS = ("version", "parent", "gate", "examples", "weights", "seconds", "")
SHOWN_DIGITS = 16
"""Digits of a hash in the table; `--json` has all."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a rebuild: its versions, how many examples were taken out or came back, what can take over."""

    plan: Plan
    versions: tuple[Rebuilt, ...]
    excluded: int
    lifted: int = 0
    change: LineageChange | None = None
    derived: Derived | None = None

    @property
    def differ(self) -> list[str]:
        """Versions whose weights are not the recorded ones, though they are of the recorded lineage."""
        return [] if self.plan.changes_lineage else [v.version for v in self.versions if v.identical is False]


def plan_of(
    target: str,
    until: datetime | None,
    exclude: Sequence[str],
    *,
    lift: Sequence[str] = (),
    from_topics: bool = False,
) -> Plan:
    """The plan that the command line asks for.

    Raises:
        BadConfiguration: There is no such model, an exclusion has no known form, it comes with a version, or it is
            to be left out and taken back at once.
    """
    model, _, version = target.partition("@")
    exclusions = tuple(map(str, parse_exclusions(exclude)))
    lifted = tuple(map(str, parse_exclusions(lift, "--lift")))
    if both := [name for name in lifted if name in exclusions]:
        raise BadConfiguration(f"--lift {both[0]} --exclude {both[0]}: choose one of them")
    if version and (exclusions or lifted):
        option, word, name = ("--exclude", "without", exclusions) if exclusions else ("--lift", "with", lifted)
        raise BadConfiguration(
            f"{target} {option}: {word} {name[0]} there are other versions; name the model alone, and "
            "limit it with --until"
        )
    if from_topics and version:
        raise BadConfiguration(f"{target} --from-topics: the rules decide again; name the model alone")
    until_ms = int(until.replace(tzinfo=until.tzinfo or UTC).timestamp() * 1000) if until else 0
    return Plan(
        model=model_spec(model).name,
        version=version,
        until_ms=until_ms,
        exclusions=exclusions,
        from_topics=from_topics,
        lifted=lifted,
    )


def rebuild(
    plan: Plan,
    file: Path | None,
    folder: Path,
    settings: Settings,
    trainer: TrainerSettings,
    run: Run = run_in_process,
) -> Found:
    """Rebuild a lineage, with progress bars on a terminal.

    Args:
        plan: What to rebuild.
        file: A file of the journal; None: read it from Kafka.
        folder: Of the rebuild.
        settings, trainer: Name Kafka and the recorded versions.
        run: Trains the version of a request.

    Raises:
        BadConfiguration, RetryLater, Corrupt: See `Rebuild.versions`.
    """
    check_output(folder, trainer)
    keep_plan(folder / PLAN, plan)
    derived = None
    with open_journal(plan.model, file, settings) as recorded:
        log_ = recorded
        if plan.from_topics:
            log_, derived = _derive(plan, recorded, folder, settings)
        scope = scope_of(plan, log_, folder)
        with feeds_of((*scope.exclusions, *plan.lifted), file, settings) as feed_of:
            parsed = parse_exclusions(scope.exclusions), feed_of, parse_exclusions(plan.lifted)
            journal = RemainingJournal(log_, scope.end, *parsed)
            lineage = Rebuild(plan, scope, journal, folder, trainer, run, progress_of)
            versions = lineage.versions()
            if plan.changes_lineage and not journal.excluded and not journal.lifted:
                sum(1 for _ in journal.records())  # all was copied before: count what is left out
    return Found(
        plan=plan,
        versions=tuple(versions),
        excluded=len(journal.excluded),
        lifted=len(journal.lifted),
        change=change_of(plan, scope, lineage) if plan.changes_lineage else None,
        derived=derived,
    )


def check_output(folder: Path, trainer: TrainerSettings) -> None:
    """Whether versions may be written to a folder.

    Raises:
        BadConfiguration: It is the registry that serves.
    """
    if folder.resolve() == trainer.models_dir.resolve():
        raise BadConfiguration(f"--output {folder} is the registry that serves: choose another folder")


def _derive(plan: Plan, recorded: PartitionLog, folder: Path, settings: Settings) -> tuple[PartitionLog, Derived]:
    """The journal of today's code, in the folder of the rebuild."""
    end = end_at(recorded, plan.until_ms) if plan.until_ms else recorded.end()
    with (
        kafka_with_topics(settings) as endpoints,
        contextlib.closing(admin_client(endpoints.kafka_bootstrap)) as admin,
        topic_reader(settings) as reader,
        stage_bars("events") as on_progress,
    ):
        path, counts = derive(
            plan.model, recorded, end, reader, dict(TopicIds(admin, EVENT_TOPICS)), folder,
            lambda done, total: on_progress(plan.model, done, total),
        )  # fmt: skip
    return PartitionFile(path, JOURNAL.name, partition_of(plan.model)), counts


def change_of(plan: Plan, scope: Scope, lineage: Rebuild) -> LineageChange | None:
    """The journal record with which the versions of a rebuild take over; None if the gate refused all of them."""
    promoted = [answer.version for answer in lineage.answered if answer.promoted]
    if not promoted:
        return None
    return LineageChange(
        version=promoted[-1],
        exclusions=scope.exclusions,
        end=scope.end,
        numbered_from=scope.numbered_from,
        answers=tuple(lineage.answered),
        by="",
        why="",
        request=f"lineage-{scope.numbered_from}-{scope.end}",
        time_ms=0,
        lifted=plan.lifted,
    )


def check_promote(plan: Plan, file: Path | None, why: str) -> None:
    """Whether what a rebuild leads to could take over, before anything is trained.

    Raises:
        BadConfiguration: It could not; the message has the remedy.
    """
    if not plan.changes_lineage:
        raise BadConfiguration(
            "--promote: without --exclude or --lift the versions are those that were recorded: use "
            "`sx9 models promote`"
        )
    if plan.from_topics:
        raise BadConfiguration("--promote --from-topics: what serves follows the recorded journal, not another one")
    if file is not None:
        raise BadConfiguration("--promote changes the journal on Kafka: leave out --journal")
    if not why.strip():
        raise BadConfiguration("--promote: give the reason with --why, it is kept in the log")


def promote(found: Found, folder: Path, settings: Settings, trainer: TrainerSettings, by: str, why: str) -> str:
    """Put the versions of a rebuild in place of those that serve; see `trainers.runs.takeover`.

    Returns:
        What happened, in a sentence.

    Raises:
        BadConfiguration: The gate refused all versions, nothing was excluded, or the journal does not say what is
            excluded.
    """
    model, change = found.plan.model, found.change
    if change is None:
        raise BadConfiguration(f"the gate refused every version {what_changes(found.plan)}")
    if found.plan.exclusions and not found.excluded:
        raise BadConfiguration(f"nothing matches {' and '.join(found.plan.exclusions)}: check the spelling")
    if any(name.startswith("feed=") for name in change.exclusions):
        with open_journal(model, None, settings) as journal:
            for offset, record in history_of(journal)(change.end):
                if isinstance(record, Example) and not record.source.feed:
                    raise BadConfiguration(
                        f"the journal record at offset {offset} is from an older version and does not name its "
                        "feed, so the fold could not leave it out: exclude source=TOPIC/PARTITION/OFFSET instead"
                    )
    now_ms = int(time.time() * 1000)
    change = msgspec.structs.replace(change, by=by, why=why, time_ms=now_ms)
    with kafka_with_topics(settings) as endpoints:
        before = take_over(trainer, endpoints.kafka_bootstrap, model, change, Registry(folder))
    serving = open_registry(trainer).champion(model)
    return f"{model} {serving} serves (before: {before or 'none'}); the next run starts from it"


def what_changes(plan: Plan) -> str:
    """What a lineage leaves out and takes back, in words."""
    parts = ("without", plan.exclusions), ("with", plan.lifted)
    return " and ".join(f"{word} {' and '.join(names)}" for word, names in parts if names)


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
    if found.plan.lifted:
        lines.append(
            f"{found.lifted} examples of {' and '.join(found.plan.lifted)} count again, those too that came while "
            "they were left out."
        )
    if found.plan.exclusions:
        what = " and ".join(found.plan.exclusions)
        lines.append(
            f"{found.excluded} examples of {what} were taken out of the journal before it was folded: no window, "
            "sample or run had them."
        )
        if not found.excluded:
            lines.append(f"Nothing in the journal matches {what}: check the spelling.")
    if derived := found.derived:
        lines.append(
            f"Of the recorded examples, today's code makes {derived.same} as they are, {derived.changed} otherwise "
            f"and {derived.gone} not at all, and {derived.new} new ones. Ticks, policies and requests are the "
            "recorded ones, and so is the order; the gate answered anew."
        )
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
def progress_of(version: str, after_s: float) -> Iterator[ProgressCallback]:
    """Progress bars of a version, with the time that those after it took, where it is known."""
    after = f"; the versions after it took {after_s:.0f} s when they were recorded" if after_s else ""
    log.info("training %s%s", version, after)
    with progress_bars(version, threading.Event()) as on_progress:
        yield on_progress


@contextlib.contextmanager
def feeds_of(exclusions: Sequence[str], file: Path | None, settings: Settings) -> Iterator[FeedOf]:
    """The feed of each event: as the journal says it, or, for older records, as the event on its topic does."""
    if not any(exclusion.startswith("feed=") for exclusion in exclusions):
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
