"""What `model.versions.v1` says already, so that nothing is announced twice."""

from __future__ import annotations

import logging

from schemas.codec import decode
from schemas.errors import BadRecord
from schemas.versions import VersionEvent
from transport.partition_log import PartitionLog

log = logging.getLogger(__name__)


class VersionLog:
    """The announcements read so far.

    Args:
        versions: The one partition of `model.versions.v1`.

    Attributes:
        ids: `VersionEvent.id` of all of them.
        promoted: Model -> its latest promotion.
    """

    def __init__(self, versions: PartitionLog) -> None:
        self._versions = versions
        self._next = 0
        self.ids: set[str] = set()
        self.promoted: dict[str, VersionEvent] = {}

    def catch_up(self) -> None:
        """Read what is new.

        Raises:
            RetryLater: The broker does not answer.
        """
        for messages in self._versions.read(self._next, self._versions.end()):
            for message in messages:
                self._next = message.offset + 1
                try:
                    event: VersionEvent = decode(message.value, VersionEvent)
                except BadRecord as error:
                    log.warning("passing over an announcement at offset %d: %s", message.offset, error)
                    continue
                self.ids.add(event.id)
                if event.outcome == "promoted":
                    self.promoted[event.model] = event
