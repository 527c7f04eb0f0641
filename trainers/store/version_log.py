"""The version events that `model.versions.v1` already holds, so that none is sent twice."""

from __future__ import annotations

from schemas.versions import VersionEvent
from transport.partition_log import PartitionLog
from transport.records import decoded


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
        """Read the events since the last call. See `transport.records.decoded`.

        Raises:
            RetryLater: The broker does not answer.
        """
        log = self._versions
        for messages in log.read(self._next, log.end()):
            for _, event in decoded(messages, VersionEvent, log.topic, log.partition):
                self.ids.add(event.id)
                if event.outcome == "promoted":
                    self.promoted[event.model] = event
            self._next = messages[-1].offset + 1
