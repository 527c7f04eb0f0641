"""A version scored on a holdout, in a process of its own: the request, and the file with its answer.

An equal request has an equal answer, which is then not computed again. See `execute_evaluation` for the work.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from schemas.codec import decode, encode
from schemas.errors import BadRecord
from schemas.scores import TaskScores
from trainers.core.progress import ProgressCallback
from trainers.runs.run_process import follow
from transport.files import write_atomically

MODULE = "trainers.runs.execute_evaluation"
"""What the process runs."""

PartScores = list[dict[str, TaskScores]]
"""Task -> scores, of each part of a holdout."""


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A version to score.

    Attributes:
        model: Name of the model.
        folder: Of the version.
        manifest_sha256: Of the manifest of the version.
        machine: The fields of the recipe that belong to this machine.
        cache_dir: Folder of converted base models.
        holdout_copy: SQLite file of `trainers.store.journal_copy` with the holdout.
        known_copy: The same, with what the version could know.
        end: Journal offset at which both end.
        offsets: Of the holdout.
        parts: Indices into `offsets`.
        output: The file of the scores.
        log_level: Lowest level of log lines to send, as in `logging`.
    """

    model: str
    folder: str
    manifest_sha256: str
    machine: dict[str, Any]
    cache_dir: str
    holdout_copy: str
    known_copy: str
    end: int
    offsets: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    output: str
    log_level: int = logging.INFO

    @property
    def title(self) -> str:
        """What it is about, for the log."""
        return f"scoring of {self.model} {Path(self.folder).name}"

    @property
    def digest(self) -> str:
        """32 hex digits, equal for what has equal scores."""
        decisive = (self.model, self.manifest_sha256, self.end, self.offsets, self.parts)
        return hashlib.blake2b(msgspec.json.encode(decisive), digest_size=16).hexdigest()


Evaluate = Callable[[EvaluationRequest, ProgressCallback], None]
"""Scores the version of a request and writes the file of its scores, here or in another process."""


class _Scores(msgspec.Struct, frozen=True):
    """The file of the scores."""

    digest: str
    parts: PartScores


def evaluate_in_process(request: EvaluationRequest, on_progress: ProgressCallback) -> None:
    """Score a version in a process of its own.

    Args:
        request: What to score.
        on_progress: Called after every step, and in between; an exception that it raises ends the process.

    Raises:
        RunFailed: It failed, or was killed; see `trainers.runs.failures`.
    """
    follow(MODULE, request, on_progress)


def save_scores(request: EvaluationRequest, parts: PartScores) -> None:
    """Write the answer to a request."""
    write_atomically(Path(request.output), encode(_Scores(request.digest, parts)))


def saved_scores(request: EvaluationRequest) -> PartScores | None:
    """The answer to an equal request; None if there is none."""
    try:
        found: _Scores = decode(Path(request.output).read_bytes(), _Scores)
    except (FileNotFoundError, BadRecord):
        return None
    return found.parts if found.digest == request.digest else None
