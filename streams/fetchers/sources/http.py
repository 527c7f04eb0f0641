"""Downloads one file over HTTP: only if it changed, within limits, with retries.

    request ──connections.py: time, redirects──> response ──gunzip.py──> bytes, counted as they are unpacked

Only gzip is asked for and read. A server that sends another content coding, or one inside the other, is refused:
their libraries unpack a whole block before its size can be seen.
"""

from __future__ import annotations

import base64
import contextlib
import random
import time
import zlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from schemas.errors import BadConfiguration, BadRecord, RetryLater
from streams.fetchers.base import limits
from streams.fetchers.base.feed import OnProgress
from streams.fetchers.sources.connections import Connections, is_same_service
from streams.fetchers.sources.gunzip import Gunzip

_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_UNCHANGED, _OK = 304, 200
_ASKS_TO_WAIT = frozenset((429, 503))
_REFUSED = frozenset((401, 403))
_LENGTH_DIGITS = 18
_JITTER = 0.5
"""Largest part of a pause by which it is longer, so that not all clients of a busy server come back at once."""
_GZIP, _PLAIN = ("gzip", "x-gzip"), ("", "identity")


class Download(NamedTuple):
    """The bytes of a file, its name, and the HTTP validators of this version of it.

    Of a page of TAXII, `added_last` is when the last object on it was added to its collection.
    """

    data: bytes
    name: str
    etag: str = ""
    last_modified: str = ""
    added_last: str = ""


_KEPT: ContextVar[dict[tuple[object, ...], Download] | None] = ContextVar("downloads", default=None)
"""(address, headers) -> what was downloaded, within `downloaded_once`."""


class _Busy(RetryLater):
    """A server has no answer now; `wait_s` is the wait that it asks for, seconds, None: it asks for none."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def is_url(source: str) -> bool:
    """Whether a source is fetched over HTTP."""
    return source.lower().startswith(("https://", "http://"))


def authorization(key: str) -> dict[str, str]:
    """The header for `user:password`, or for a token; none for an empty key.

    >>> authorization("me:secret"), authorization("a-token"), authorization("")
    ({'Authorization': 'Basic bWU6c2VjcmV0'}, {'Authorization': 'Bearer a-token'}, {})
    """
    if not key:
        return {}
    if ":" in key:
        return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"}


def without_credentials(source: str) -> str:
    """A source without user, password and query, for messages, records and files.

    >>> without_credentials("https://me:secret@feeds.example/a.json?token=x")
    'https://feeds.example/a.json'
    """
    if "://" not in source:
        return source
    parts = urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@contextlib.contextmanager
def downloaded_once() -> Iterator[None]:
    """Within it each address is downloaded once: whoever asks for it again gets the same bytes.

    For a source that is read twice, one time after the other. The bytes are in memory until the end.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def download(
    url: str,
    *,
    etag: str = "",
    last_modified: str = "",
    max_bytes: int,
    on_progress: OnProgress,
    remedy: str = "",
    pause_s: float = 1.0,
    headers: Mapping[str, str] = {},
) -> Download | None:
    """Download a file.

    Args:
        url: The address.
        etag, last_modified: Of the previous download; empty: download in any case.
        max_bytes: Size of the unpacked body, at most.
        on_progress: Called with the stage `collect`.
        remedy: What the user can do instead, for the error message.
        pause_s: Wait before the second attempt, seconds; twice that before the third. A longer one that the server
            asks for with `Retry-After` is kept, up to `limits.HTTP_RETRY_AFTER_S`.
        headers: Further headers, such as a key. A redirect to another service does not get them.

    Returns:
        The file; None if the server says that it did not change.

    Raises:
        BadConfiguration: The address is wrong, the server refuses it, or it redirects to a private address.
        BadRecord: `too-large` or `content-coding`.
        RetryLater: The server can't be reached or is busy, `limits.HTTP_ATTEMPTS` times, needs over
            `limits.HTTP_TOTAL_S`, or asks to wait longer than is waited here.
    """
    kept, key = _KEPT.get(), (url, *sorted(headers.items()))
    if kept is not None and key in kept:
        return kept[key]
    conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    sent = {name: value for name, value in conditions.items() if value} | {"Accept-Encoding": _GZIP[0]}
    last_error, attempt = "", 0
    try:
        with (
            httpx.Client(headers=sent, timeout=limits.HTTP_TIMEOUT_S) as client,
            Connections(httpx.URL(url), limits.HTTP_TOTAL_S) as connections,
        ):
            while attempt == 0 or (attempt < limits.HTTP_ATTEMPTS and not connections.is_over):
                attempt += 1
                try:
                    found = _get(client, connections, url, max_bytes, on_progress, headers)
                    if kept is not None and found is not None:
                        kept[key] = found
                    return found
                except (httpx.InvalidURL, httpx.UnsupportedProtocol):
                    raise
                except (httpx.RequestError, zlib.error, RetryLater) as error:
                    last_error = _text_of(error, connections)
                    if attempt < limits.HTTP_ATTEMPTS and not _pause(error, pause_s * attempt):
                        break
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise BadConfiguration(f"{without_credentials(url)}: {error}; check the address") from error
    remedies = "; ".join(filter(None, ("try again", remedy)))
    raise RetryLater(f"{without_credentials(url)} did not answer in {attempt} attempts ({last_error}): {remedies}")


