"""One trigger in, one answer out: a new version that serves from then on, or a refusal with its reason.

    1 read     the journal and the version events; nothing to do if the trigger is answered there
    2 find     the version in the registry; a complete one is not trained again
    3 train    dataset, recipe, gate, the folder of the version
    4 promote  move the champion link if all checks of the gate passed; write node embeddings to Neo4j
    5 announce `trained`, then `promoted` or `refused`, unless the topic has these events already
    6 journal  the score of the champion on the new examples, then the answer
    7 mirror   the registry to MLflow, if a server is configured; after a failure, the next version sends the rest

Then the consumer commits the offset (8). Each step can be repeated without harm, and starts only after the earlier
steps are on disk or acknowledged. So wherever the process is killed, a trigger leads to the same weights, one
version and one answer.
"""

from __future__ import annotations

import logging
import time

import msgspec

from schemas import scores
from schemas.errors import BadConfiguration, Sx9Error
from schemas.journal import Promoted, Record, Refused, Score
from schemas.topics import JOURNAL, VERSIONS, partition_of
from schemas.versions import Manifest, Outcome, VersionEvent
from schemas.windows import Trigger
from trainers import telemetry
from trainers.bases.resolve import Base
from trainers.core import gate
from trainers.core.config import RecipeConfig
from trainers.core.dataset import Dataset, build, named_offsets
from trainers.core.progress import Cancelled, ProgressCallback, RunProgress
from trainers.models.recipe import recipe
from trainers.reporting.summary import headline
from trainers.runs.train_version import TrainingRequest, measured_phases, train_version
from trainers.settings import TrainerSettings
from trainers.store.journal_copy import JournalCopy
from trainers.store.mlflow_mirror import mlflow_mirror
from trainers.store.node_embeddings import NODES, write_version_embeddings
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog
from transport.files import write_atomically
from transport.kafka import RecordProducer
from transport.neo4j import neo4j_driver
from transport.secrets import without_secrets

log = logging.getLogger(__name__)


def load_dataset(journal: JournalCopy, trigger: Trigger, max_examples: int, *, context: bool = False) -> Dataset:
    """The dataset of the run that a trigger asks for.

    Args:
        journal: Copied at least up to the offset of the trigger.
        trigger: The decision to retrain.
        max_examples: If the windows have more training examples than this, they are sampled.
        context: Whether to include all current examples at the end of the windows.

    Raises:
        Corrupt: The journal is not the one that the trigger was made from.
    """
    start = min((span.start for span in trigger.spans), default=0)
    end = max((span.end for span in trigger.spans), default=0)
    named = journal.examples_at(named_offsets(trigger))
    holdout = (named[offset] for offset in trigger.holdout_old + trigger.holdout_recent)
    return build(
        trigger,
        journal.examples_between(start, end),
        named,
        max_examples=max_examples,
        trained_texts=journal.trained_texts(holdout, start),
        context=journal.current_examples(end) if context else (),
    )


