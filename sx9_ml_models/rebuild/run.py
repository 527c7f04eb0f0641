"""A rebuild: the versions of a lineage trained again, in a registry of their own, and compared.

    journal ──> without what is excluded ──> copy ──┐
                                    └──> triggers ──┴──> one run each ──> registry of the rebuild ──> comparison
                                                                                     └──> --promote: `takeover`

Each version is one run, as a trainer makes it: a process with checkpoints. So a rebuild that was stopped or killed
continues where it was, and ends with the same weights. Nothing outside its own folder is written.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from schemas.codec import decode, encode
from schemas.errors import BadConfiguration, BadRecord, RetryLater
from schemas.journal import Answered, Promoted, Record, Refused, Score
from schemas.recipes.base import recipe_values
from schemas.versions import Manifest
from schemas.windows import Trigger
from streams.core.lineage import Answer, Refold
from sx9_ml_models.rebuild.lineage import recorded_lineage
from sx9_ml_models.rebuild.remaining import RemainingJournal
from sx9_ml_models.rebuild.scope import Plan, Scope
from trainers.core import gate
from trainers.core.progress import ProgressCallback
from trainers.runs.failures import RunFailed
from trainers.runs.run_process import Run, RunRequest, run_in_process
from trainers.settings import TrainerSettings, config_class, load_machine_fields
from trainers.store.journal_copy import JournalCopy
from trainers.store.registry import Registry
from trainers.store.shared_registry import open_registry
from transport.files import LOCK_TIMEOUT_S, lock, write_atomically

log = logging.getLogger(__name__)

PLAN, COPY = "rebuild.json", "journal.sqlite"
WEIGHTS = ".safetensors"
_RENAMED = {"child_rate": "warm_start_lr_scale"}
"""Former name of a field of a recipe -> its name."""


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was trained again.

    Attributes:
        version, trigger, parent: Names.
        promoted: Whether the gate promoted it; see `why_not`.
        why_not: Why it was refused.
        examples: The number of training examples.
        weights: File of weights -> its sha256.
        recorded: The same of the recorded version; empty if there is none.
        differs: Where the weights differ: what else does, such as a library, and the largest difference of a score.
        seconds: How long the run took; 0 if it was there already.
    """

    version: str
    trigger: str
    parent: str
    promoted: bool
    why_not: str = ""
    examples: int = 0
    weights: dict[str, str] = {}
    recorded: dict[str, str] = {}
    differs: str = ""
    seconds: float = 0.0

    @property
    def identical(self) -> bool | None:
        """Whether the weights are those of the recorded version; None if there is none to compare with."""
        return self.weights == self.recorded if self.recorded and self.weights else None


ProgressOf = Callable[[str, float], contextlib.AbstractContextManager[ProgressCallback]]
"""A context with the progress callback of a version, by its name and the seconds that the later versions take."""


@contextlib.contextmanager
def silent(_title: str, _after_s: float) -> Iterator[ProgressCallback]:
    """Show no progress."""
    yield lambda _progress: None


