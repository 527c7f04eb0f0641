"""What holds for every feed of the table."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from schemas.topics import EVENT_TOPICS
from streams.fetchers.base.cursor import feed_code
from streams.fetchers.base.feed import FeedSpec
from streams.fetchers.feeds.registry import FEEDS, feed_named

CODE_OF_EVENTS = ("streams.fetchers.feeds.", "streams.fetchers.formats.", "schemas.taxonomy")
"""Beginnings of the names of modules that decide what the events of a feed are."""


def imported(module: str) -> set[str]:
    """The modules of `CODE_OF_EVENTS` that a module imports."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    found = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith(CODE_OF_EVENTS) and is_module(name)}


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("spec", FEEDS.values(), ids=FEEDS)
def test_a_feed_names_all_modules_that_make_its_events(spec: FeedSpec) -> None:
    assert spec.modules[0].startswith("streams.fetchers.feeds.")
    for module in spec.modules:
        assert imported(module) <= set(spec.modules), f"{spec.name}: add what {module} imports to `modules`"
    assert len(feed_code(spec)) == 16


@pytest.mark.parametrize("spec", FEEDS.values(), ids=FEEDS)
def test_a_feed_is_found_by_its_name_and_fills_event_topics(spec: FeedSpec) -> None:
    assert feed_named(spec.name) is spec
    assert spec.topics
    assert set(spec.topics) <= set(EVENT_TOPICS)
