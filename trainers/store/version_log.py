"""The version events that `model.versions.v1` already holds, so that none is sent twice."""

from __future__ import annotations

from collections import Counter

from schemas.versions import VersionEvent
from transport.partition_log import PartitionLog
from transport.records import decoded


class VersionLog:
    """The version events read so far.

    Args:
        partitions: All partitions of `model.versions.v1`. The events of a model are in one of them.

    Attributes:
        ids: `VersionEvent.id` of each event.
        promoted: Model -> its latest promotion or rollback.
        trained: Model -> the event of its latest version, with the scores.
        refused: Model -> its latest refusal.
        refusals: Model -> how many refusals there were since its latest promotion.
    """

    def __init__(self, *partitions: PartitionLog) -> None:
        self._partitions = partitions
        self._next = [0] * len(partitions)
        self.ids: set[str] = set()
        self.promoted: dict[str, VersionEvent] = {}
        self.trained: dict[str, VersionEvent] = {}
        self.refused: dict[str, VersionEvent] = {}
        self.refusals: Counter[str] = Counter()

    def catch_up(self) -> None:
        """Read the events since the last call. See `transport.records.decoded`.

        Raises:
            RetryLater: The broker does not answer.
        """
        for index, log in enumerate(self._partitions):
            for messages in log.read(self._next[index], log.end()):
                for _, event in decoded(messages, VersionEvent, log.topic, log.partition):
                    if event.id in self.ids:
                        continue
                    self.ids.add(event.id)
                    if event.outcome in ("promoted", "rolled-back"):
                        self.promoted[event.model] = event
                        self.refusals[event.model] = 0
                    elif event.outcome == "refused":
                        self.refused[event.model] = event
                        self.refusals[event.model] += 1
                    elif event.outcome == "trained":
                        self.trained[event.model] = event
                self._next[index] = messages[-1].offset + 1