class Rebuild:
    """Trains the versions of a plan.

    Args:
        plan: What to rebuild.
        scope: Of the plan; its exclusions are those of the journal too.
        journal: What is left of the journal.
        folder: Of this rebuild; the versions are under `folder/<model>`.
        settings: Name the registry with the recorded versions, and the folder of base models.
        run: Trains the version of a request.
        progress_of: Shows the progress of a version.

    Attributes:
        registry: The versions.
        answered: In a lineage of its own: how the gate answered each trigger, once `versions` has returned.

    Raises:
        BadConfiguration: The folder holds another rebuild.
    """

    def __init__(
        self,
        plan: Plan,
        scope: Scope,
        journal: RemainingJournal,
        folder: Path,
        settings: TrainerSettings,
        run: Run = run_in_process,
        progress_of: ProgressOf = silent,
    ) -> None:
        self._plan = plan
        self._scope = scope
        self.answered: list[Answered] = []
        self._journal = journal
        self._folder = folder
        self._settings = settings
        self._run = run
        self._progress_of = progress_of
        self.registry = Registry(folder)
        self._recorded = {m.version: m for m in open_registry(settings).versions(plan.model)}
        self._rebuilt: list[Rebuilt] = []
        keep_plan(folder / PLAN, plan)

    def versions(self) -> list[Rebuilt]:
        """Train what is not there yet, and compare every version with the recorded one.

        Raises:
            BadConfiguration: The journal has no such version, or the machine is not suitable.
            RetryLater: A run failed; the next call continues.
        """
        return self.train(self._decided_again if self._plan.decides else self._as_recorded)

    def train(self, fold: Callable[[JournalCopy], None]) -> list[Rebuilt]:
        """Train what a fold of the journal asks for, and compare.

        Args:
            fold: Gets the copy of the journal, and calls `answer` with each trigger.

        Raises:
            BadConfiguration, RetryLater: See `versions`.
        """
        copy = JournalCopy(self.copy_path, self._journal)
        with contextlib.closing(copy), lock(self._folder / ".lock", "rebuilding", timeout_s=LOCK_TIMEOUT_S):
            fold(copy)
        promoted = [each.version for each in self._rebuilt if each.promoted]
        if promoted:
            self.registry.promote(self._plan.model, promoted[-1])
        return self._rebuilt

    @property
    def model(self) -> str:
        """The model."""
        return self._plan.model

    @property
    def end(self) -> int:
        """The journal offset at which it ends."""
        return self._journal.end()

    @property
    def cache_dir(self) -> Path:
        """Folder of converted base models."""
        return self._settings.cache_dir

    @property
    def copy_path(self) -> Path:
        """The copy of the journal that the runs read."""
        return self._folder / f".{self._plan.model}" / COPY

    def _decided_again(self, copy: JournalCopy) -> None:
        scope = self._scope
        copy.catch_up()
        records: Iterable[tuple[int, Record]] = self._journal.records()
        if self._plan.anew:
            records = (each for each in records if not isinstance(each[1], Score))
        refold = Refold(
            self._plan.model, lambda trigger: self.answer(trigger, copy),
            (lambda _: False) if self._plan.anew else copy.is_answered,
            scope.exclusions, scope.numbered_from,
        )  # fmt: skip
        refold.run(records, self._journal.end())
        self.answered = refold.answered

    def _as_recorded(self, copy: JournalCopy) -> None:
        history, end = self._journal.records, self._journal.end()
        triggers, end = recorded_lineage(self._plan.model, history, end, self._plan.version)
        self._journal.cut(end)
        copy.catch_up()
        for at, trigger in enumerate(triggers):
            self.answer(trigger, copy, triggers[at + 1 :])

    def answer(self, trigger: Trigger, copy: JournalCopy, after: list[Trigger] | None = None) -> Answer:
        """Train the version of a trigger, unless it is there, and return what the gate said."""
        started_s, there = time.monotonic(), self.registry.has(trigger.model, trigger.version)
        why_not = "" if there else self._train(trigger, copy, after or [])
        manifest = None if why_not else self._verified(trigger)
        seconds = 0.0 if there else time.monotonic() - started_s
        self._rebuilt.append(self._compared(trigger, manifest, why_not, seconds))
        fields: dict[str, Any] = {"trigger": trigger.id, "version": trigger.version, "time_ms": trigger.at_ms}
        if manifest is not None and manifest.promoted:
            return Promoted(**fields)
        return Refused(**fields, reason=self._rebuilt[-1].why_not)

    def _train(self, trigger: Trigger, copy: JournalCopy, after: list[Trigger]) -> str:
        """Run once. Returns why there can be no version; empty if there is one."""
        after_s = sum(self._recorded[t.version].seconds for t in after if t.version in self._recorded)
        try:
            with self._progress_of(trigger.version, after_s) as on_progress:
                self._run(self._request(trigger, copy), on_progress)
        except RunFailed as error:
            if error.failure.cause == "data":
                return error.failure.message
            raise RetryLater(
                f"the run of {trigger.model} {trigger.version} failed ({error}); call it again to continue"
            ) from error
        return ""

    def _request(self, trigger: Trigger, copy: JournalCopy) -> RunRequest:
        return RunRequest(
            trigger=trigger if trigger.recipe else msgspec.structs.replace(trigger, recipe=self._recipe(trigger)),
            machine=load_machine_fields(trigger.model),
            models_dir=str(self.registry.root),
            cache_dir=str(self._settings.cache_dir),
            journal_copy=str(copy.path),
            log_level=logging.getLogger().getEffectiveLevel(),
        )

    def _recipe(self, trigger: Trigger) -> dict[str, Any]:
        """The recipe of an older trigger, which does not name it: that of the version, or of one before it."""
        before = [m for name, m in sorted(self._recorded.items()) if name <= trigger.version and m.config]
        if before:
            return _recipe_of(before[-1])
        log.warning(
            "%s %s: neither trigger nor manifest names a recipe; it is today's", trigger.model, trigger.version
        )
        return recipe_values(config_class(trigger.model)())

    def _verified(self, trigger: Trigger) -> Manifest:
        manifest = self.registry.verified(trigger.model, trigger.version)
        if (manifest.trigger, manifest.spans) != (trigger.id, trigger.spans):
            raise BadConfiguration(
                f"{self.registry.folder(trigger.model, trigger.version)} answers trigger {manifest.trigger}, not "
                f"{trigger.id}: it belongs to another journal; choose another folder with --output"
            )
        return manifest

    def _compared(self, trigger: Trigger, manifest: Manifest | None, why_not: str, seconds: float) -> Rebuilt:
        recorded = self._recorded.get(trigger.version)
        if recorded is not None and recorded.trigger != trigger.id:
            recorded = None
        if manifest is None:
            return Rebuilt(
                version=trigger.version, trigger=trigger.id, parent=trigger.parent, promoted=False, why_not=why_not
            )
        return Rebuilt(
            version=trigger.version,
            trigger=trigger.id,
            parent=trigger.parent,
            promoted=manifest.promoted,
            why_not=gate.why_refused(manifest.gate),
            examples=manifest.examples_trained,
            weights=_weights(manifest),
            recorded=_weights(recorded) if recorded else {},
            differs=_differences(manifest, recorded) if recorded else "",
            seconds=seconds,
        )


