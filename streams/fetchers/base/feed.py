"""What every feed is: a source that is read into a batch of outcomes, knowing what it saw last time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.codec import encode
from schemas.errors import BadRecord
from schemas.events import MAX_EVENT_BYTES, Event
from schemas.topics import Topic

OnProgress = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and of how much (None: not known)."""


class Rejected(msgspec.Struct, frozen=True):
    """Something in a feed that can't be used: where it stood, why not, and the bytes as they came."""

    origin: str
    error: BadRecord
    payload: bytes

    @property
    def digest(self) -> str:
        """32 hex digits, equal for the same bytes rejected at the same place for the same reason."""
        parts = (self.origin.encode(), self.error.reason.encode(), self.payload)
        state = hashlib.blake2b(digest_size=16)
        for part in parts:
            state.update(len(part).to_bytes(8, "big") + part)
        return state.hexdigest()


class Unchanged(msgspec.Struct, frozen=True):
    """A file that was not read again: its event, or the reason for which it is still rejected."""

    id: str
    reason: str = ""


Outcome = Event | Rejected | Unchanged


class KnownFile(msgspec.Struct, frozen=True, array_like=True):
    """What a file of a mirror was: hash of its bytes, id of its event, reason of its rejection."""

    oid: str
    id: str
    reason: str = ""


class FeedState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a feed wants to know again at its next run.

    Attributes:
        source: Where it was read from; the rest says nothing about another source.
        release: Release of the content.
        etag, last_modified: What the server called it.
        digest: Hash of the whole content, or the commit.
        files: Path -> what that file was, for feeds of many files.
    """

    source: str = ""
    release: str = ""
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    files: dict[str, KnownFile] = {}


@dataclass(frozen=True)
class Batch:
    """What one reading of a source gave.

    Attributes:
        release: Release of the content, or a commit; empty where the source has none.
        outcomes: In the order to publish them; None: nothing changed since the memo.
        memo: For the next run.
        refused: The source as a whole can't be used; `outcomes` then holds its one dead letter.
    """

    release: str
    outcomes: Sequence[Outcome] | None
    memo: FeedState
    refused: BadRecord | None = None


Read = Callable[[str, FeedState, Path, OnProgress], Batch]
"""(source, memo, cache folder, progress) -> batch."""


@dataclass(frozen=True)
class Feed:
    """One feed: its name, where it is by default, the topics it fills, and how it is read."""

    name: str
    default_source: str
    topics: tuple[Topic, ...]
    read: Read


def fitting(event: Event) -> Event:
    """The event itself.

    Raises:
        BadRecord: `too-large`: encoded it is longer than `MAX_EVENT_BYTES`.
    """
    size = len(encode(event))
    if size > MAX_EVENT_BYTES:
        raise BadRecord("too-large", f"the event has {size} bytes; the limit is {MAX_EVENT_BYTES}")
    return event


def refusal(origin: str, error: BadRecord, payload: bytes) -> Batch:
    """The batch of a source that can't be used at all."""
    return Batch(release="", outcomes=[Rejected(origin, error, payload)], memo=FeedState(), refused=error)
