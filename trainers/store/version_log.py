"""The version events that `model.versions.v1` already holds, so that none is sent twice."""

from __future__ import annotations

import logging

from schemas.codec import decode
from schemas.errors import BadRecord
from schemas.versions import VersionEvent
from transport.partition_log import PartitionLog

log = logging.getLogger(__name__)


class VersionLog:
    """The version events read so far.

    Args:
        versions: The only partition of `model.versions.v1`.

    Attributes:
        ids: `VersionEvent.id` of each event.
        promoted: Model -> its latest promotion.
    """

    def __init__(self, versions: PartitionLog) -> None:
        self._versions = versions
        self._next = 0
        self.ids: set[str] = set()
        self.promoted: dict[str, VersionEvent] = {}

    def catch_up(self) -> None:
        """Read the events since the last call. An event that cannot be decoded is skipped with a warning.

        Raises:
            RetryLater: The broker does not answer.
        """
        for messages in self._versions.read(self._next, self._versions.end()):
            for message in messages:
                self._next = message.offset + 1
                try:
                    event: VersionEvent = decode(message.value, VersionEvent)
                except BadRecord as error:
                    log.warning("skipping the version event at offset %d: %s", message.offset, error)
                    continue
                self.ids.add(event.id)
                if event.outcome == "promoted":
                    self.promoted[event.model] = event
