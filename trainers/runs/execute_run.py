"""One run, as a program: from the request of a trainer to a version in the registry; see `run_process`.

request ──> journal copy ──> dataset ──> base model ──> train_version ──> registry
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadData, Corrupt
from schemas.policy import GateLimits
from schemas.recipes.base import RecipeConfig, decisive_fields
from schemas.windows import Trigger
from trainers.bases.resolve import resolve
from trainers.core.dataset import Dataset, build, named_offsets
from trainers.core.progress import ProgressCallback
from trainers.models.recipe import recipe
from trainers.runs.child import serve
from trainers.runs.run_process import MODULE, RunRequest
from trainers.runs.train_version import TrainingRequest, measured_phases, train_version
from trainers.settings import config_class
from trainers.store.journal_reader import JournalReader, UnusableCopy
from trainers.store.registry import Registry

log = logging.getLogger(MODULE)


def execute(request: RunRequest, on_progress: ProgressCallback) -> None:
    """Train the version of a request, in this process.

    Args:
        request: The run.
        on_progress: Called after every step; an exception that it raises ends the run.

    Raises:
        BadData: There is nothing to train on.
        UnusableCopy: The copy of the journal is damaged, or is not of the journal of the trigger.
        Exception: What else went wrong; see `trainers.runs.failures`.
    """
    phases = measured_phases()
    trigger = request.trigger
    model_recipe = recipe(trigger.model)
    config, limits = config_of(trigger, request.machine), trigger.gate or GateLimits()
    with contextlib.closing(JournalReader(Path(request.journal_copy))) as journal:
        data = load_dataset(journal, trigger, context=model_recipe.NEEDS_GRAPH_CONTEXT)
    if not data.fresh:
        raise BadData("no training examples in its windows that are not superseded, retracted or in the holdout")
    base = resolve(config.base, Path(request.cache_dir), model_recipe.BASE_ARCHITECTURE)
    log.info("%s: base model %s from %s", trigger.model, base.name, base.folder)
    registry = Registry(Path(request.models_dir))
    asked = _training_request(trigger)
    train_version(registry, asked, data, base, config, limits, on_progress, phases=phases)


def load_dataset(journal: JournalReader, trigger: Trigger, *, context: bool = False) -> Dataset:
    """The dataset of the run that a trigger asks for.

    Args:
        journal: Copied at least up to the offset of the trigger.
        trigger: The decision to retrain.
        context: Whether to include all examples that are current at the trigger.

    Raises:
        UnusableCopy: The copy is damaged, or is not of the journal that the trigger was made from.
    """
    start = min((span.start for span in trigger.spans), default=0)
    end = max((span.end for span in trigger.spans), default=0)
    decided = max(end, trigger.offset + 1)
    window = journal.examples_between(start, end)
    named = journal.examples_at(named_offsets(trigger))
    holdout = (named[offset] for offset in trigger.holdout_old + trigger.holdout_recent)
    try:
        return build(
            trigger,
            window,
            named,
            later=journal.latest_examples({example.key for _, example in window}, end, decided),
            trained_texts=journal.trained_texts(holdout, start),
            context=journal.current_examples(decided) if context else (),
        )
    except UnusableCopy:
        raise
    except Corrupt as error:  # examples that SQLite lost without an error, or another journal
        raise UnusableCopy(str(error)) from error


def config_of(trigger: Trigger, machine: Mapping[str, Any]) -> RecipeConfig:
    """The configuration of the recipe for a trigger; nothing in `machine` changes the result.

    Raises:
        BadData: The trigger has a value that the recipe does not take.
    """
    kind = config_class(trigger.model)
    decisive = {name: trigger.recipe[name] for name in decisive_fields(kind) if name in trigger.recipe}
    try:
        return msgspec.convert(decisive | dict(machine) | {"seed": trigger.seed}, kind)
    except msgspec.ValidationError as error:
        raise BadData(
            f"the recipe of trigger {trigger.id} is not one of {trigger.model}: {error}; correct the policy file"
        ) from error


def _training_request(trigger: Trigger) -> TrainingRequest:
    """The version that a trigger asks for."""
    return TrainingRequest(
        model=trigger.model,
        version=trigger.version,
        parent=trigger.parent,
        trigger=trigger.id,
        reason=trigger.reason,
        spans=trigger.spans,
        decided_ms=trigger.at_ms,
        measures=trigger.measures,
        labels=trigger.labels,
    )


# ---- the program


def main() -> None:
    """Read a request from standard input, and execute it."""
    serve(RunRequest, lambda request, on_progress, _send: execute(request, on_progress), log)


if __name__ == "__main__":
    main()