def keep_plan(path: Path, plan: Plan) -> None:
    """Write the plan beside the versions, or compare it with the one that is there."""
    try:
        there = decode(path.read_bytes(), Plan)
    except FileNotFoundError:
        write_atomically(path, encode(plan))
        return
    except BadRecord as error:
        raise BadConfiguration(f"{path}: {error}; choose another folder with --output") from error
    if there != plan:
        raise BadConfiguration(
            f"{path.parent} holds another rebuild, {encode(there).decode()}: delete it, or choose another folder "
            "with --output"
        )


def _weights(manifest: Manifest) -> dict[str, str]:
    return {name: sha for name, sha in manifest.files.items() if name.endswith(WEIGHTS)}


def _recipe_of(manifest: Manifest) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in manifest.config.items()}


def _differences(rebuilt: Manifest, recorded: Manifest) -> str:
    """What differs besides the weights, if they do."""
    if _weights(rebuilt) == _weights(recorded):
        return ""
    now, then = rebuilt.libraries | {"machine": rebuilt.machine}, recorded.libraries | {"machine": recorded.machine}
    found = [f"{name} {then.get(name)} -> {now.get(name)}" for name in now if now.get(name) != then.get(name)]
    config = _recipe_of(recorded)
    found += [
        f"{name} {config[name]} -> {value}"
        for name, value in rebuilt.config.items()
        if name in config and config[name] != value
    ]
    if rebuilt.examples_trained != recorded.examples_trained:
        found.append(f"examples {recorded.examples_trained} -> {rebuilt.examples_trained}")
    largest = max(
        (
            abs(value - other.metrics.get(metric, value))
            for task, splits in rebuilt.evaluation.items()
            for split, scores in splits.items()
            if (other := recorded.evaluation.get(task, {}).get(split))
            for metric, value in scores.metrics.items()
        ),
        default=0.0,
    )
    return "; ".join([*found, f"largest difference of a score {largest:.4f}"])
