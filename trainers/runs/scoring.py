"""The champion scores new examples before anyone trains on them, and the scores go into the journal.

    journal copy ──> champion, in a process of its own ──> losses and projections ──> `score` records

Each example is scored at most once, by the champion of its time. The first records of a champion are those of
its holdout, which the fold compares the others with. A process that is killed has written a prefix; the next
one goes on after it, because the journal says how far it came. The process ends when there is nothing more to
score, so an idle trainer stays small.

A failure is logged and counted, and tried again later. It never stops a run: drift is watched, not needed to train.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from schemas.errors import RetryLater, Sx9Error
from schemas.journal import Score
from schemas.topics import JOURNAL, partition_of
from trainers import telemetry
from trainers.core.progress import Cancelled, ProgressCallback
from trainers.runs.execute_scores import MODULE, ScoreRequest
from trainers.runs.failures import failure_of
from trainers.runs.run_process import Scored, follow
from trainers.settings import TrainerSettings
from trainers.store import manifest as manifests
from trainers.store import unscored
from trainers.store.journal_copy import JournalCopy
from trainers.store.journal_reader import Serving
from trainers.store.registry import Registry
from transport.kafka import RecordProducer

log = logging.getLogger(__name__)

REFERENCE = 256
"""Holdout examples that a champion scores first."""
FULL = 512
"""So many examples are scored at once, without waiting for more."""
LIMIT = 2_000
"""Most new examples of one process."""
RETRY_S = 600.0
"""Pause after a failure, seconds."""

Run = Callable[[ScoreRequest, ProgressCallback, Callable[[Scored], None]], None]
"""Scores the examples of a request, here or in another process."""


def score_in_process(
    request: ScoreRequest, on_progress: ProgressCallback, on_scored: Callable[[Scored], None]
) -> None:
    """Score in a process of its own; see `trainers.runs.run_process.follow`."""
    follow(MODULE, request, on_progress, on_scored)


class Scoring:
    """Scores the new examples of one model. One thread at a time may use it.

    Args:
        model: Name of the model.
        settings: Of the trainer.
        registry: Has the champion.
        journal: Copy of the journal of the model.
        producer: Sends journal records.
        run: Scores the examples of a request.
    """

    def __init__(
        self,
        model: str,
        settings: TrainerSettings,
        registry: Registry,
        journal: JournalCopy,
        producer: RecordProducer,
        run: Run = score_in_process,
    ) -> None:
        self._model = model
        self._settings = settings
        self._registry = registry
        self._journal = journal
        self._producer = producer
        self._run = run
        self._done_until = 0
        self._waiting = 0
        self._look_s = 0.0

    def is_due(self) -> bool:
        """Whether examples wait, and no more have come for an interval. It looks once in an interval."""
        now_s = time.monotonic()
        if not self._settings.score_interval_s or now_s < self._look_s:
            return False
        self._look_s = now_s + self._settings.score_interval_s
        before = self._waiting
        try:
            self._waiting = self._count()
        except RetryLater:
            return False
        except Sx9Error as error:
            self._failed(error)
            return False
        return self._waiting >= FULL or 0 < self._waiting == before

    def score(self, on_progress: ProgressCallback, end: int | None = None) -> None:
        """Score what was not scored yet, and write it to the journal. A failure is logged, and not raised.

        Args:
            on_progress: Called after every example, and in between. An exception that it raises ends the work.
            end: A journal offset: later examples are left; None: all are scored that are there now.

        Raises:
            Cancelled: `on_progress` raised it.
        """
        self._waiting = 0
        try:
            while self._score_some(on_progress, end):
                pass
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001  scoring must not stop the training
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        failure = failure_of(error)
        telemetry.SCORING_FAILURES.labels(model=self._model, error=failure.error).inc()
        self._look_s = time.monotonic() + RETRY_S
        log.error("%s: new examples could not be scored: %s; next attempt in 10 min", self._model, failure)

    def _count(self) -> int:
        """How many examples wait."""
        every, serving = self._champion()
        if serving is None:
            return 0
        return unscored.count_to_score(self._journal, self._start(serving), every)

    def _score_some(self, on_progress: ProgressCallback, end: int | None) -> bool:
        """Score at most `LIMIT` new examples. Whether there may be more."""
        every, serving = self._champion()
        if serving is None:
            return False
        start = self._start(serving)
        end = self._journal.next_offset if end is None else end
        new = unscored.to_score(self._journal, start, end, every, LIMIT)
        if not new:
            self._done_until = max(self._done_until, end)
            return False
        reference_start = unscored.reference_end(self._journal, serving.version, serving.offset)
        request = ScoreRequest(
            model=self._model,
            version=serving.version,
            folder=str(self._registry.folder(self._model, serving.version)),
            cache_dir=str(self._settings.cache_dir),
            journal_copy=str(self._journal.path),
            start=start,
            end=new[-1][0] + 1,
            every=every,
            limit=LIMIT,
            reference=0 if reference_start is None else REFERENCE,
            reference_start=reference_start or 0,
            log_level=logging.getLogger().getEffectiveLevel(),
        )
        self._run(request, on_progress, lambda scored: self._write(serving.version, scored))
        self._done_until = request.end
        log.info("%s: %s scored %d new examples", self._model, serving.version, len(new))
        return len(new) == LIMIT

    def _champion(self) -> tuple[int, Serving | None]:
        """One new example in how many is scored, and by which version; None: none is scored now."""
        self._journal.catch_up()
        every, serving = unscored.score_every(self._journal), self._journal.serving()
        can_score = every and serving and self._registry.has(self._model, serving.version)
        return every, serving if can_score else None

    def _start(self, serving: Serving) -> int:
        """The offset of the first example that no champion scored or trained on."""
        manifest = manifests.read(self._registry.folder(self._model, serving.version))
        learnt = manifest.spans[-1].end if manifest.spans else serving.offset
        return max(learnt, unscored.scored_end(self._journal), self._done_until)

    def _write(self, version: str, scored: Scored) -> None:
        record = Score(
            trigger="",
            version=version,
            examples=len(scored.each),
            time_ms=int(time.time() * 1000),
            each=scored.each,
            reference=scored.reference,
        )
        self._producer.send(JOURNAL.name, record, key=self._model, partition=partition_of(self._model))
        self._producer.flush()
        if not scored.reference:
            telemetry.EXAMPLES_SCORED.labels(model=self._model).inc(len(scored.each))