def _pause(error: Exception, pause_s: float) -> bool:
    """Wait before the next attempt; whether there is one: a server that asks for more than the limit gets none."""
    asked_s = (error.wait_s if isinstance(error, _Busy) else None) or 0.0
    if asked_s > limits.HTTP_RETRY_AFTER_S:
        return False
    time.sleep(max(asked_s, pause_s) * (1.0 + _JITTER * random.random()))
    return True


def retry_after_s(value: str, now: datetime) -> float | None:
    """The wait that a `Retry-After` header asks for, seconds; None: it asks for none, or can't be read.

    >>> retry_after_s("120", datetime.now(UTC))
    120.0
    >>> retry_after_s("Fri, 27 Nov 2026 12:00:30 GMT", datetime(2026, 11, 27, 12, tzinfo=UTC))
    30.0
    """
    value = value.strip()
    if value.isdecimal() and len(value) <= _LENGTH_DIGITS:
        return float(value)
    try:
        found = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, (found.replace(tzinfo=found.tzinfo or UTC) - now).total_seconds())


def _text_of(error: Exception, connections: Connections) -> str:
    """The message of an error of an attempt; the time that is up is the cause of whatever it raised."""
    try:
        connections.check_time()
    except RetryLater as late:
        return str(late)
    return str(error) or type(error).__name__


def _get(
    client: httpx.Client,
    connections: Connections,
    url: str,
    max_bytes: int,
    on_progress: OnProgress,
    headers: Mapping[str, str],
) -> Download | None:
    request = client.build_request("GET", url, headers=dict(headers))
    for _ in range(limits.HTTP_REDIRECTS + 1):
        request.extensions["trace"] = connections.trace_of(request.url)
        response = client.send(request, stream=True)
        with contextlib.closing(response):
            if response.next_request is None:
                return _answer(response, connections, url, max_bytes, on_progress)
            request = response.next_request
        if not is_same_service(httpx.URL(url), request.url):
            for name in headers:
                request.headers.pop(name, None)
    raise BadConfiguration(
        f"{without_credentials(url)} redirects more than {limits.HTTP_REDIRECTS} times; check the address"
    )


def _answer(
    response: httpx.Response, connections: Connections, url: str, max_bytes: int, on_progress: OnProgress
) -> Download | None:
    if response.status_code == _UNCHANGED:
        return None
    if response.status_code in _BUSY:
        raise _busy(response)
    if response.status_code != _OK:
        more = ", and the user and password, or key" if response.status_code in _REFUSED else ""
        raise BadConfiguration(
            f"{without_credentials(url)} answered {response.status_code}: check the address{more}"
        )
    data = _body(response, connections, url, max_bytes, on_progress)
    name = urlsplit(url).path.rpartition("/")[2]
    etag, last_modified, added_last = (
        response.headers.get(header, "") for header in ("ETag", "Last-Modified", "X-TAXII-Date-Added-Last")
    )
    return Download(data, name, etag, last_modified, added_last)


def _busy(response: httpx.Response) -> _Busy:
    """The error of an answer with a status that may pass, with the wait that the server asks for."""
    message = f"status {response.status_code}"
    if response.status_code not in _ASKS_TO_WAIT:
        return _Busy(message)
    wait_s = retry_after_s(response.headers.get("Retry-After", ""), datetime.now(UTC))
    if wait_s is not None and wait_s > limits.HTTP_RETRY_AFTER_S:
        limit = f"the limit is {limits.HTTP_RETRY_AFTER_S:.0f} s"
        return _Busy(f"{message}, and it asks to wait {wait_s:.0f} s; {limit}", wait_s)
    return _Busy(message, wait_s)


def _body(
    response: httpx.Response, connections: Connections, url: str, max_bytes: int, on_progress: OnProgress
) -> bytes:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() and len(length) <= _LENGTH_DIGITS else None
    gunzip = _gunzip(response, url)
    body = bytearray()
    for chunk in response.iter_raw():
        connections.check_time()
        body += chunk if gunzip is None else gunzip.unpack(chunk, max_bytes + 1 - len(body))
        if len(body) > max_bytes:
            raise BadRecord("too-large", f"{without_credentials(url)} has over {max_bytes} bytes, the limit")
        on_progress("collect", response.num_bytes_downloaded, total)
    connections.check_time()  # a connection that is shut down looks like the end of a body without a length
    if gunzip is not None and not gunzip.is_complete:
        raise RetryLater(f"the gzip stream was cut off after {response.num_bytes_downloaded} bytes")
    return bytes(body)


def _gunzip(response: httpx.Response, url: str) -> Gunzip | None:
    """What unpacks the body; None: it is not packed."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in _GZIP:
        return Gunzip()
    if coding not in _PLAIN:
        detail = f"{without_credentials(url)} sends Content-Encoding {coding!r:.100}; only {_GZIP[0]} is read"
        raise BadRecord("content-coding", detail)
    return None
