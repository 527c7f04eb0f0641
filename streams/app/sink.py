"""What agents and the bulk path share: a message, and the seam through which both hand messages on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

Place = tuple[str, int]
"""Topic and partition."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as it came: `timestamp_ms` is the broker's, `observed` the CloudEvents time as written."""

    topic: str
    partition: int
    offset: int
    value: bytes
    timestamp_ms: int
    observed: bytes = b""


class Sink(Protocol):
    """Somewhere that messages have an effect."""

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """For each place the offset from which messages have had no effect yet, as the results themselves say."""

    def take(self, messages: Sequence[Message]) -> None:
        """Give messages their effect, durably, before returning; a message taken before changes nothing.

        Raises:
            RetryLater: Something did not answer; take the same messages again.
        """
