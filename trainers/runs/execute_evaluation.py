"""Scoring a version on a holdout, as a program; see `evaluation` and `run_process`.

copy of a journal ──> holdout, in parts ───────────────────────┐
folder of a version, copy of its own journal ──> recipe.evaluate ──> scores of each part, in a file
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from trainers.bases.resolve import resolve
from trainers.core.holdout import Holdout
from trainers.core.progress import ProgressCallback
from trainers.models.recipe import recipe
from trainers.runs.child import serve
from trainers.runs.evaluation import MODULE, EvaluationRequest, save_scores
from trainers.settings import config_class
from trainers.store import manifest as manifests
from trainers.store.journal_reader import JournalReader

log = logging.getLogger(MODULE)


def execute(request: EvaluationRequest, on_progress: ProgressCallback) -> None:
    """Score the version of a request, in this process, and write the scores to its file.

    Args:
        request: What to score.
        on_progress: Called after every step; an exception that it raises ends the work.

    Raises:
        UnusableCopy: A copy of the journal is damaged.
        Corrupt: The files of the version were changed.
        BadConfiguration: The base model is not found.
    """
    model_recipe, folder = recipe(request.model), Path(request.folder)
    manifest = manifests.verify(folder)
    config = msgspec.convert(manifest.config | request.machine, config_class(request.model))
    holdout = _holdout(request, context=model_recipe.NEEDS_GRAPH_CONTEXT)
    base = resolve(config.base, Path(request.cache_dir), model_recipe.BASE_ARCHITECTURE)
    parts = model_recipe.evaluate(holdout, request.parts, folder, base.folder, config, on_progress)
    save_scores(request, parts)


def _holdout(request: EvaluationRequest, *, context: bool) -> Holdout:
    with contextlib.closing(JournalReader(Path(request.holdout_copy))) as journal:
        found = journal.examples_at(request.offsets)
        current = journal.current_examples(request.end) if context else []
    known = current
    if context and request.known_copy != request.holdout_copy:
        with contextlib.closing(JournalReader(Path(request.known_copy))) as journal:
            known = journal.current_examples(request.end)
    examples = tuple((offset, found[offset]) for offset in request.offsets)
    return Holdout(examples=examples, current=tuple(current), known=tuple(known))


def main() -> None:
    """Read a request from standard input, and execute it."""
    serve(EvaluationRequest, lambda request, on_progress, _send: execute(request, on_progress), log)


if __name__ == "__main__":
    main()
