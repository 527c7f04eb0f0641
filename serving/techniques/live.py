"""The techniques of texts, from an index that is made again when examples come in.

refresh (one thread): topics ──> ExampleStore ──changed──> TechniqueIndex, threshold ──swap──┐
answers (any thread):                                                          said, severity┘
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from schemas.severity import StatedSeverity, cves_in, stated_severity
from serving.classify import SaidTechnique, said_techniques
from serving.techniques.index import TechniqueIndex, Threshold, calibrate
from serving.techniques.store import ExampleStore
from transport.partition_log import PartitionLog

log = logging.getLogger(__name__)

REBUILD_S = 60.0
"""Seconds from one index to the next, at least: an import of many examples is not indexed again and again."""


@dataclass(frozen=True)
class _Current:
    index: TechniqueIndex
    names: dict[str, str]
    threshold: Threshold


class LiveTechniques:
    """Says which techniques sentences have, by the examples that are known now.

    Args:
        store: Its examples; from now on only this object may use it.
        clock: Returns seconds that never go back.
    """

    def __init__(self, store: ExampleStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._store_lock = threading.Lock()
        self._clock = clock
        self._current: _Current | None = None
        self._is_stale = True
        self._made_s = -REBUILD_S

    @property
    def threshold(self) -> Threshold | None:
        """From which score a technique is said, and how often that is right; None: no example is known."""
        current = self._current
        return current.threshold if current else None

    def refresh(self, logs: Iterable[PartitionLog]) -> None:
        """Read what is new in the topics, and make the index again if that changes it and `REBUILD_S` have passed.

        Args:
            logs: See `ExampleStore.catch_up`.

        Raises:
            RetryLater, Corrupt: See `ExampleStore.catch_up`.
        """
        with self._store_lock:
            self._is_stale |= self._store.catch_up(logs) > 0
            if not self._is_stale or self._clock() - self._made_s < REBUILD_S:
                return
            examples = self._store.examples()
        index = TechniqueIndex(examples) if examples else None
        self._current = _Current(index, index.techniques, calibrate(examples)) if index else None
        self._made_s, self._is_stale = self._clock(), False
        log.info("techniques: an index of %d examples", len(examples))

    def said(self, texts: Sequence[str]) -> list[tuple[SaidTechnique, ...]]:
        """The techniques of each sentence: those that it states, then those of its nearest examples."""
        current = self._current
        if current is None:
            return [()] * len(texts)
        said = []
        for text, near in zip(texts, current.index.nearest(texts, k=3), strict=True):
            said.append(said_techniques(text, near, current.names, current.threshold))
        return said

    def severity(self, text: str) -> StatedSeverity | None:
        """The severity that a text states, or that feeds give the CVEs in it; None: neither."""
        cves = cves_in(text)
        with self._store_lock:
            known = self._store.severities(cves)
        return stated_severity(text, known)

    def close(self) -> None:
        """Close the store."""
        with self._store_lock:
            self._store.close()
