"""What a reading of a feed is compared with: where its events are kept, and what was kept of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.events import Event
from streams.fetchers.base.entries import Entries, Key
from streams.fetchers.base.labels import Techniques


class Published(Protocol):
    """The events of feeds: on the topics (`published_index.py`) or in a folder (`feed_folder.py`)."""

    def entries(self, feed: str) -> Entries:
        """What a feed has published."""

    def dead_letters(self, feed: str) -> Mapping[str, str]:
        """Origin -> digest of a feed's last dead letter from there."""

    def techniques(self) -> Techniques:
        """What was last published of every technique, by any feed."""

    def last_events(self, feed: str, keys: Sequence[Key]) -> Mapping[Key, Event]:
        """Of entities that a feed no longer has: another feed's event if it has it, or else the last own one."""
