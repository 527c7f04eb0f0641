"""How each feed stands: one small file per feed in the state folder, for `sx9 status` and for people.

result of a fetch ──after_fetch (pure)──> FeedStatus ──write──> <state>/feeds/<feed>.json ──read_all──> sx9 status
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from transport.files import write_atomically

log = logging.getLogger(__name__)

_ERROR_CHARS = 500


class FeedStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a feed stands.

    Attributes:
        feed: Its name.
        release: What was read last.
        last_success_ms: When a fetch was last complete, ms since 1970 UTC; 0: never.
        new, edited: Events that this fetch published: unknown before; all others, withdrawals included.
        rejected: Items that could not be used in it.
        failures: Fetches that have failed since.
        error: Of the last of these.
        next_ms: When it is fetched next; 0: nothing is planned.
    """

    feed: str
    release: str = ""
    last_success_ms: int = 0
    new: int = 0
    edited: int = 0
    rejected: int = 0
    failures: int = 0
    error: str = ""
    next_ms: int = 0


def after_failure(before: FeedStatus, error: str) -> FeedStatus:
    """The status after a fetch that failed; what is known of the last good one stays."""
    return msgspec.structs.replace(before, failures=before.failures + 1, error=error[:_ERROR_CHARS])


def read_status(folder: Path, feed: str) -> FeedStatus:
    """The status of a feed; an empty one if it was never fetched, or the file is damaged.

    Args:
        folder: With one file per feed.
        feed: Name of the feed.
    """
    path = folder / f"{feed}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=FeedStatus)
    except FileNotFoundError:
        return FeedStatus(feed=feed)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s can't be read (%s): the next fetch writes it anew", path, error)
        return FeedStatus(feed=feed)


def write_status(folder: Path, status: FeedStatus) -> None:
    """Write the file of a feed."""
    write_atomically(folder / f"{status.feed}.json", msgspec.json.encode(status))


def read_all(folder: Path) -> list[FeedStatus]:
    """The status of every feed that was ever fetched, by name."""
    return [read_status(folder, path.stem) for path in sorted(folder.glob("*.json"))]
