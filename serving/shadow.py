"""Shadow mode: the newest version that does not serve answers too, unseen, and the agreement is counted.

    an answer ──> is the batch thread free? ──> the candidate answers the same ──> sx9_serving_shadow_answers_total

It costs a second computation of what it looks at, and only where nothing else waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.errors import Sx9Error
from serving import telemetry
from serving.predictors import LoadedVersion
from serving.served import ServedModels

if TYPE_CHECKING:
    from trainers.models.distilbert.predict import TextPrediction

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""Seconds between two looks for a newer candidate."""


class Shadow:
    """Compares the classifier that serves with the newest version after it.

    Args:
        served: Has both; the candidate is one of its pinned versions.
        model: A model whose predictions are `TextPrediction`s.
    """

    def __init__(self, served: ServedModels, model: str) -> None:
        self._served = served
        self._model = model
        self._name = ""
        self._looked_s = -LOOK_S
        self._tasks: set[asyncio.Task[None]] = set()

    def look_at(self, version: LoadedVersion, queries: Sequence[str], answers: Sequence[TextPrediction]) -> None:
        """Ask the candidate the same in the background, unless somebody waits or it is being asked already.

        Args:
            version: That has answered.
            queries: What it was asked.
            answers: What it said.
        """
        if self._tasks or self._served.batchers[self._model].waiting or version is not self._current():
            return
        task = asyncio.get_running_loop().create_task(self._compare(version, queries, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _current(self) -> LoadedVersion | None:
        return self._served.current(self._model)

    async def _compare(
        self, version: LoadedVersion, queries: Sequence[str], answers: Sequence[TextPrediction]
    ) -> None:
        try:
            if time.monotonic() - self._looked_s >= LOOK_S:
                self._looked_s = time.monotonic()
                self._name = await asyncio.to_thread(self._newest)
            if self._name <= version.version:
                return
            candidate = await asyncio.to_thread(self._served.get, self._model, self._name)
            found = await self._served.batchers[self._model].submit(candidate, queries)
        except Sx9Error as error:
            log.warning("shadow: %s", error)
            return
        for said, other in zip(answers, found.predictions, strict=True):
            agreed = said.predicted_tactics == other.predicted_tactics and said.severity == other.severity
            telemetry.AGREEMENT.labels(model=self._model, agreed="yes" if agreed else "no").inc()

    def _newest(self) -> str:
        manifests = self._served.registry.versions(self._model)
        return manifests[-1].version if manifests else ""
