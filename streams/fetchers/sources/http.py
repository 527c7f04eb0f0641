"""Downloads one file over HTTP: only if it changed, within a size limit, with retries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from schemas.errors import BadConfiguration, BadRecord, RetryLater
from streams.fetchers.base import limits
from streams.fetchers.base.feed import OnProgress

_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_UNCHANGED, _OK = 304, 200
_CHUNK = 1024 * 1024


class Download(NamedTuple):
    """The bytes of a file, its name, and the HTTP validators of this version of it."""

    data: bytes
    name: str
    etag: str = ""
    last_modified: str = ""


def is_url(source: str) -> bool:
    """Whether a source is fetched over HTTP."""
    return source.lower().startswith(("https://", "http://"))


def without_credentials(source: str) -> str:
    """A source without user, password and query, for messages, records and files.

    >>> without_credentials("https://me:secret@feeds.example/a.json?token=x")
    'https://feeds.example/a.json'
    """
    if "://" not in source:
        return source
    parts = urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def download(
    url: str,
    *,
    etag: str = "",
    last_modified: str = "",
    max_bytes: int,
    on_progress: OnProgress,
    remedy: str = "",
    pause_s: float = 1.0,
) -> Download | None:
    """Download a file.

    Args:
        url: The address.
        etag, last_modified: Of the previous download; empty: download in any case.
        max_bytes: Size of the unpacked body, at most.
        on_progress: Called with the stage `collect`.
        remedy: What the user can do instead, for the error message.
        pause_s: Wait before the second attempt, seconds; twice that before the third.

    Returns:
        The file; None if the server says that it did not change.

    Raises:
        BadConfiguration: The address is wrong, or the server refuses it.
        BadRecord: `too-large`.
        RetryLater: The server can't be reached or is busy, `limits.HTTP_ATTEMPTS` times.
    """
    conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    headers = {name: value for name, value in conditions.items() if value}
    last_error = ""
    for attempt in range(limits.HTTP_ATTEMPTS):
        time.sleep(pause_s * attempt)
        try:
            return _get(url, headers, max_bytes, on_progress)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
            raise BadConfiguration(f"{without_credentials(url)}: {error}; check the address") from error
        except (httpx.RequestError, RetryLater) as error:
            last_error = str(error) or type(error).__name__
    remedies = "; ".join(filter(None, ("try again", remedy)))
    attempts = f"{limits.HTTP_ATTEMPTS} attempts ({last_error})"
    raise RetryLater(f"{without_credentials(url)} did not answer in {attempts}: {remedies}")


def _get(url: str, headers: Mapping[str, str], max_bytes: int, on_progress: OnProgress) -> Download | None:
    request = httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=limits.HTTP_TIMEOUT_S)
    with request as response:
        if response.status_code == _UNCHANGED:
            return None
        if response.status_code in _BUSY:
            raise RetryLater(f"status {response.status_code}")
        if response.status_code != _OK:
            raise BadConfiguration(f"{without_credentials(url)} answered {response.status_code}: check the address")
        data = _body(response, url, max_bytes, on_progress)
        name = urlsplit(url).path.rpartition("/")[2]
        return Download(data, name, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))


def _body(response: httpx.Response, url: str, max_bytes: int, on_progress: OnProgress) -> bytes:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    deadline = time.monotonic() + limits.HTTP_TOTAL_S
    body = bytearray()
    for chunk in response.iter_bytes(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise BadRecord("too-large", f"{without_credentials(url)} has over {max_bytes} bytes, the limit")
        if time.monotonic() > deadline:
            raise RetryLater(f"not done after {limits.HTTP_TOTAL_S:.0f} s")
        on_progress("collect", response.num_bytes_downloaded, total)
    return bytes(body)
