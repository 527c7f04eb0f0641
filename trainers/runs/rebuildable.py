"""Until when the versions of a model can be rebuilt, as gauges: from the journal, its retention and its archive."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from schemas.errors import Sx9Error
from trainers import telemetry
from trainers.store.registry import Registry
from transport.archive.horizon import Horizon

log = logging.getLogger(__name__)

REFRESH_S = 600.0
"""Shortest time between two looks, seconds."""


class RebuildableGauges:
    """Keeps the gauges of one model.

    Args:
        model: Name of the model.
        registry: With its versions.
        horizon: Returns the horizon of its journal.
    """

    def __init__(self, model: str, registry: Registry, horizon: Callable[[], Horizon]) -> None:
        self._model = model
        self._registry = registry
        self._horizon = horizon
        self._next_s = 0.0

    def refresh(self) -> None:
        """Set the gauges, not more often than every `REFRESH_S`. What fails is logged and shown as NaN."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + REFRESH_S
        try:
            horizon = self._horizon()
            until_ms = [horizon.of(manifest.decided_at) for manifest in self._registry.versions(self._model)]
        except Sx9Error as error:
            log.warning("until when %s can be rebuilt is not known: %s", self._model, error)
            telemetry.REBUILDABLE_UNTIL.labels(model=self._model).set(math.nan)
            return
        lost = sum(each == 0 for each in until_ms)
        left = [each for each in until_ms if each != 0]
        soonest_ms = math.nan if any(map(math.isnan, left)) else min(left, default=math.inf)
        telemetry.NOT_REBUILDABLE.labels(model=self._model).set(lost)
        telemetry.REBUILDABLE_UNTIL.labels(model=self._model).set(soonest_ms / 1000)
