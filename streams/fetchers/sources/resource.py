"""A collection of one file with many events, from HTTP, TAXII, a path or a package; read only if it changed.

URL      ──GET with ETag and date──> bytes, or nothing new
taxii+   ──what was added──> the collection as a bundle, or nothing new
path     ──the file, or the feed's file in a folder──> bytes    ──hash as before?──> parse ──> batch
package  ──the feed's file in it──> bytes
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from schemas.errors import BadRecord
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedState, OnProgress, Outcome, unusable_source
from streams.fetchers.sources import taxii
from streams.fetchers.sources.folder import read_file
from streams.fetchers.sources.http import Download, authorization, download, is_url, without_credentials
from streams.fetchers.sources.package import PREFIX, PackageFile, find_in_package, is_package


class ParsedResource(msgspec.Struct, frozen=True):
    """The content of a file.

    Attributes:
        release: Its release.
        outcomes: Its events, rejected and left-out items, in the order in which to publish them.
        is_complete: Whether it is all that there is of the feed; see `Batch.is_complete`.
    """

    release: str
    outcomes: Sequence[Outcome]
    is_complete: bool = False


def file_named(*paths: str) -> Callable[[Path], Path]:
    """Finds a feed's file in a folder: the first of these paths that is there, or else the first.

    Args:
        paths: Relative to the folder, with `/`.
    """

    def find(folder: Path) -> Path:
        found = [folder / path for path in paths]
        return next((path for path in found if path.is_file()), found[0])

    return find


def taxii_mirror(cache_dir: Path, feed: str) -> Path:
    """Where the TAXII collection of a feed is kept."""
    return cache_dir / "feeds" / feed / "collection.json"


@dataclass(frozen=True)
class Resource:
    """How a feed that is one file is collected and parsed.

    Attributes:
        file_in: The feed's file in a folder; called only with folders.
        parse: (bytes, file name, feed) -> events and rejected items. Pure. It raises `BadRecord` if the file as a
            whole can't be used.
        packages: Name of a package -> the feed's file in it.
        key: `user:password`, or a token, for HTTP; empty: none.
    """

    file_in: Callable[[Path], Path]
    parse: Callable[[bytes, str, str], ParsedResource]
    packages: Mapping[str, PackageFile] = field(default_factory=dict)
    key: str = field(default="", repr=False)

    def read(self, feed: str, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """Read the file; see `Collection.read`."""
        origin = f"{feed}:{without_credentials(source)}"
        try:
            file = self._collect(source, state, taxii_mirror(cache_dir, feed), on_progress)
        except BadRecord as error:
            return unusable_source(origin, error, b"")
        if file is None:
            return Batch(state.release, None, state)
        digest = hashlib.blake2b(file.data, digest_size=16).hexdigest()
        now = msgspec.structs.replace(state, etag=file.etag, last_modified=file.last_modified, digest=digest)
        if digest == state.digest:
            return Batch(state.release, None, now)
        on_progress("parse", 0, None)
        try:
            parsed = self.parse(file.data, file.name, feed)
        except BadRecord as error:
            return unusable_source(origin, error, file.data)
        state = msgspec.structs.replace(now, release=parsed.release)
        return Batch(parsed.release, parsed.outcomes, state, is_complete=parsed.is_complete)

    def _collect(self, source: str, state: FeedState, mirror: Path, on_progress: OnProgress) -> Download | None:
        """The file; None if the server says that it did not change."""
        if taxii.is_taxii(source):
            return taxii.collect(source, mirror, state.etag, self.key, on_progress)
        if is_package(source):
            path, name = find_in_package(source, self.packages)
            return Download(read_file(path, limits.MAX_RESOURCE_BYTES), name)
        if is_url(source):
            return download(
                source,
                etag=state.etag,
                last_modified=state.last_modified,
                max_bytes=limits.MAX_RESOURCE_BYTES,
                on_progress=on_progress,
                remedy=self._offline_remedy(),
                headers=authorization(self.key),
            )
        path = Path(source)
        path = self.file_in(path) if path.is_dir() else path
        return Download(read_file(path, limits.MAX_RESOURCE_BYTES), path.name)

    def _offline_remedy(self) -> str:
        found = next(iter(self.packages.items()), None)
        return f"without a network, `--source {PREFIX}{found[0]}` has {found[1].name}" if found else ""
