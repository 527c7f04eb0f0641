"""Fetching several feeds: each gives a result, and one that fails does not stop the next."""

from __future__ import annotations

import dataclasses
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BadConfiguration
from streams.fetchers.base import schedule
from streams.fetchers.base.feed_status import read_all
from streams.fetchers.base.runner import FetchFailure, FetchReport
from streams.fetchers.feeds import registry
from streams.local.services import settings_of
from streams.settings import load_settings
from sx9_ml_models import fetching, queries
from sx9_ml_models.fetching import fetch_feeds, fetch_repeatedly
from sx9_ml_models.stage_bars import stage_bars
from tests.streams.fetchers.feeds.samples import SAMPLES, put
from tests.streams.fetchers.stix_bundles import ordinary, written
from trainers.settings import load_trainer_settings


class Surprising:
    """A collection with a fault that nobody foresaw."""

    def read(self, *_: Any) -> Any:
        raise ZeroDivisionError("surprise")


@pytest.mark.parametrize(
    ("source", "message"),
    [("broken.json", r"broken\.json"), ("missing.json", "No such file"), ("", "ZeroDivisionError: surprise")],
)
def test_a_feed_that_fails_does_not_stop_the_next(
    source: str, message: str, tmp_path: Path, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.json").write_text("{nonsense")
    sources = {
        "attack-ics": str(tmp_path / source),
        "attack-enterprise": written(tmp_path, *ordinary(2)),
    }
    if not source:
        surprising = dataclasses.replace(registry.FEEDS["attack-ics"], collection=Surprising())
        monkeypatch.setitem(registry.FEEDS, "attack-ics", surprising)
    settings = load_settings(state_dir=tmp_path, cache_dir=tmp_path, **settings_of(kafka_bootstrap))
    failure, report = fetch_feeds(settings, sources)
    assert isinstance(failure, FetchFailure)
    assert failure.feed == "attack-ics"
    assert re.search(message, failure.error)
    assert isinstance(report, FetchReport)
    assert report.feed == "attack-enterprise"


def test_an_unknown_feed_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="attack-enterprise"):
        next(fetch_feeds(load_settings(state_dir=tmp_path), {"attack-ics": None, "nix": None}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_feeds_that_name_techniques_are_fetched_once_those_that_say_what_they_are_were(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    stop = threading.Event()

    def try_fetch(feed: str, *_: Any, **__: Any) -> FetchFailure:
        ended.append(feed)
        if len(ended) == 4:
            stop.set()
        return FetchFailure(feed, "no matter")

    monkeypatch.setattr(fetching, "try_fetch", try_fetch)
    sources = dict.fromkeys(("car", "atomic-red-team", "attack-ics", "attack-mobile"))
    fetching.fetch_on_schedule(load_settings(state_dir=tmp_path), sources, "unused", 3_600.0, jobs, stop)
    assert set(ended[:2]) == {"attack-ics", "attack-mobile"}


def test_a_feed_without_its_key_is_skipped_and_said_in_the_log_and_in_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(state_dir=tmp_path)
    assert fetching.with_keys(settings, {"otx": None, "sigma": None}) == {"sigma": None}
    assert "otx needs a key: get one from https://otx.alienvault.com/api" in caplog.text
    found = queries.status(settings, load_trainer_settings(), None)["feeds"]
    assert [feed["error"] for feed in found if feed["feed"] == "otx"] == [
        "otx needs a key: get one from https://otx.alienvault.com/api, and put otx=KEY into SX9_FEED_KEYS"
    ]


def test_progress_bars_are_not_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with stage_bars("attack-ics") as on_progress:
        on_progress("parse", 1, None)
        on_progress("parse", 2, 2)
    assert "parse" not in capsys.readouterr().err


def test_feeds_are_fetched_side_by_side_again_and_again_and_their_status_says_how_they_stand(
    tmp_path: Path, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "FIRST_RETRY_S", 0.2)
    put(tmp_path / "kali", SAMPLES["kali-tools"].files)
    sources = {"kali-tools": str(tmp_path / "kali"), "wadcoms": str(tmp_path / "missing")}
    settings = load_settings(state_dir=tmp_path / "state", cache_dir=tmp_path, **settings_of(kafka_bootstrap))
    stop = threading.Event()

    def stop_when_told() -> None:
        for _ in range(600):
            found = {feed.feed: feed for feed in read_all(settings.feeds_dir)}
            if len(found) == 2 and found["wadcoms"].failures >= 2 and found["kali-tools"].next_ms:
                break
            stop.wait(0.1)
        stop.set()

    threading.Thread(target=stop_when_told, daemon=True).start()
    fetch_repeatedly(settings, sources, 3_600.0, 2, stop)
    good, bad = read_all(settings.feeds_dir)
    assert (good.feed, good.failures, good.last_success_ms > 0) == ("kali-tools", 0, True)
    assert good.next_ms > good.last_success_ms + 3_000_000
    assert (bad.failures >= 2, bad.last_success_ms) == (True, 0)
    assert "missing" in bad.error
