"""Exports: the latest events, or the ontology made of them, as files.

topics or sources ──> events ──> export_content: a folder of JSON lines
                            ├──> export_ontology: the files of the ontology
                            └──> export_dsl: the files of the DSL
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer

from schemas.codec import decode
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import DeadLetter, Event
from schemas.topics import EVENT_TOPICS
from streams.content.current import current
from streams.content.dsl.files import write_dsl
from streams.content.events_folder import write_events
from streams.content.ontology.files import write_ontology
from streams.content.training_data import write_training_data
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.base.runner import parse_events
from streams.fetchers.feeds.registry import feed_named
from streams.settings import Settings
from sx9_ml_models.stage_bars import stage_bars
from transport.kafka import end_offset, read_ranges
from transport.topics import partitions_of

log = logging.getLogger(__name__)


def parse_sources(arguments: Sequence[str]) -> dict[str, str | None]:
    """The sources that the command line names.

    Args:
        arguments: Each is `FEED=SOURCE`, or `FEED` for the feed's default source.

    Returns:
        Feed -> source, None for the default.

    Raises:
        BadConfiguration: There is no such feed, or a feed is named twice.
    """
    sources: dict[str, str | None] = {}
    for argument in arguments:
        feed, _, source = argument.partition("=")
        feed_named(feed)
        if feed in sources:
            raise BadConfiguration(f"--source names {feed} twice: give each feed one source")
        sources[feed] = source or None
    return sources


def events_from_sources(
    sources: Mapping[str, str | None],
    settings: Settings,
    rejected: Counter[str],
    letters: list[DeadLetter] | None = None,
) -> Iterator[Event]:
    """All events of some feeds, read from their sources. Kafka is not needed.

    Args:
        sources: Feed -> source, None for the default.
        settings: Name the cache folder.
        rejected: Reason -> number of unusable records; updated while the events are read.
        letters: Likewise; the records themselves, without their bytes.

    Yields:
        The events, feed by feed, in the order in which the feed would publish them.

    Raises:
        BadConfiguration, BadRecord, RetryLater: A source as a whole can't be read or used.
    """
    for feed, source in sources.items():
        with stage_bars(feed) as on_progress:
            for outcome in parse_events(feed, source, settings, on_progress=on_progress):
                if isinstance(outcome, RejectedItem):
                    error = outcome.error
                    rejected[error.reason] += 1
                    if letters is not None:
                        letters.append(DeadLetter(origin=outcome.origin, reason=error.reason, detail=error.detail))
                else:
                    yield outcome.event


def events_from_topics(reader: KafkaConsumer, rejected: Counter[str]) -> Iterator[Event]:
    """All events on the topics.

    Args:
        reader: A consumer without a group.
        rejected: Reason -> number of messages that can't be decoded; updated while the events are read.

    Yields:
        The events; those with the same id in the order in which they were published.

    Raises:
        RetryLater: Kafka does not answer.
    """
    ranges = {partition: (0, end_offset(reader, *partition)) for partition in partitions_of(reader, EVENT_TOPICS)}
    for messages in read_ranges(reader, ranges):
        for message in messages:
            try:
                yield decode(message.value or b"", Event)
            except BadRecord as error:
                rejected[error.reason] += 1


def export_ontology(
    events: Iterable[Event],
    output: Path,
    settings: Settings,
    rejected: Counter[str],
    free_text: Path | None = None,
) -> dict[str, Any]:
    """Write the ontology of some events to a folder.

    Args:
        events: In order.
        output: The folder.
        settings: Name the folder of the models, and the language model, if one is to be asked.
        rejected: Reason -> number of reports that can't be read; updated.
        free_text: A file or folder of reports in free text, whose statements are part of it.

    Returns:
        `OntologySummary` as a mapping.
    """
    if free_text is None:
        return msgspec.to_builtins(write_ontology(events, output))  # type: ignore[no-any-return]
    from sx9_ml_models.classifying import classifier_of_events  # it imports scikit-learn
    from sx9_ml_models.content.language_model import LanguageModel
    from sx9_ml_models.content.reports import extracted_reports

    read = list(events)
    model = LanguageModel(settings, current(read)) if settings.ontogpt_model else None
    with classifier_of_events(read, settings) as classifier:
        reports = extracted_reports(free_text, classifier, rejected, model)
        written = write_ontology(read, output, reports=reports)
    if model and model.left_out:
        log.warning("of what %s said is left out: %s", model.name, dict(model.left_out))
    return msgspec.to_builtins(written)  # type: ignore[no-any-return]


def export_dsl(events: Iterable[Event], output: Path, letters: Iterable[DeadLetter] = ()) -> dict[str, Any]:
    """Write the DSL of some events to a folder.

    Args:
        events: In order.
        output: The folder.
        letters: What could not be read; it may grow while the events are read.

    Returns:
        `DslSummary` as a mapping.
    """
    return msgspec.to_builtins(write_dsl(events, output, letters))  # type: ignore[no-any-return]


def export_content(events: Iterable[Event], output: Path) -> dict[str, Any]:
    """Write the latest event of every object to a folder.

    Returns:
        `output`, and the number of events of each topic.
    """
    return {"output": str(output)} | write_events(output, events)


def export_training_data(events: Iterable[Event], output: Path) -> dict[str, Any]:
    """Write training data for other programs to a folder.

    Returns:
        `output`, and the number of records in each file.
    """
    return {"output": str(output)} | write_training_data(events, output)