class TriggerHandler:
    """Answers the triggers of one model.

    Args:
        model: Name of the model.
        settings: Of the trainer.
        config: Of the recipe; its seed is replaced by that of the trigger.
        base: The base model of a first version.
        registry: Where versions are written.
        journal: Copy of the journal of the model.
        version_log: The version events on the topic.
        producer: Sends version events and journal records.
    """

    def __init__(
        self,
        model: str,
        settings: TrainerSettings,
        config: RecipeConfig,
        base: Base,
        registry: Registry,
        journal: JournalCopy,
        version_log: VersionLog,
        producer: RecordProducer,
    ) -> None:
        self._model = model
        self._settings = settings
        self._config = config
        self._base = base
        self._registry = registry
        self._journal = journal
        self._version_log = version_log
        self._producer = producer
        self._attempts_file = settings.trainer_dir / f"{model}.attempts.json"
        self._mlflow = mlflow_mirror(settings.mlflow_tracking_uri, registry)

    def show_champion(self) -> None:
        """Set the metrics of the version that serves, if there is one.

        Raises:
            RetryLater: Kafka does not answer.
        """
        self._version_log.catch_up()
        if event := self._version_log.promoted.get(self._model):
            telemetry.show_champion(event.model, event.version, event.time_ms, event.newest_event_ms)

    def handle(self, trigger: Trigger, on_progress: ProgressCallback) -> None:
        """Answer one trigger; see the module. Idempotent.

        Args:
            trigger: The decision to retrain.
            on_progress: Called after every step of the run. An exception that it raises ends the run; a later call
                repeats it.

        Raises:
            Cancelled: `on_progress` raised it.
            RetryLater: Kafka or Neo4j does not answer, or another process is training this model.
            BadConfiguration: The registry or the machine is not suitable; the message has the remedy.
            Corrupt: The files of the parent, or the journal, were changed.
        """
        self._journal.catch_up()  # 1
        self._version_log.catch_up()
        if self._journal.is_answered(trigger.id):
            log.info("%s: trigger %s is already answered", self._model, trigger.id)
            self._mirror()
            return
        result = self._existing_version(trigger) or self._train(trigger, on_progress)  # 2, 3
        on_progress(RunProgress("answering", 0, 1))
        if isinstance(result, Manifest):
            self._publish(trigger, result)
        else:
            self._refuse(trigger, result)

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

    def _train(self, trigger: Trigger, on_progress: ProgressCallback) -> Manifest | str:
        """The manifest of the new version, or the reason why there is none."""
        errors = self._failed_attempts(trigger)
        while len(errors) < self._settings.max_attempts:
            try:
                return self._attempt(trigger, on_progress)
            except Cancelled:
                raise
            except (Sx9Error, OSError) as error:  # another attempt would fail too: it takes a person, or time
                telemetry.FAILURES.labels(model=self._model, error=type(error).__name__).inc()
                raise
            except Exception as error:
                telemetry.FAILURES.labels(model=self._model, error=type(error).__name__).inc()
                log.exception("%s: attempt %d at trigger %s failed", self._model, len(errors) + 1, trigger.id)
                errors.append(f"{type(error).__name__}: {error}")
                write_atomically(self._attempts_file, msgspec.json.encode({trigger.id: errors}))
        return f"training failed {len(errors)} times, the last time with {errors[-1]}"

    def _failed_attempts(self, trigger: Trigger) -> list[str]:
        """The errors of the failed attempts at a trigger. They are kept on disk, to survive a restart."""
        try:
            errors = msgspec.json.decode(self._attempts_file.read_bytes(), type=dict[str, list[str]])
        except (FileNotFoundError, msgspec.DecodeError):
            return []
        return errors.get(trigger.id, [])

    def _attempt(self, trigger: Trigger, on_progress: ProgressCallback) -> Manifest | str:
        phases = measured_phases()
        context = recipe(self._model).NEEDS_GRAPH_CONTEXT
        data = load_dataset(self._journal, trigger, self._config.max_examples, context=context)
        if not data.fresh:
            return "no training examples in its windows that are not superseded, retracted or in the holdout"
        config = msgspec.structs.replace(self._config, seed=trigger.seed)
        manifest = train_version(
            self._registry,
            _request(trigger),
            data,
            self._base,
            config,
            self._settings.limits,
            on_progress,
            phases=phases,
        )
        telemetry.TRAINING_SECONDS.labels(model=self._model).observe(manifest.seconds)
        for file in manifest.left_out:
            telemetry.LEFT_OUT.labels(model=self._model, file=file).inc()
        return manifest

    # ---- 4, 5, 6

    def _publish(self, trigger: Trigger, manifest: Manifest) -> None:
        """Promote a version if it passed the gate, and record the answer."""
        if manifest.promoted:
            self._promote(manifest.version)  # 4
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
        telemetry.show_scores(manifest)
        if manifest.promoted:
            telemetry.show_champion(self._model, manifest.version, now_ms, manifest.newest_event_ms)
        log.info("%s", _summary(manifest, detail))
        self._mirror()

    def _promote(self, version: str) -> None:
        """Move the champion link, and write node embeddings to Neo4j, if there are any and it is configured."""
        self._registry.promote(self._model, version)
        folder = self._registry.folder(self._model, version)
        if self._settings.neo4j_uri and (folder / NODES).is_file():
            password = self._settings.neo4j_password.get_secret_value()
            with neo4j_driver(self._settings.neo4j_uri, self._settings.neo4j_user, password) as driver:
                write_version_embeddings(driver, version, folder)

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


def _request(trigger: Trigger) -> TrainingRequest:
    """The version that a trigger asks for."""
    return TrainingRequest(
        model=trigger.model,
        version=trigger.version,
        parent=trigger.parent,
        trigger=trigger.id,
        reason=trigger.reason,
        spans=trigger.spans,
        labels=trigger.labels,
    )


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
        f"{manifest.examples_left_out} left out; {headline(manifest.evaluation, manifest.parent_evaluation)}; "
        f"{manifest.seconds:.0f} s"
    )
