"""What a feed is: a name, a default source, the topics it fills, and how a source is read into a batch.

FeedSpec(name, default_source, topics, collection, modules)
                                           │
    FileTree: a git repository or a folder, some events per file       streams/fetchers/sources/file_tree.py
    Resource: one file from HTTP, disk or a package, with many events  streams/fetchers/sources/resource.py
                                           │
                  Batch: outcomes (events, rejected items, unchanged files) and the new feed state
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from schemas.dead_letters import MAX_TEXT_CHARS, rejection_digest
from schemas.encoding import EncodedEvent
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import MAX_PAYLOAD_BYTES
from schemas.topics import Topic

OnProgress = Callable[[str, int, int | None], None]
"""Progress callback: the stage, how much of it is done, and the total (None: unknown)."""


class RejectedItem(msgspec.Struct, frozen=True):
    """An item of a feed that can't be used; made by `rejected_item`.

    Attributes:
        origin: Where it was: `feed:file` or `feed:object`.
        error: Why it can't be used.
        payload: Its first `MAX_PAYLOAD_BYTES` bytes, as they came: what the dead letter keeps.
        payload_bytes: Its full size.
        digest: 32 hex digits, equal for the same bytes rejected at the same origin for the same reason.
    """

    origin: str
    error: BadRecord
    payload: bytes
    payload_bytes: int
    digest: str


def rejected_item(origin: str, error: BadRecord, payload: bytes | memoryview) -> RejectedItem:
    """An item that can't be used, with all of its bytes; no more of them are kept than its dead letter needs."""
    origin = origin[:MAX_TEXT_CHARS]
    digest = rejection_digest(origin, error.reason, payload)
    return RejectedItem(origin, error, bytes(payload[:MAX_PAYLOAD_BYTES]), len(payload), digest)


class LeftOut(msgspec.Struct, frozen=True):
    """An item that does not belong to the feed, or no longer counts: counted by its reason, but no dead letter.

    Attributes:
        origin: Where it was, as for `RejectedItem`.
        reason: A short word from a small set, such as `other-domain`.
    """

    origin: str
    reason: str


class UnchangedFile(msgspec.Struct, frozen=True):
    """A file, or one of its events, that was not parsed again, because the content of the file is known.

    Attributes:
        id: Id of the event; empty if the file has none.
        reason: Why it is rejected; empty: it is not.
        origin: Where it is, as for `RejectedItem`; empty if it is not rejected.
    """

    id: str
    reason: str = ""
    origin: str = ""


Outcome = EncodedEvent | RejectedItem | LeftOut | UnchangedFile


class KnownFile(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a file.

    Attributes:
        oid: Hash of its content.
        ids: Ids of its events.
        duplicates: Ids that it has, too, but that another file, or an earlier part of it, had before.
        reason: Why the file was rejected or left out as a whole; empty: it was not.
    """

    oid: str
    ids: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    reason: str = ""


class FeedState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a feed remembers from one complete run to the next.

    Attributes:
        source: The source it is about; another source starts with an empty state.
        release: Release of the content, or its commit.
        etag, last_modified: The HTTP validators of the server.
        digest: Hash of the whole content.
        files: Path -> what is remembered of the file, for feeds of many files.
        techniques: Digest of the techniques whose tactics the events have.
        set_aside: Origins of the events whose own tactics are set aside, see `labels.py`.
    """

    source: str = ""
    release: str = ""
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    files: dict[str, KnownFile] = {}
    techniques: str = ""
    set_aside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """The result of reading a source once.

    Attributes:
        release: Release of the content, or a commit; empty where the source has none.
        outcomes: In the order in which to publish them; None: nothing changed since the last state.
        state: The feed state for the next run.
        source_error: Why the source as a whole can't be used; None: it can. `outcomes` then holds one item, which
            becomes the dead letter.
        is_complete: Whether the outcomes are all that there is of the feed, as in a full release or a commit, so
            that what is not among them is no longer there.
        gone: If they are not: ids of events that this source had in its last complete run and no longer has.
    """

    release: str
    outcomes: Sequence[Outcome] | None
    state: FeedState
    source_error: BadRecord | None = None
    is_complete: bool = False
    gone: frozenset[str] = frozenset()

    @property
    def has_events(self) -> bool:
        """Whether there is any event in the source."""
        found = self.outcomes or ()
        return any(isinstance(o, EncodedEvent) or (isinstance(o, UnchangedFile) and not o.reason) for o in found)


class Collection(Protocol):
    """A way to read a source into a batch."""

    def read(self, feed: str, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """Read a source.

        Args:
            feed: Name of the feed.
            source: A URL, a path or a package.
            state: Of the last complete run on this source; empty: read everything.
            cache_dir: Where mirrors are kept.
            on_progress: Called with the stages `collect` and `parse`.

        Raises:
            BadConfiguration: There is no such source.
            RetryLater: It can't be reached.
        """


@dataclass(frozen=True)
class FeedSpec:
    """A feed.

    Attributes:
        name: Its name, also in `SX9_FEEDS`, in every event and in the CloudEvents `source`.
        default_source: Where it is read from if nothing else is given; empty: it has no place of its own.
        topics: The topics it fills; the events of a `FileTree` are on the first.
        collection: How a source is read: which files, and how an item becomes events.
        modules: Dotted names of the modules with the code that makes its events: the feed's own module and its
            formats. If one of them changes, the feed is read anew.
        about: What it is, in a few words.
        teaches: Models that learn from its events; none: what it says is only looked up, in the graph.
        labels_by_technique: Whether its events name techniques: they are told in the words of ATT&CK as it is
            published now, see `labels.py`.
        key_from: Where its key comes from, if it can't be fetched without one; empty: it can.
    """

    name: str
    default_source: str
    topics: tuple[Topic, ...]
    collection: Collection
    modules: tuple[str, ...]
    about: str = ""
    teaches: tuple[str, ...] = ()
    labels_by_technique: bool = False
    key_from: str = ""

    def with_key(self, key: str) -> FeedSpec:
        """The feed as it is read with a key: `user:password`, or a token.

        Raises:
            BadConfiguration: It takes none.
        """
        collection: Any = self.collection
        if not hasattr(collection, "key"):
            raise BadConfiguration(f"{self.name} takes no key: take {self.name}=... out of SX9_FEED_KEYS")
        return dataclasses.replace(self, collection=dataclasses.replace(collection, key=key))

    def read(self, source: str, state: FeedState, cache_dir: Path, on_progress: OnProgress) -> Batch:
        """Read a source; see `Collection.read`."""
        return self.collection.read(self.name, source, state, cache_dir, on_progress)


def unusable_source(origin: str, error: BadRecord, payload: bytes) -> Batch:
    """The batch of a source that can't be used as a whole.

    Args:
        origin: `feed:source`.
        error: Why it can't be used.
        payload: Its bytes, as far as they were read.
    """
    return Batch(
        release="", outcomes=[rejected_item(origin, error, payload)], state=FeedState(), source_error=error
    )


def no_progress(_stage: str, _done: int, _total: int | None) -> None:
    """A progress callback that does nothing."""
