"""What `sx9 explain` does, from its arguments to what it prints."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from schemas.journal import LineageChange
from schemas.models import model_spec
from schemas.topics import JOURNAL, partition_of
from streams.settings import load_settings
from sx9_ml_models import queries, render
from sx9_ml_models.connections import topic_reader
from sx9_ml_models.explain.example import ExampleStory, example_story, index_of
from sx9_ml_models.explain.version import (
    VersionStory,
    left_out,
    parse_target,
    trigger_in_journal,
    trigger_on_topic,
    version_story,
)
from sx9_ml_models.journals import history_of, open_journal
from trainers.settings import load_trainer_settings
from trainers.store.journal_copy import JournalReader
from trainers.store.shared_registry import open_registry
from transport.partition_log import KafkaPartitionLog

MOST = 5
"""Labels and feeds that are named."""
Story = ExampleStory | VersionStory


def of_version(target: str, file: Path | None, last: int) -> VersionStory:
    """Why a version exists.

    Args:
        target: `MODEL@VERSION`.
        file: A file of the journal; None: the journal, the trigger and the events are on Kafka.
        last: The number of events to name.

    Raises:
        BadConfiguration: There is no such model or version.
    """
    settings, trainer = load_settings(), load_trainer_settings()
    model, version = parse_target(target)
    manifest, _ = queries.version(trainer, model_spec(model).name, version)
    if file is not None:
        with open_journal(model, file, settings) as journal:
            lineage = None
            for offset, record in history_of(journal)(journal.end()):
                if isinstance(record, LineageChange):
                    lineage = offset, record
            trigger = trigger_in_journal(journal, manifest)
            return version_story(manifest, journal, trigger, None, last, left_out(manifest, lineage))
    with topic_reader(settings) as reader:
        log = KafkaPartitionLog(reader, JOURNAL, partition_of(model))
        copy = trainer.trainer_dir / f"{model}.sqlite"
        lineage = None
        if copy.is_file():
            with contextlib.closing(JournalReader(copy)) as copied:
                lineage = copied.lineage()
        trigger = trigger_on_topic(reader, manifest)
        return version_story(manifest, log, trigger, reader, last, left_out(manifest, lineage))


def of_example(model: str, name: str, file: Path | None) -> ExampleStory:
    """What became of an example.

    Args:
        model: The model.
        name: A key or an id.
        file: A file of the journal; None: the copy of the trainer on this machine.

    Raises:
        BadConfiguration: There is no such example, or no copy.
    """
    settings, trainer = load_settings(), load_trainer_settings()
    manifests = open_registry(trainer).versions(model)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(open_journal(model, file, settings)) if file else None
        folder = settings.state_dir / "explain"
        copy = stack.enter_context(contextlib.closing(index_of(model, journal, trainer.trainer_dir, folder)))
        return example_story(model, name, copy, manifests)


def as_plain(story: Story) -> dict[str, Any]:
    """A story as plain objects, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(story)
    return plain


def show(story: Story) -> None:
    """Print a story."""
    if isinstance(story, VersionStory):
        _show_version(story)
    else:
        _show_example(story)


def _show_version(story: VersionStory) -> None:
    start, end = (story.spans[0].start, story.spans[-1].end) if story.spans else (0, 0)
    tripped = [m for m in story.measures if m.tripped] or list(story.measures)
    numbers = ", ".join(render.describe_measure(m.rule, m.value, m.limit) for m in tripped)
    outcome = "promoted" if story.promoted else "refused"
    origin = f"it replaced {story.replaced}" if story.replaced else f"from {story.parent or 'the base model'}"
    render.lines(
        f"{story.model} {story.version}: {outcome}; {origin}",
        f"why: trigger {story.trigger} by {story.reason}, {render.day(story.at_ms) or 'time unknown'}: "
        f"{numbers or 'the trigger is not on its topic any more, so its numbers are not known'}",
        f"window: journal offsets {start} to {end} in {len(story.spans)} windows: {story.fresh} examples to learn, "
        f"{story.superseded} superseded by later ones, {story.retracted} retractions, {story.holdout} held out; "
        f"{story.rehearsed} older ones rehearsed",
        f"labels: {_most(story.labels)}",
        f"feeds: {_most(story.feeds)}",
    )
    columns = ("journal offset", "event", "feed", "release", "labels", "link", "position")
    rows = [(str(e.offset), e.id, e.feed, e.release, ", ".join(e.labels), e.link, e.position) for e in story.events]
    render.rows(columns, rows)
    checks = [
        (
            c.name, f"{c.champion:.3f}", f"{c.candidate:.3f}", f"{c.margin:.3f}", str(c.support),
            "passed" if c.passed else "failed",
        )
        for c in story.gate
    ]  # fmt: skip
    render.rows(("check of the gate", "champion", "candidate", "margin", "examples", ""), checks)


def _show_example(story: ExampleStory) -> None:
    labels = f"labels {', '.join(story.labels) or 'none'}"
    now = "retracted: no version learns from it any more" if story.retracted else labels
    side = "held out: no version was ever trained on it" if story.holdout else "not held out"
    render.lines(f"{story.name} for {story.model}: {now}; {side}")
    entries = [
        (str(e.offset), e.key, e.what, ", ".join(e.labels), e.feed, e.taxonomy, render.day(e.observed_ms), e.event)
        for e in story.entries
    ]
    columns = ("journal offset", "key", "what", "labels", "feed", "taxonomy", "observed", "event")
    render.rows(columns, entries)
    uses = [(u.version, "promoted" if u.promoted else "refused", str(u.offset), u.key, u.role) for u in story.uses]
    render.rows(("version", "", "journal offset", "key", "role"), uses)


def _most(counts: dict[str, int]) -> str:
    """The most frequent ones, with their counts."""
    shown = [f"{name} {count}" for name, count in list(counts.items())[:MOST]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "none"
