"""One trigger in, one answer out: a version that serves from now on, or a refusal with its numbers.

    1 read     the journal and the announcements; a trigger answered there is done
    2 look     for the version in the registry; a complete one is not trained again
    3 train    the dataset of the trigger, the recipe, the gate, the version's folder
    4 promote  the champion pointer, if every check of the gate passed; embeddings of nodes go to Neo4j
    5 announce `trained`, then `promoted` or `refused`, those that are not on the topic yet
    6 journal  the champion's score on the new examples, then the answer
    7 mirror   the registry to MLflow, where one is named; it may be away, the next version brings what it missed

Then the consumer commits (8). Each step is skipped or repeated without harm, and what comes later is done
only when what comes earlier is on disk or acknowledged: killed anywhere, the same trigger leads to the same
weights, one version and one answer.
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
from trainers.runs.train_version import TrainingRequest, train_version
from trainers.settings import TrainerSettings
from trainers.store.journal_copy import JournalCopy
from trainers.store.mlflow_mirror import tracker
from trainers.store.node_embeddings import NODES, write_version
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog
from transport.files import write_atomically
from transport.kafka import RecordProducer
from transport.neo4j import driver as neo4j_driver

log = logging.getLogger(__name__)


def dataset(store: JournalCopy, trigger: Trigger, max_examples: int, *, context: bool = False) -> Dataset:
    """The examples of the run that a trigger asks for, from a store that has its journal up to its offset.

    Args:
        context: Whether the recipe wants all that stands at the end of the windows.

    Raises:
        Corrupt: The journal is not the one that the trigger was made from.
    """
    start = min((span.start for span in trigger.spans), default=0)
    end = max((span.end for span in trigger.spans), default=0)
    named = store.at(named_offsets(trigger))
    holdout = (named[offset] for offset in trigger.holdout_old + trigger.holdout_recent)
    return build(
        trigger,
        store.span(start, end),
        named,
        max_examples=max_examples,
        trained_texts=store.trained_texts(holdout, start),
        context=store.standing(end) if context else (),
    )


class TriggerHandler:
    """Answers the triggers of one model.

    Args:
        model: Whose.
        settings: Of the trainer.
        config: Of the recipe; a trigger brings its seed.
        base: What a first version starts from.
        registry: Where versions lie.
        store: Copy of the model's journal.
        announced: What is on the topic of versions.
        outbox: For announcements and journal records.
    """

    def __init__(
        self,
        model: str,
        settings: TrainerSettings,
        config: RecipeConfig,
        base: Base,
        registry: Registry,
        store: JournalCopy,
        announced: VersionLog,
        outbox: RecordProducer,
    ) -> None:
        self._model = model
        self._settings = settings
        self._config = config
        self._base = base
        self._registry = registry
        self._store = store
        self._announced = announced
        self._outbox = outbox
        self._attempts = settings.trainer_dir / f"{model}.attempts.json"
        self._tracker = tracker(settings.mlflow_tracking_uri, registry)

    def show_champion(self) -> None:
        """Put what serves already into the metrics."""
        self._announced.catch_up()
        if event := self._announced.promoted.get(self._model):
            telemetry.show_champion(event.model, event.version, event.time_ms, event.newest_event_ms)

    def answer(self, trigger: Trigger, on_progress: ProgressCallback) -> None:
        """Answer one trigger; see the module. A second call does nothing.

        Args:
            on_progress: Called after every step of the run; what it raises ends the run, which a later call repeats.

        Raises:
            RetryLater: Kafka or Neo4j does not answer, or another process is training this model.
            BadConfiguration: The registry or the machine is not fit; the message says what to do.
            Corrupt: A parent's files, or the journal, are not what was written.
        """
        self._store.catch_up()  # 1
        self._announced.catch_up()
        if self._store.answered(trigger.id):
            log.info("%s: trigger %s is answered already", self._model, trigger.id)
            self._mirror()
            return
        manifest = self._existing(trigger) or self._train(trigger, on_progress)  # 2, 3
        on_progress(RunProgress("answering", 0, 1))
        if isinstance(manifest, Manifest):
            self._publish(trigger, manifest)
        else:
            self._refuse(trigger, manifest)

    # ---- 2

    def _existing(self, trigger: Trigger) -> Manifest | None:
        """The complete version that answers the trigger, if there is one."""
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
        """The new version, or why there is none."""
        errors = self._errors(trigger)
        while len(errors) < self._settings.max_attempts:
            try:
                return self._attempt(trigger, on_progress)
            except Cancelled:
                raise
            except (Sx9Error, OSError) as error:  # a person or time must help; another attempt does not
                telemetry.FAILURES.labels(model=self._model, error=type(error).__name__).inc()
                raise
            except Exception as error:
                telemetry.FAILURES.labels(model=self._model, error=type(error).__name__).inc()
                log.exception("%s: attempt %d at trigger %s failed", self._model, len(errors) + 1, trigger.id)
                errors.append(f"{type(error).__name__}: {error}")
                write_atomically(self._attempts, msgspec.json.encode({trigger.id: errors}))
        return f"training failed {len(errors)} times, the last time with {errors[-1]}"

    def _errors(self, trigger: Trigger) -> list[str]:
        """What failed attempts at this trigger ended with; kept on disk, so that a restart counts on."""
        try:
            found = msgspec.json.decode(self._attempts.read_bytes(), type=dict[str, list[str]])
        except (FileNotFoundError, msgspec.DecodeError):
            return []
        return found.get(trigger.id, [])

    def _attempt(self, trigger: Trigger, on_progress: ProgressCallback) -> Manifest | str:
        context = recipe(self._model).CONTEXT
        data = dataset(self._store, trigger, self._config.max_examples, context=context)
        if not data.fresh:
            return "no training examples in its windows that are not superseded, retracted or in the holdout"
        order = TrainingRequest(
            model=self._model,
            version=trigger.version,
            parent=trigger.parent,
            trigger=trigger.id,
            reason=trigger.reason,
            spans=trigger.spans,
            labels=trigger.labels,
        )
        config = msgspec.structs.replace(self._config, seed=trigger.seed)
        manifest = train_version(
            self._registry, order, data, self._base, config, self._settings.limits, on_progress
        )
        telemetry.TRAINING_SECONDS.labels(model=self._model).observe(manifest.seconds)
        return manifest

    # ---- 4, 5, 6

    def _publish(self, trigger: Trigger, manifest: Manifest) -> None:
        """Promote a version if it passed, and say so."""
        if manifest.promoted:
            self._registry.promote(self._model, manifest.version)  # 4
            self._serve_embeddings(manifest.version)
        now_ms = int(time.time() * 1000)
        trained = VersionEvent(
            model=self._model,
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
        self._announce(trained)  # 5
        outcome: Outcome = "promoted" if manifest.promoted else "refused"
        detail = gate.why_refused(manifest.gate)
        self._announce(msgspec.structs.replace(trained, outcome=outcome, detail=detail, time_ms=now_ms))
        self._journal_score(trigger, manifest, now_ms)  # 6
        if manifest.promoted:
            self._journal(Promoted(trigger=trigger.id, version=manifest.version, time_ms=now_ms))
        else:
            self._journal(Refused(trigger=trigger.id, version=manifest.version, reason=detail, time_ms=now_ms))
        telemetry.ANSWERED.labels(model=self._model, outcome=outcome).inc()
        telemetry.show_scores(manifest)
        if manifest.promoted:
            telemetry.show_champion(self._model, manifest.version, now_ms, manifest.newest_event_ms)
        log.info("%s", _summary(manifest, detail))
        self._mirror()

    def _serve_embeddings(self, version: str) -> None:
        """Of a model that has nodes, where a Neo4j is named: let questions go to this version's."""
        folder = self._registry.folder(self._model, version)
        if self._settings.neo4j_uri and (folder / NODES).is_file():
            password = self._settings.neo4j_password.get_secret_value()
            with neo4j_driver(self._settings.neo4j_uri, self._settings.neo4j_user, password) as driver:
                write_version(driver, version, folder)

    def _mirror(self) -> None:
        """7: of what is sent already, nothing is sent again."""
        if self._tracker:
            self._tracker.mirror(self._model)

    def _refuse(self, trigger: Trigger, why: str) -> None:
        """Answer a trigger that led to no version: 5 and 6 of the module."""
        now_ms = int(time.time() * 1000)
        self._announce(
            VersionEvent(
                model=self._model,
                version=trigger.version,
                outcome="refused",
                trigger=trigger.id,
                reason=trigger.reason,
                detail=why,
                parent=trigger.parent,
                time_ms=now_ms,
            )
        )
        self._journal(Refused(trigger=trigger.id, version=trigger.version, reason=why, time_ms=now_ms))
        telemetry.ANSWERED.labels(model=self._model, outcome="refused").inc()
        log.warning("%s %s: refused without a version: %s", self._model, trigger.version, why)

    def _announce(self, event: VersionEvent) -> None:
        if event.id not in self._announced.ids:
            self._outbox.send(VERSIONS.name, event, key=self._model)
            self._outbox.flush()

    def _journal_score(self, trigger: Trigger, manifest: Manifest, now_ms: int) -> None:
        """The champion's score on the examples that were new to it, where there was a champion."""
        prequential = scores.of_split(manifest.parent_evaluation, scores.PREQUENTIAL)
        if not manifest.parent or self._store.scored(trigger.id):
            return
        self._journal(
            Score(
                trigger=trigger.id,
                version=manifest.parent,
                examples=sum(task_scores.examples for task_scores in prequential.values()),
                time_ms=now_ms,
                evaluation=scores.summary({task: {scores.PREQUENTIAL: s} for task, s in prequential.items()}),
            )
        )

    def _journal(self, record: Record) -> None:
        self._outbox.send(JOURNAL.name, record, key=self._model, partition=partition_of(self._model))
        self._outbox.flush()


def _summary(manifest: Manifest, detail: str) -> str:
    """One line about a run."""
    outcome = "promoted" if manifest.promoted else f"refused, {detail}"
    return (
        f"{manifest.model} {manifest.version}: {outcome}; {manifest.reason}; {manifest.examples_trained} examples, "
        f"{manifest.examples_left_out} left out; {headline(manifest.evaluation, manifest.parent_evaluation)}; "
        f"{manifest.seconds:.0f} s"
    )
