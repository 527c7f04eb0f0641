"""Reports of the command line: which examples and which model classify them, and how the result is shown."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from schemas.errors import BadConfiguration, Sx9Error
from schemas.events import Event
from serving.classify import ClassifiedReport, ReportClassifier, TextModel
from serving.techniques.index import TechniqueIndex, calibrate
from serving.techniques.store import EXAMPLES_FILE, TOPICS, ExampleStore
from streams.local.services import running
from streams.settings import Settings
from sx9_ml_models import render
from transport.kafka import consumer
from transport.partition_log import KafkaPartitionLog
from transport.topics import partitions_of

log = logging.getLogger(__name__)

MODEL = "distilbert-mitre"
SHOWN_CHARS = 90


@contextlib.contextmanager
def report_classifier(settings: Settings, content: Path | None) -> Iterator[ReportClassifier]:
    """A classifier with the examples of today, and the champion of `distilbert-mitre` if there is one.

    Args:
        settings: Name Kafka, or the state folder in which one runs, and the folder of the models. Where no Kafka
            runs, the examples are those that were read last.
        content: A folder of threat content to read the examples from, instead of the topics.

    Raises:
        BadConfiguration: No example is known.
        RetryLater: Kafka does not answer.
    """
    from streams.content.events_folder import read_events

    store = ExampleStore(None if content else settings.state_dir / EXAMPLES_FILE)
    try:
        if content:
            store.add(read_events(content))
        else:
            _catch_up(store, settings)
        yield _classifier(store, settings)
    finally:
        store.close()


@contextlib.contextmanager
def classifier_of_events(events: Iterable[Event], settings: Settings) -> Iterator[ReportClassifier]:
    """A classifier with the examples in some events, and the champion of `distilbert-mitre` if there is one.

    Args:
        events: Of any feeds.
        settings: Name the folder of the models.

    Raises:
        BadConfiguration: None of the events is an example.
    """
    store = ExampleStore(None)
    try:
        store.add(events)
        yield _classifier(store, settings)
    finally:
        store.close()


def _classifier(store: ExampleStore, settings: Settings) -> ReportClassifier:
    examples = store.examples()
    if not examples:
        raise BadConfiguration(
            "no example names a technique: fetch ATT&CK (`sx9 fetch`) while `sx9 up` runs, or give a folder with "
            "--content"
        )
    model, name = _model(settings)
    return ReportClassifier(TechniqueIndex(examples), calibrate(examples), store.severities, model, name)


def show(report: ClassifiedReport) -> None:
    """A report as tables: its techniques with the nearest examples, then its sentences with what they say."""
    limit = report.threshold
    render.lines(report.id)
    cells = [
        (t.id, t.name, "stated" if t.stated else f"{t.score:.2f}", str(len(t.sentences)), _example(report, t.id))
        for t in report.techniques
    ]
    if cells:
        render.rows(("technique", "name", "score", "sentences", "nearest example"), cells)
    else:
        render.lines("techniques: not known")
    tactics = ", ".join(f"{tactic} {count}" for tactic, count in report.tactics.items()) or "not known"
    severity = report.severity
    render.lines(
        f"tactics: {tactics}", f"severity: {severity.severity or 'not known'} ({severity.how}: {severity.source})"
    )
    if report.cves:
        render.lines(f"CVEs: {', '.join(report.cves)}")
    console = render.out()
    for sentence in report.sentences:
        names = ", ".join(technique.id for technique in sentence.techniques)
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in sentence.text)
        marked = Text(f"{names or '-'}  ", style="bold") + Text(text, style="bold yellow" if names else "dim")
        console.print(marked, soft_wrap=True)
    if limit.precision:
        render.lines(
            f"a technique is said from score {limit.score:.2f} on: {limit.precision:.0%} right, {limit.recall:.0%} "
            f"found, on {limit.examples} held-out procedure texts; {report.examples} examples"
        )
    else:
        render.lines(
            f"no technique is said but those that the text names: {limit.examples} held-out examples are too few "
            "to know how often it would be right"
        )
    render.lines(*(f"without {what}: {why}" for what, why in report.away.items()))


def as_plain(report: ClassifiedReport) -> Any:
    """A report for JSON. A threshold that nothing reaches is null: JSON has no infinity."""
    return msgspec.json.decode(msgspec.json.encode(report))


def _example(report: ClassifiedReport, technique: str) -> str:
    found = [
        said.found
        for sentence in report.sentences
        for said in sentence.techniques
        if said.id == technique and said.found
    ]
    best = max(found, key=lambda each: each.score, default=None)
    if not best or not best.examples:
        return ""
    nearest = best.examples[0]
    text = nearest.text if len(nearest.text) <= SHOWN_CHARS else f"{nearest.text[:SHOWN_CHARS]} ..."
    return f"{text} ({nearest.feed} {nearest.release})".replace(" )", ")")


def _catch_up(store: ExampleStore, settings: Settings) -> None:
    found = running(settings, neo4j=False)
    if found is None:
        log.warning("no Kafka runs: the examples are those that were read last")
        return
    reader = consumer(found.kafka_bootstrap)
    try:
        topics = {topic.name: topic for topic in TOPICS}
        partitions: Sequence[Any] = partitions_of(reader, TOPICS)
        store.catch_up(KafkaPartitionLog(reader, topics[each.topic], each.partition) for each in partitions)
    finally:
        reader.close()


def _model(settings: Settings) -> tuple[TextModel | None, str]:
    """The champion of `distilbert-mitre` and its name; None and the reason where it can't be loaded."""
    from trainers.store.shared_registry import open_registry

    registry = open_registry(settings)
    champion = registry.champion(MODEL)
    if champion is None:
        return None, f"{MODEL} has no champion in {registry.root} yet (`sx9 models list`)"
    from serving.predictors import load

    try:
        loaded = load(registry.folder(MODEL, champion))
    except Sx9Error as error:
        return None, str(error)
    return loaded, f"{MODEL} {champion}"
