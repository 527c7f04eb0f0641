"""What every feed of the table promises, on a real Kafka; samples.py has a source of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import EncodedEvent, encode_event
from schemas.errors import RetryLater
from schemas.journal import Source
from schemas.models import MODELS
from streams.core.graph_rows import batch_rows
from streams.core.projections.base import project_all
from streams.fetchers.base import runner
from streams.fetchers.base.feed import FeedState, RejectedItem, no_progress
from streams.fetchers.base.labels import KnownTechnique, in_current_words
from streams.fetchers.base.runner import FetchReport, fetch
from streams.fetchers.feeds import registry
from streams.local.services import services
from streams.settings import Settings, load_settings
from tests.streams.fetchers.feeds.samples import SAMPLES, Sample, put
from transport.topics import create_topics

TACTICS = {key: KnownTechnique(("discovery", "execution")) for key in ("T1003.001", "T1016", "T1546", "T1566")}
SHARED = Path(__file__).resolve().parents[5] / "shared/feeds"
REAL = {
    "sigma": "sigma", "cisa-kev": "kev", "atomic-red-team": "atomic-red-team", "caldera": "stockpile", "car": "car",
    "lolbas": "LOLBAS", "gtfobins": "GTFOBins", "loldrivers": "LOLDrivers", "hijacklibs": "HijackLibs",
    "wadcoms": "WADComs", "atlas": "atlas", "engage": "engage", "awesome-osint": "awesome-osint",
    "osint-framework": "osint-framework", "sherlock": "sherlock", "annoctr": "annoctr",
}  # fmt: skip
"""Feed -> its folder of real content."""


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a Kafka of this module's own: other tests publish events of the same feeds."""
    own = load_settings(state_dir=tmp_path_factory.mktemp("kafka"), kafka_bootstrap=None)
    with services(own, neo4j=False) as endpoints:
        create_topics(endpoints.kafka_bootstrap)
        yield endpoints.kafka_bootstrap


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One index of what is published for all feeds, as in use: no feed reads the topics for itself."""
    root = tmp_path_factory.mktemp("feeds")
    return load_settings(state_dir=root / "state", cache_dir=root / "cache")


def nonzero(report: FetchReport) -> dict[str, int]:
    return {kind: count for kind, count in report.counts.items() if count}


def events_of(name: str, source: Path) -> Sequence[Any]:
    batch = registry.FEEDS[name].read(str(source), FeedState(), Path("unused"), no_progress)
    return [outcome.event for outcome in batch.outcomes or () if isinstance(outcome, EncodedEvent)]


def test_every_feed_has_a_sample() -> None:
    assert set(SAMPLES) == set(registry.FEEDS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_feed_publishes_what_changed_and_only_that(
    name: str,
    settings: Settings,
    bootstrap: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample: Sample = SAMPLES[name]

    def run(*layers: Any) -> FetchReport:
        return fetch(name, str(put(tmp_path, *layers)), settings, bootstrap)

    first = run(sample.files)
    assert (nonzero(first), first.dead_letters) == ({"new": sample.events}, 0)
    cursor = settings.cursors_dir / f"{name}.json"
    before = cursor.read_bytes()
    again = run()
    assert (again.published, again.counts["unchanged"], again.dead_letters) == (0, sample.events, 0)

    def no_broker(*_: Any) -> None:
        raise RetryLater("the broker is away")

    with monkeypatch.context() as patched:
        patched.setattr(runner, "publish", no_broker)
        with pytest.raises(RetryLater, match="the broker is away"):
            run(sample.edited)
    assert state_of(cursor) == state_in(before)
    edited = run()
    assert (edited.published, edited.counts["edited"], edited.counts["unchanged"]) == (1, 1, sample.events - 1)
    removed = run(sample.removed)
    gone = "withdrawn" if sample.says_removed else "absent"
    assert (removed.counts[gone], removed.counts["unchanged"]) == (1, sample.events - 1)
    assert removed.published == sample.says_removed
    broken = run(sample.broken)
    assert (broken.dead_letters, broken.published) == (1, 0)
    assert broken.counts["unchanged"] == sample.events - 1 - sample.broken_events
    assert broken.counts["withdrawn"] == 0
    assert (run().dead_letters, run().published) == (0, 0)


def state_of(path: Path) -> Any:
    return state_in(path.read_bytes())


def state_in(data: bytes) -> Any:
    """What a cursor says of the source: not where the topics ended."""

    return json.loads(data)["state"]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_models_that_a_feed_says_it_teaches_learn_from_it(name: str, tmp_path: Path) -> None:
    events = events_of(name, put(tmp_path, SAMPLES[name].files))
    if registry.FEEDS[name].labels_by_technique:
        events = [
            outcome.event
            for outcome in in_current_words([encode_event(each) for each in events], TACTICS)
            if isinstance(outcome, EncodedEvent)
        ]
    examples = [project_all(event, Source("t", 0, 0), 0, MODELS) for event in events]
    learn = {model for each in examples for model, example in each.items() if not example.retracted}
    assert learn == set(registry.FEEDS[name].teaches)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_event_of_a_feed_has_rows_in_the_graph_and_says_where_it_is_from(name: str, tmp_path: Path) -> None:
    events = events_of(name, put(tmp_path, SAMPLES[name].files))
    rows = batch_rows((event, offset) for offset, event in enumerate(events))
    assert len(rows.nodes) + len(rows.edges) >= len(events) == SAMPLES[name].events
    assert {event.feed for event in events} == {name}


@pytest.mark.parametrize("name", REAL)
def test_real_content_is_read_and_nearly_none_of_it_is_refused(name: str) -> None:
    folder = SHARED / REAL[name]
    if not folder.is_dir():
        pytest.skip(f"needs the real content of {name} in {folder}")
    if name not in registry.FEEDS:
        pytest.skip(f"there is no feed {name}")
    outcomes = registry.FEEDS[name].read(str(folder), FeedState(), Path("unused"), no_progress).outcomes or ()
    events = [outcome for outcome in outcomes if isinstance(outcome, EncodedEvent)]
    rejected = [(item.origin, str(item.error)) for item in outcomes if isinstance(item, RejectedItem)]
    assert len(events) > 15
    assert len(rejected) * 100 <= len(events), rejected[:5]
