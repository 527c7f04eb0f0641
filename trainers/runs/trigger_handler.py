"""One trigger in, one answer out: a new version that serves from then on, or a refusal with its reason.

    1 read     the journal and the version events; nothing to do if the trigger is answered there. The champion
               scores the new examples of the trigger that it has not scored yet (`scoring`)
    2 find     the version in the registry; a complete one is not trained again
    3 train    dataset, recipe, gate, the folder of the version: in a process of its own (`run_process`)
    4 promote  move the champion link if all checks of the gate passed; write node embeddings to Neo4j
    5 announce `trained`, then `promoted` or `refused`, unless the topic has these events already
    6 journal  the score of the champion on the new examples, then the answer
    7 mirror   the registry to MLflow, if a server is configured; after a failure, the next version sends the rest

Then the consumer commits the offset (8). Each step can be repeated without harm, and starts only after the earlier
steps are on disk or acknowledged. So wherever the process is killed, a trigger leads to the same weights, one
version and one answer.

Steps 4 to 6 happen under the lock of the registry, after the assignment was confirmed and step 1 was done again: a
trainer that was paused for longer than Kafka waits for it finds what its successor did, and does nothing.

What a failed run means is the rule in `failures`. A fault of this machine is repeated here, after pauses that grow,
and shown by the gauge `sx9_training_faults`; it is never an answer.

This module imports no torch: a trainer that waits for a trigger is small.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from schemas import scores
from schemas.errors import BadConfiguration
from schemas.journal import Promoted, Record, Refused, Score
from schemas.topics import JOURNAL, VERSIONS, partition_of
from schemas.versions import Manifest, Outcome, VersionEvent
from schemas.windows import Trigger
from trainers import telemetry
from trainers.core import gate
from trainers.core.progress import Cancelled, ProgressCallback, RunProgress
from trainers.reporting.summary import headline
from trainers.runs import run_gauges
from trainers.runs.attempts import Attempts, AttemptsFile
from trainers.runs.embeddings import EmbeddingsWriter
from trainers.runs.failures import Failure, failure_of, retry_pause_s
from trainers.runs.run_process import Run, RunRequest, run_in_process
from trainers.runs.scoring import Scoring
from trainers.runs.takeover import lineage_event
from trainers.settings import TrainerSettings
from trainers.store import manifest as manifests
from trainers.store.journal_copy import JournalCopy
from trainers.store.journal_reader import UnusableCopy
from trainers.store.mlflow_mirror import mlflow_mirror
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog
from transport.kafka import RecordProducer
from transport.secrets import without_secrets

log = logging.getLogger(__name__)


WAIT_POLL_S = 0.2
"""How often a pause is checked for its cancellation, seconds."""


def assignment_is_certain() -> None:
    """For a handler without a consumer group."""


class TriggerHandler:
    """Answers the triggers of one model.

    Args:
        model: Name of the model.
        settings: Of the trainer.
        machine: The fields of the recipe that belong to this machine; all others are in the trigger.
        registry: Where versions are written.
        journal: Copy of the journal of the model.
        version_log: The version events on the topic.
        producer: Sends version events and journal records.
        embeddings: Writes node embeddings.
        run: Trains the version of a request and writes it to the registry.

    Attributes:
        scoring: Scores new examples.
    """

    def __init__(
        self,
        model: str,
        settings: TrainerSettings,
        machine: Mapping[str, Any],
        registry: Registry,
        journal: JournalCopy,
        version_log: VersionLog,
        producer: RecordProducer,
        embeddings: EmbeddingsWriter,
        run: Run = run_in_process,
    ) -> None:
        self._model = model
        self._settings = settings
        self._machine = dict(machine)
        self._registry = registry
        self._journal = journal
        self._version_log = version_log
        self._producer = producer
        self._embeddings = embeddings
        self._run = run
        self.scoring = Scoring(model, settings, registry, journal, producer)
        self._attempts = AttemptsFile(settings.trainer_dir / f"{model}.attempts.json")
        self._mlflow = mlflow_mirror(settings.mlflow_tracking_uri, registry)

    def show_state(self) -> None:
        """Set the metrics of the latest version, of the latest answers and of the version that serves.

        They come from the version events; the checks of the gate come from the manifest of the version.

        Raises:
            RetryLater: Kafka does not answer.
            Corrupt: A manifest can't be decoded.
        """
        versions = self._version_log
        versions.catch_up()
        telemetry.FAULTS.labels(model=self._model).set(0)
        if event := versions.trained.get(self._model):
            telemetry.show_scores(event.model, event.evaluation, event.parent_evaluation)
            if self._registry.has(self._model, event.version):
                manifest = manifests.read(self._registry.folder(self._model, event.version))
                telemetry.show_gate(self._model, manifest.gate)
                telemetry.show_movement(self._model, manifest.report)
        if event := versions.promoted.get(self._model):
            telemetry.show_champion(event.model, event.version, event.time_ms, event.newest_event_ms)
        answers = [of_model.get(self._model) for of_model in (versions.promoted, versions.refused)]
        latest_ms = {event.outcome: event.time_ms for event in answers if event}
        telemetry.show_answers(self._model, latest_ms, versions.refusals[self._model])

    def handle(
        self,
        trigger: Trigger,
        on_progress: ProgressCallback,
        confirm_assignment: Callable[[], None] = assignment_is_certain,
    ) -> None:
        """Answer one trigger; see the module. Idempotent.

        Args:
            trigger: The decision to retrain.
            on_progress: Called after every step of the run, and in between. An exception that it raises ends the
                run; a later call repeats it.
            confirm_assignment: Raises `Cancelled` if the triggers belong to another trainer by now.

        Raises:
            Cancelled: `on_progress` or `confirm_assignment` raised it.
            RetryLater: Kafka does not answer, or another process holds the registry.
            BadConfiguration: The models belong to another journal; the message has the remedy.
            Corrupt: The files of the version were changed.
        """
        self._journal.catch_up()  # 1
        self._version_log.catch_up()
        self.follow_person()
        if self._journal.is_answered(trigger.id):
            log.info("%s: trigger %s is already answered", self._model, trigger.id)
        else:
            if trigger.parent and trigger.spans:
                self.scoring.score(on_progress, trigger.spans[-1].end)
            result = self._left_behind(trigger) or self._version_or_refusal(trigger, on_progress)  # 2, 3
            if isinstance(result, Manifest):
                self._registry.upload(self._model, result.version)
            on_progress(RunProgress("answering", 0, 1))
            self._answer(trigger, result, confirm_assignment)  # 4, 5, 6
        self.show_state()
        self._mirror()  # 7

    def follow_person(self) -> None:
        """Complete what a person began who chose the champion of the journal: the event of a lineage, the link."""
        serving, lineage = self._journal.serving(), self._journal.lineage()
        if serving and serving.request and self._registry.has(self._model, serving.version):
            if lineage and lineage[1].request == serving.request:  # the graph waits for the event
                self._announce(lineage_event(self._registry, self._model, lineage[1]))
            with self._registry.champion_lock(self._model):
                self._registry.promote(self._model, serving.version)

    def _left_behind(self, trigger: Trigger) -> str:
        """Why a trigger needs no run: it is from before a lineage change, and may name what that left out."""
        lineage = self._journal.lineage()
        if lineage is None or lineage[0] <= trigger.offset:
            return ""
        change = lineage[1]
        return f"{change.by} put {change.version} in place of its lineage: {change.why}"

    # ---- 2

    def _existing_version(self, trigger: Trigger) -> Manifest | None:
        """The manifest of the complete version that answers the trigger, if there is one."""
        if not self._registry.has(self._model, trigger.version):
            return None
        manifest = self._registry.verified(self._model, trigger.version)
        if (manifest.trigger, manifest.spans) != (trigger.id, trigger.spans):
            raise BadConfiguration(
                f"{self._registry.folder(self._model, trigger.version)} answers trigger {manifest.trigger}, not "
                f"{trigger.id}: these models belong to another journal; move {self._registry.root} away or set "
                "SX9_OUTPUT_DIR to another folder"
            )
        return manifest

    # ---- 3

    def _version_or_refusal(self, trigger: Trigger, on_progress: ProgressCallback) -> Manifest | str:
        """The manifest of the version that answers the trigger, trained if need be, or why there is none."""
        attempts = self._attempts.load(trigger.id)
        while True:
            if manifest := self._existing_version(trigger):
                return manifest
            if refusal := self._attempt(trigger, attempts, on_progress):
                return refusal

    def _attempt(self, trigger: Trigger, attempts: Attempts, on_progress: ProgressCallback) -> str:
        """Run once, after a pause if the machine failed before.

        Returns:
            Why there can be no version; empty if the registry has it now, or another attempt is due.
        """
        telemetry.FAULTS.labels(model=self._model).set(attempts.faults)
        if attempts.faults:
            _wait(retry_pause_s(attempts.faults), on_progress)
        attempts.running = True
        self._attempts.save(attempts)
        started_s = time.monotonic()
        try:
            with run_gauges.shown(self._model, on_progress) as shown_progress:
                self._run(self._request(trigger), shown_progress)
        except Cancelled:
            attempts.running = False
            self._attempts.save(attempts)
            raise
        except Exception as error:  # noqa: BLE001  the rule of `failures` says what each means
            attempts.running = False
            refusal = self._failed(trigger, attempts, failure_of(error))
            self._attempts.save(attempts)
            return refusal
        telemetry.TRAINING_SECONDS.labels(model=self._model).observe(time.monotonic() - started_s)
        attempts.running, attempts.faults = False, 0
        self._attempts.save(attempts)
        return ""

    def _failed(self, trigger: Trigger, attempts: Attempts, failure: Failure) -> str:
        """Count a failure; see `failures`. The reason of the refusal, if it leads to one."""
        telemetry.FAILURES.labels(model=self._model, error=failure.error).inc()
        if failure.cause == "data":
            return failure.message
        if failure.cause == "machine":
            attempts.faults += 1
            pause_s = retry_pause_s(attempts.faults)
            log.error("%s: trigger %s: %s; next attempt in %.0f s", self._model, trigger.id, failure, pause_s)
            if failure.error == UnusableCopy.__name__:
                self._journal.rebuild(failure.message)
            return ""
        attempts.faults = 0
        attempts.errors.append(without_secrets(str(failure)))
        log.error("%s: attempt %d at trigger %s: %s", self._model, len(attempts.errors), trigger.id, failure)
        if len(attempts.errors) < self._settings.max_attempts:
            return ""
        return f"training failed {len(attempts.errors)} times, the last time with {attempts.errors[-1]}"

    def _request(self, trigger: Trigger) -> RunRequest:
        if trigger.parent:
            self._registry.folder(self._model, trigger.parent)  # it is fetched if another machine trained it
        return RunRequest(
            trigger=trigger,
            machine=self._machine,
            models_dir=str(self._registry.root),
            cache_dir=str(self._settings.cache_dir),
            journal_copy=str(self._journal.path),
            log_level=logging.getLogger().getEffectiveLevel(),
        )

    # ---- 4, 5, 6

    def _answer(self, trigger: Trigger, result: Manifest | str, confirm_assignment: Callable[[], None]) -> None:
        """Publish a version, or refuse a trigger, unless another trainer has done so in the meantime."""
        with self._registry.lock(self._model), self._registry.champion_lock(self._model):
            confirm_assignment()
            self._journal.catch_up()
            self._version_log.catch_up()
            serving = self._journal.serving()
            if self._journal.is_answered(trigger.id):
                log.warning("%s: trigger %s was answered by another trainer", self._model, trigger.id)
            elif serving and serving.request and serving.version != trigger.parent:
                self._refuse(trigger, f"a person made {serving.version} the champion, and it starts from another")
            elif isinstance(result, Manifest):
                self._publish(trigger, result)
            else:
                self._refuse(trigger, result)

    def _publish(self, trigger: Trigger, manifest: Manifest) -> None:
        """Publish a version, promote it if it passed the gate, and record the answer."""
        self._registry.publish(self._model, manifest.version)
        if manifest.promoted:
            self._registry.promote(self._model, manifest.version)  # 4
            self._embeddings.write_champion()
        now_ms = int(time.time() * 1000)
        detail = gate.why_refused(manifest.gate)
        trained = _trained_event(trigger, manifest)
        outcome: Outcome = "promoted" if manifest.promoted else "refused"
        self._announce(trained)  # 5
        self._announce(msgspec.structs.replace(trained, outcome=outcome, detail=detail, time_ms=now_ms))
        self._record_score(trigger, manifest, now_ms)  # 6
        if manifest.promoted:
            self._record(Promoted(trigger=trigger.id, version=manifest.version, time_ms=now_ms))
        else:
            self._record(Refused(trigger=trigger.id, version=manifest.version, reason=detail, time_ms=now_ms))
        telemetry.ANSWERED.labels(model=self._model, outcome=outcome).inc()
        log.info("%s", _summary(manifest, detail))

    def _mirror(self) -> None:
        """Step 7. What was sent before is not sent again."""
        if self._mlflow:
            self._mlflow.mirror(self._model)

    def _refuse(self, trigger: Trigger, detail: str) -> None:
        """Answer a trigger that led to no version: steps 5 and 6."""
        detail = without_secrets(detail)
        now_ms = int(time.time() * 1000)
        self._announce(
            VersionEvent(
                model=self._model,
                version=trigger.version,
                outcome="refused",
                trigger=trigger.id,
                reason=trigger.reason,
                detail=detail,
                parent=trigger.parent,
                time_ms=now_ms,
            )
        )
        self._record(Refused(trigger=trigger.id, version=trigger.version, reason=detail, time_ms=now_ms))
        telemetry.ANSWERED.labels(model=self._model, outcome="refused").inc()
        log.warning("%s %s: refused without a version: %s", self._model, trigger.version, detail)

    def _announce(self, event: VersionEvent) -> None:
        """Send a version event, unless the topic has it already."""
        if event.id not in self._version_log.ids:
            self._producer.send(VERSIONS.name, event, key=self._model)
            self._producer.flush()

    def _record_score(self, trigger: Trigger, manifest: Manifest, now_ms: int) -> None:
        """Record the score of the champion, if there was one, on the examples that were new to it."""
        prequential = scores.of_split(manifest.parent_evaluation, scores.PREQUENTIAL)
        if not manifest.parent or self._journal.is_scored(trigger.id):
            return
        self._record(
            Score(
                trigger=trigger.id,
                version=manifest.parent,
                examples=sum(task_scores.examples for task_scores in prequential.values()),
                time_ms=now_ms,
                evaluation=scores.summary({task: {scores.PREQUENTIAL: s} for task, s in prequential.items()}),
            )
        )

    def _record(self, record: Record) -> None:
        """Append a record to the journal."""
        self._producer.send(JOURNAL.name, record, key=self._model, partition=partition_of(self._model))
        self._producer.flush()


def _wait(seconds: float, on_progress: ProgressCallback) -> None:
    """Pause; `on_progress` may end it with an exception."""
    deadline_s = time.monotonic() + seconds
    while (left_s := deadline_s - time.monotonic()) > 0:
        on_progress(RunProgress("waiting", 0, 1))
        time.sleep(min(WAIT_POLL_S, left_s))


def _trained_event(trigger: Trigger, manifest: Manifest) -> VersionEvent:
    return VersionEvent(
        model=manifest.model,
        version=manifest.version,
        outcome="trained",
        trigger=trigger.id,
        reason=trigger.reason,
        parent=manifest.parent,
        examples=manifest.examples_trained,
        evaluation=scores.summary(manifest.evaluation),
        parent_evaluation=scores.summary(manifest.parent_evaluation),
        seconds=manifest.seconds,
        time_ms=manifest.created_ms,
        newest_event_ms=manifest.newest_event_ms,
    )


def _summary(manifest: Manifest, detail: str) -> str:
    """One log line about a run."""
    outcome = "promoted" if manifest.promoted else f"refused, {detail}"
    return (
        f"{manifest.model} {manifest.version}: {outcome}; {manifest.reason}; {manifest.examples_trained} examples, "
        f"{sum(manifest.examples_dropped.values())} dropped; "
        f"{headline(manifest.evaluation, manifest.parent_evaluation)}; {manifest.seconds:.0f} s"
    )
