"""NVD over a real HTTP server: page by page, from the end of the last window on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from schemas.encoding import EncodedEvent
from streams.fetchers.base.feed import Batch, FeedState, no_progress
from streams.fetchers.feeds import nvd
from tests.streams.fetchers.feeds.samples import cve

NOW = datetime(2026, 11, 27, tzinfo=UTC)


class Api(ThreadingHTTPServer):
    """Answers with two records, one a page, and writes down what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append(asked)
        page = {"totalResults": 2, "vulnerabilities": [cve(int(asked["startIndex"]))]}
        body = json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def read(api: Api, state: FeedState, now: datetime) -> Batch:
    url = f"http://127.0.0.1:{api.server_port}/cves/2.0"
    return nvd.NvdPages(pause_s=0.0, now=lambda: now).read("cve-nvd", url, state, Path("unused"), no_progress)


def test_all_pages_are_read_and_the_next_fetch_begins_where_the_last_ended(api: Api) -> None:
    first = read(api, FeedState(), NOW)
    assert [o.event.id for o in first.outcomes or () if isinstance(o, EncodedEvent)] == [
        "CVE-2026-10000",
        "CVE-2026-10001",
    ]
    assert [asked["startIndex"] for asked in api.asked] == ["0", "1"]
    assert api.asked[0]["lastModStartDate"] == (NOW - timedelta(days=nvd.FIRST_DAYS)).isoformat()
    api.asked.clear()
    read(api, first.state, NOW + timedelta(days=200))
    starts = list(dict.fromkeys(asked["lastModStartDate"] for asked in api.asked))
    assert starts == [NOW.isoformat(), (NOW + timedelta(days=nvd.WINDOW_DAYS)).isoformat()]


def test_a_record_has_its_severity_its_times_and_its_weaknesses(api: Api) -> None:
    outcome = (read(api, FeedState(), NOW).outcomes or ())[0]
    assert isinstance(outcome, EncodedEvent)
    event = outcome.event
    assert isinstance(event, nvd.Entity)
    assert (event.severity, event.tags, event.modified_ms) == ("high", ("CWE-79",), 1_767_323_045_000)
    assert event.references == ("https://nvd.example/1",)
