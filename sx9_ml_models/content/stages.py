"""The stages of `threat_content_fetcher.py`; each is tried, and its result is a line of the summary.

sources ──fetch──> threat_content/ ──indexes──> mitre_index.json, crosswalk_index.json, ...
                          ├──ontology──> ontology/      ├──DSL──> sx9_dsl/      └──training──> models/
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from schemas.errors import BadConfiguration, Sx9Error
from schemas.events import Event
from schemas.models import MODELS
from schemas.topics import TECHNIQUES
from streams.content.dsl.files import write_dsl
from streams.content.events_folder import read_events
from streams.content.source_names import FOLDERS, RAW_FILES
from streams.fetchers.base.clients import KafkaClients, clients_of
from streams.fetchers.base.feed_folder import MIRRORS, OWN, dead_letters_in, fetch_into_folder
from streams.fetchers.base.runner import FetchFailure, FetchReport, missing_key, try_fetch
from streams.fetchers.feeds.registry import feed_named
from streams.fetchers.sources.http import downloaded_once
from streams.settings import Settings
from sx9_ml_models.content.indexes import write_indexes
from sx9_ml_models.exports import export_ontology
from sx9_ml_models.stage_bars import stage_bars
from transport.secrets import without_secrets
from transport.topics import create_topics

log = logging.getLogger(__name__)

EXIT_CODES = {
    "fetch": 3, "publish": 4, "indexes": 5, "ontology": 6, "DSL": 7, "training": 8, "clean-up": 9, "lookup": 10,
}  # fmt: skip
"""Stage -> the exit code when it is the first that failed."""
FETCH_FIRST = "fetch it first: python threat_content_fetcher.py --all --no-training"


class StageResult(NamedTuple):
    """What became of a stage, or of one part of it.

    Attributes:
        stage: One of `EXIT_CODES`.
        of: The source or the model; empty: the stage as a whole.
        result: `done`, `failed`, or `skipped`: there is something for a person to do first.
        detail: What was made, or the error.
        seconds: How long it took.
    """

    stage: str
    of: str
    result: Literal["done", "failed", "skipped"]
    detail: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.result == "failed"


def attempt(stage: str, of: str, work: Callable[[], str]) -> StageResult:
    """Do a piece of work; whatever it raises is its result, and the rest goes on.

    Args:
        stage: One of `EXIT_CODES`.
        of: The source or the model.
        work: Returns what was made.
    """
    started_s, failed = time.monotonic(), False
    print(f"{stage}: {of or '...'}", file=sys.stderr)
    try:
        detail = work()
    except Sx9Error as error:
        failed, detail = True, str(error)
    except Exception as error:  # a fault of ours is reported like any other, and the next stage has its turn
        log.exception("%s %s: not foreseen", stage, of)
        failed, detail = True, f"{type(error).__name__}: {error!s:.500}; this is a fault of the program: report it"
    detail = without_secrets(detail)
    if failed:
        print(f"{stage}: {of}: failed: {detail}", file=sys.stderr)
    return StageResult(stage, of, "failed" if failed else "done", detail, time.monotonic() - started_s)


def fetch_all(feeds: dict[str, str | None], content: Path, settings: Settings) -> Iterator[StageResult]:
    """Fetch sources into the folder, one after another; with a broker in the settings, publish them, too.

    Those with techniques come first, because others get their tactics from these.
    """
    first_techniques = sorted(feeds.items(), key=lambda item: TECHNIQUES not in feed_named(item[0]).topics)
    with clients_of(settings.kafka_bootstrap or "") as clients:
        for feed, given in first_techniques:
            source = given or settings.feed_sources.get(feed)
            if not source and (missing := missing_key(feed_named(feed), settings)):
                print(f"fetch: {missing}", file=sys.stderr)
                yield StageResult("fetch", feed, "skipped", missing, 0.0)
                continue
            with downloaded_once():
                results = list(_fetch_and_publish(feed, source, content, settings, clients))
            yield from results


def _fetch_and_publish(
    feed: str, source: str | None, content: Path, settings: Settings, clients: KafkaClients
) -> Iterator[StageResult]:
    fetched = attempt("fetch", feed, partial(_fetch, feed, source, content, settings))
    yield fetched
    if clients.bootstrap and not fetched.failed:
        own = settings.model_copy(update={"cache_dir": content / OWN})
        yield attempt("publish", feed, partial(_publish, feed, source, own, clients))


def _fetch(feed: str, source: str | None, content: Path, settings: Settings) -> str:
    with stage_bars(feed) as on_progress:
        return _told(fetch_into_folder(feed, source, content, settings, RAW_FILES.get(feed, ""), on_progress))


def _publish(feed: str, source: str | None, settings: Settings, clients: KafkaClients) -> str:
    with stage_bars(feed) as on_progress:
        result = try_fetch(feed, source, settings, clients, on_progress=on_progress)
    if isinstance(result, FetchFailure):
        raise Sx9Error(result.error)
    return f"{result.published} events"


def _told(report: FetchReport) -> str:
    kinds = {kind: count for kind, count in report.counts.items() if count}
    told = [f"{count} {kind}" for kind, count in (kinds | report.rejected).items()]
    return ", ".join([*told, *([f"release {report.release[:12]}"] if report.release else [])]) or "nothing in it"


def prepare_topics(settings: Settings) -> Iterator[StageResult]:
    """Create the topics on the broker of the settings; nothing without one."""
    if settings.kafka_bootstrap:
        yield attempt("publish", "topics", partial(_create, settings.kafka_bootstrap, settings.replication_factor))


def _create(bootstrap: str, replicas: int) -> str:
    create_topics(bootstrap, replicas)
    return f"the topics of {bootstrap} are there"


def events_of(content: Path) -> list[Event]:
    """The events in the folder.

    Raises:
        BadConfiguration: There are none.
    """
    events = list(read_events(content)) if content.is_dir() else []
    if not events:
        raise BadConfiguration(f"there is no threat content in {content}: {FETCH_FIRST}")
    return events


def make_indexes(content: Path, events: list[Event]) -> str:
    """Write the indexes."""
    return ", ".join(f"{count} {name}" for name, count in write_indexes(content, events).items())


def make_ontology(output: Path, events: list[Event], settings: Settings, free_text: Path | None = None) -> str:
    """Write the ontology, with what reports in free text say."""
    rejected = Counter[str]()
    own = settings.model_copy(update={"output_dir": output})
    made = export_ontology(events, output / "ontology", own, rejected, free_text)
    told = ", ".join(f"{made[each]} {each}" for each in ("terms", "relations", "nodes", "edges"))
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
    return f"{told}; reports left out: {left_out}" if left_out else told


def make_dsl(folder: Path, events: list[Event], content: Path) -> str:
    """Write the DSL files."""
    made = write_dsl(events, folder, dead_letters_in(content))
    entities = ", ".join(f"{count} {kind}" for kind, count in made.converted.items())
    return f"{entities}; {made.error_count} with errors, {made.duplicates} duplicates"


def train_models(content: Path, output: Path) -> Iterator[StageResult]:
    """Train the three models, one after another."""
    export = output / "ontology" / "threat_ontology.json"
    for model in MODELS:
        yield attempt("training", model, partial(_train, model, content, output / "models" / model, export))


def _train(model: str, content: Path, folder: Path, export: Path) -> str:
    if not content.is_dir() or next(read_events(content), None) is None:
        raise BadConfiguration(f"there is no threat content in {content} to train on: {FETCH_FIRST}")
    from sx9_ml_models.training import train  # torch takes seconds to import

    graph = export if model == "gnn-threat" and export.is_file() else None
    result = train(model, content, folder, None, graph)
    outcome = "promoted" if result.promoted else f"not promoted: {result.refused}"
    return f"{result.folder}, {result.examples} examples, {outcome}"


def clean_up(content: Path) -> str:
    """Remove the git mirrors, and the clones that earlier programs left here; the JSON stays."""
    clones = [content / name for names in FOLDERS.values() for name in names]
    found = [content / MIRRORS, *(clone for clone in clones if (clone / ".git").exists())]
    removed = [folder for folder in found if folder.is_dir() and not folder.is_symlink()]
    for folder in removed:
        shutil.rmtree(folder)
    return f"removed {len(removed)} folders with mirrors"
