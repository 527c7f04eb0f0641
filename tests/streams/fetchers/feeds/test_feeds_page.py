"""docs/feeds.md: its example runs and says what it makes, and its table is that of the code."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from schemas.encoding import EncodedEvent
from streams.fetchers.base.feed import FeedState, no_progress
from streams.fetchers.feeds.registry import FEEDS

PAGE = Path(__file__).resolve().parents[4] / "docs/feeds.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_makes_the_event_that_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "example_feed.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.import_module("example_feed").FEED
    (tmp_path / "advisories").mkdir()
    (tmp_path / "advisories/one.yaml").write_text(block("yaml"))
    batch = spec.read(str(tmp_path), FeedState(), tmp_path / "cache", no_progress)
    [outcome] = batch.outcomes or ()
    assert isinstance(outcome, EncodedEvent)
    assert json.loads(outcome.value) == json.loads(block("json"))


def test_the_table_has_every_feed_with_its_source_and_the_models_that_learn_from_it() -> None:
    rows = [
        f"| `{spec.name}` | {spec.about} | {spec.default_source or 'a place of yours'} | "
        f"{', '.join(spec.teaches) or 'looked up only'} |"
        for spec in FEEDS.values()
    ]
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert table == rows
