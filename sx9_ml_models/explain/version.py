"""Why a version exists: its trigger with the numbers, its windows and their events, the gate, what it replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from kafka import KafkaConsumer, TopicPartition

from schemas.errors import BadConfiguration
from schemas.events import Event
from schemas.exclusions import is_excluded
from schemas.journal import LineageChange, Record, Source, held_out
from schemas.topics import EVENT_TOPICS, TRIGGERS, partition_of
from schemas.versions import GateCheck, Manifest
from schemas.windows import Measure, Span, Trigger
from streams.core.fold import initial
from streams.core.lineage import follow
from sx9_ml_models.explain.links import link_of, page_of
from sx9_ml_models.explain.placed import KeyedJournal, Placed, Seen, new_examples
from sx9_ml_models.journals import history_of
from transport.kafka import end_offsets, first_offset, read_ranges
from transport.partition_log import KafkaPartitionLog, PartitionLog, records_between
from transport.records import decoded


class SeenEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a version learnt from: `release` of the feed, or its commit; `position` on the topic."""

    offset: int
    position: str
    id: str
    feed: str
    release: str
    link: str
    labels: tuple[str, ...]


class VersionStory(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        model, version, parent, reason, promoted: See `schemas.versions.Manifest`.
        trigger: Id of the trigger; `at_ms` is its time by the ticks, 0 if it was not found.
        measures: The values and limits of all rules at that time.
        spans: The windows.
        fresh: The training examples of the windows; `holdout`, `retracted` and `superseded` count the rest.
        rehearsed: The number of older examples that were trained again.
        labels, feeds: Label, or feed, -> fresh examples, the most frequent first.
        events: The latest events.
        gate: What the gate compared.
        replaced: The version that served before; empty if this one was refused, or is the first.
    """

    model: str
    version: str
    parent: str
    reason: str
    promoted: bool
    trigger: str
    at_ms: int
    measures: tuple[Measure, ...]
    spans: tuple[Span, ...]
    fresh: int
    holdout: int
    retracted: int
    superseded: int
    rehearsed: int
    labels: dict[str, int]
    feeds: dict[str, int]
    events: tuple[SeenEvent, ...]
    gate: tuple[GateCheck, ...]
    replaced: str


def version_story(
    manifest: Manifest,
    journal: PartitionLog,
    find: KeyedJournal,
    trigger: Trigger | None,
    reader: KafkaConsumer | None,
    last: int,
    exclusions: tuple[str, ...] = (),
) -> VersionStory:
    """Why a version exists.

    Args:
        manifest: Of the version.
        journal: Of its model.
        find: The same journal.
        trigger: The trigger that it answers, for a manifest without its numbers; None: it was not found.
        reader: A consumer without a group, for the events; None: only what the journal says about them.
        last: The number of events to name.
        exclusions: What was left out when it was trained.
    """
    known = [each for each in _examples(journal, find, manifest) if not is_excluded(each[1], exclusions)]
    latest = {example.key: offset for offset, example in known}
    placed = [each for each in known if any(span.start <= each[0] < span.end for span in manifest.spans)]
    current = [each for each in placed if latest[each[1].key] == each[0] and not each[1].retracted]
    fresh = [each for each in current if not held_out(each[1])]
    retracted = sum(example.retracted for _, example in placed)
    feeds = Counter(example.source.feed or f"(on {example.source.topic})" for _, example in fresh)
    return VersionStory(
        model=manifest.model,
        version=manifest.version,
        parent=manifest.parent,
        reason=manifest.reason,
        promoted=manifest.promoted,
        trigger=manifest.trigger,
        at_ms=trigger.at_ms if trigger else manifest.decided_ms,
        measures=trigger.measures if trigger else manifest.measures,
        spans=manifest.spans,
        fresh=len(fresh),
        holdout=len(current) - len(fresh),
        retracted=retracted,
        superseded=len(placed) - len(current) - retracted,
        rehearsed=len(manifest.rehearsal),
        labels=dict(Counter(label for _, example in fresh for label in example.labels).most_common()),
        feeds=dict(feeds.most_common()),
        events=tuple(_seen_events(fresh[-last:] if last else [], reader)),
        gate=manifest.gate,
        replaced=manifest.parent if manifest.promoted else "",
    )


def trigger_on_topic(reader: KafkaConsumer, manifest: Manifest) -> Trigger | None:
    """The trigger of a version, on its topic; None if it is not there."""
    log = KafkaPartitionLog(reader, TRIGGERS, partition_of(manifest.model))
    for _, trigger in records_between(log, TRIGGERS.record, 0, log.end()):
        if (trigger.id, trigger.version) == (manifest.trigger, manifest.version):
            return trigger  # type: ignore[no-any-return]
    return None


def trigger_in_journal(journal: PartitionLog, manifest: Manifest) -> Trigger | None:
    """The trigger of a version, decided again by the fold; None if the journal does not lead to it."""
    state, history = initial(manifest.model), history_of(journal)
    found: list[Trigger] = []
    for offset, record in history(journal.end()):
        state, outputs = follow(state, offset, record, history, found.extend)
        found += [output for output in outputs if isinstance(output, Trigger)]
        for trigger in found:
            if trigger.version == manifest.version:
                return trigger
        found.clear()
    return None


def left_out(manifest: Manifest, lineages: Iterable[tuple[int, LineageChange]]) -> tuple[str, ...]:
    """What was left out when a version was trained: by the lineage change after which it is numbered.

    Args:
        manifest: Of the version.
        lineages: All lineage changes of the journal, with their offsets.
    """
    if not manifest.version[1:].isdecimal():
        return ()
    number = int(manifest.version[1:])
    before = [
        (change.numbered_from, offset, change) for offset, change in lineages if change.numbered_from < number
    ]
    return max(before, key=lambda each: each[:2])[2].exclusions if before else ()


def parse_target(target: str) -> tuple[str, str]:
    """Model and version of `MODEL@VERSION`.

    Raises:
        BadConfiguration: It has another form.
    """
    model, _, version = target.partition("@")
    if not version:
        raise BadConfiguration(f"{target!r} names no version: write MODEL@VERSION, such as {model}@v0001")
    return model, version


def _examples(journal: PartitionLog, find: KeyedJournal, manifest: Manifest) -> list[Placed]:
    """The examples in the windows of a version, and those before its trigger that supersede one of them."""
    if not manifest.spans:
        return []
    start, end = manifest.spans[0].start, manifest.spans[-1].end
    seen: Seen = {}
    learnt = list(new_examples(records_between(journal, Record, start, end), seen))
    return learnt + list(find({example.key for _, example in learnt}, end, manifest.decided_at, seen))


def _seen_events(placed: Iterable[Placed], reader: KafkaConsumer | None) -> Iterator[SeenEvent]:
    placed = list(placed)
    events = _events(reader, [example.source for _, example in placed]) if reader else {}
    for offset, example in reversed(placed):
        source = example.source
        event = events.get((source.topic, source.partition, source.offset))
        name = example.key.partition(":")[2]
        yield SeenEvent(
            offset=offset,
            position=f"{source.topic}/{source.partition}/{source.offset}",
            id=event.id if event else name,
            feed=event.feed if event else source.feed,
            release=event.release if event else example.taxonomy.partition("/")[2],
            link=link_of(event) if event else page_of(name),
            labels=example.labels,
        )


def _events(reader: KafkaConsumer, sources: Iterable[Source]) -> dict[tuple[str, int, int], Event]:
    """(topic, partition, offset) -> event, of those that are still there. A round reads one of every partition."""
    known = {topic.name for topic in EVENT_TOPICS}
    wanted = [source for source in sources if source.topic in known]
    partitions = sorted({TopicPartition(source.topic, source.partition) for source in wanted})
    has_archive = getattr(reader, "archive", None) is not None
    begins = {partition: 0 if has_archive else first_offset(reader, *partition) for partition in partitions}
    ends = end_offsets(reader, partitions)
    waiting: dict[TopicPartition, list[int]] = {}
    for source in wanted:
        partition = TopicPartition(source.topic, source.partition)
        if begins[partition] <= source.offset < ends[partition]:
            waiting.setdefault(partition, []).append(source.offset)
    found: dict[tuple[str, int, int], Event] = {}
    while waiting:
        ranges = {partition: (offsets[-1], offsets[-1] + 1) for partition, offsets in waiting.items()}
        for messages in read_ranges(reader, ranges):
            for message, event in decoded(messages, Event, messages[0].topic, messages[0].partition):
                found[(message.topic, message.partition, message.offset)] = event
        waiting = {partition: offsets[:-1] for partition, offsets in waiting.items() if offsets[:-1]}
    return found
