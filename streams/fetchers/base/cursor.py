"""The cursor of a feed: its state after the last complete run, in a small file.

The file is valid for the code that made it and for the topics that the run published to. If it is lost, damaged or
not valid, the whole source is read again and compared with what is published.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from streams.fetchers.base.code_digest import code_digest
from streams.fetchers.base.feed import FeedSpec, FeedState
from streams.fetchers.base.positions import Positions, TopicPosition, is_before
from streams.fetchers.sources.http import without_credentials
from transport.files import write_atomically

log = logging.getLogger(__name__)

_CONTRACT = (
    "schemas.events", "schemas.encoding", "schemas.ids", "schemas.limits", "schemas.successors",
    "streams.fetchers.base.limits", "streams.fetchers.base.withdrawals", "streams.fetchers.base.labels",
)  # fmt: skip
"""What the events of every feed depend on; and what is withdrawn."""


class LastCounts(msgspec.Struct, frozen=True):
    """The counts of the last complete run, which still hold if the source did not change; see `diff.Plan`."""

    counts: dict[str, int]
    rejected: dict[str, int]


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a feed after a complete run; this is the cursor file.

    Attributes:
        feed: Name of the feed.
        code: Digest of the code that makes the events of the feed.
        positions: Topic -> where it ended after the run.
        state: The feed state.
        last_counts: None: there was no complete run.
    """

    feed: str
    code: str
    positions: dict[str, TopicPosition] = {}
    state: FeedState = FeedState()
    last_counts: LastCounts | None = None

    def state_for(self, source: str) -> FeedState:
        """The feed state if the last complete run read this source, else an empty one."""
        is_same = self.last_counts is not None and self.state.source == without_credentials(source)
        return self.state if is_same else FeedState()


def feed_code(spec: FeedSpec) -> str:
    """Digest of the code that makes the events of a feed: its modules, its kind of collection, contract, limits."""
    return code_digest((*spec.modules, type(spec.collection).__module__, *_CONTRACT))


def load_cursor(path: Path, spec: FeedSpec, ends: Positions) -> Cursor:
    """Read the cursor file.

    Args:
        path: The file.
        spec: The feed.
        ends: Topic -> where it ends now.

    Returns:
        The cursor; an empty one if the file is missing, damaged, made by other code or for other topics.
    """
    empty = Cursor(feed=spec.name, code=feed_code(spec))
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Cursor)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return empty
    if (found.feed, found.code) != (empty.feed, empty.code):
        return empty
    if not all(is_before(position, ends.get(topic)) for topic, position in found.positions.items()):
        log.warning("%s: the cursor is for other topics than those of today: the feed is read anew", spec.name)
        return empty
    return found


def save_cursor(
    path: Path, spec: FeedSpec, source: str, positions: Positions, state: FeedState, last_counts: LastCounts
) -> None:
    """Write the cursor file; a process that dies while writing leaves the old one.

    Args:
        path: The file.
        spec: The feed.
        source: Where it was read from; credentials are not written.
        positions: Topic -> where it ended after the run.
        state: The feed state after the run.
        last_counts: The counts of the run.
    """
    cursor = Cursor(
        feed=spec.name,
        code=feed_code(spec),
        positions=dict(positions),
        state=msgspec.structs.replace(state, source=without_credentials(source)),
        last_counts=last_counts,
    )
    write_atomically(path, msgspec.json.encode(cursor))
