"""What `sx9 explain` does, from its arguments to what it prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from schemas.models import model_spec
from schemas.topics import JOURNAL, partition_of
from streams.settings import Settings, load_settings
from sx9_ml_models import queries, render
from sx9_ml_models.connections import topic_reader
from sx9_ml_models.explain.example import ExampleStory, example_story
from sx9_ml_models.explain.placed import keyed_copy, keyed_file
from sx9_ml_models.explain.searched_file import SearchedFile
from sx9_ml_models.explain.version import (
    VersionStory,
    left_out,
    parse_target,
    trigger_in_journal,
    trigger_on_topic,
    version_story,
)
from sx9_ml_models.journals import journal_file, open_journal
from sx9_ml_models.stage_bars import stage_bars
from trainers.settings import TrainerSettings, load_trainer_settings
from trainers.store.journal_copy import JournalCopy
from trainers.store.journal_reader import JournalReader
from trainers.store.shared_registry import open_registry
from transport.files import lock
from transport.partition_log import KafkaPartitionLog, PartitionLog

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
        journal = journal_file(model, file)
        trigger = None if manifest.measures else trigger_in_journal(journal, manifest)
        exclusions = left_out(manifest, SearchedFile(journal).lineages())
        return version_story(manifest, journal, keyed_file(journal), trigger, None, last, exclusions)
    with topic_reader(settings) as reader:
        log = KafkaPartitionLog(reader, JOURNAL, partition_of(model))
        with _copy_of(model, settings, trainer, log) as copy:
            exclusions = left_out(manifest, copy.lineages())
            trigger = None if manifest.measures else trigger_on_topic(reader, manifest)
            return version_story(manifest, log, keyed_copy(copy, log), trigger, reader, last, exclusions)


def of_example(model: str, name: str, file: Path | None) -> ExampleStory:
    """What became of an example.

    Args:
        model: The model.
        name: A key or an id.
        file: A file of the journal; None: see `_copy_of`.

    Raises:
        BadConfiguration: There is no such example.
    """
    settings, trainer = load_settings(), load_trainer_settings()
    manifests = open_registry(trainer).versions(model)
    if file is not None:
        return example_story(model, name, SearchedFile(journal_file(model, file), name), manifests)
    with _copy_of(model, settings, trainer) as copy:
        return example_story(model, name, copy, manifests)


@contextlib.contextmanager
def _copy_of(
    model: str, settings: Settings, trainer: TrainerSettings, journal: PartitionLog | None = None
) -> Iterator[JournalReader]:
    """The local copy of a journal, while the block runs.

    It is that of the trainer on this machine, which may lack the latest records; where none has run, one of this
    command's own, which is made from the topic at first and brought up to date later.
    """
    path = trainer.trainer_dir / f"{model}.sqlite"
    if path.is_file():
        with contextlib.closing(JournalReader(path)) as copy:
            yield copy
        return
    folder = settings.state_dir / "explain"
    with contextlib.ExitStack() as stack:
        journal = journal or stack.enter_context(open_journal(model, None, settings))
        stack.enter_context(lock(folder / f"{model}.lock", f"copying the journal of {model}"))
        own = stack.enter_context(contextlib.closing(JournalCopy(folder / path.name, journal)))
        on_progress = stack.enter_context(stage_bars("copying the journal"))
        own.catch_up(lambda done, total: on_progress(model, done, total))
        yield own


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
