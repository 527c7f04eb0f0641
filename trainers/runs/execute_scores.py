"""Scoring, as a program: from the request of a trainer to scored examples; see `scoring` and `run_process`.

request ──> journal copy ──> examples ──> champion ──> Scored, at most `BATCH` examples each
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from schemas.journal import ExampleScore
from trainers.core.batching import in_batches
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.models.scorer import load_scorer
from trainers.runs.child import Send, serve
from trainers.runs.run_process import Scored
from trainers.store.journal_reader import JournalReader
from trainers.store.unscored import holdout_sample, to_score

MODULE = "trainers.runs.execute_scores"
log = logging.getLogger(MODULE)

BATCH = 64
"""Examples of one message, and of one journal record: 10 KB."""


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Examples to score.

    Attributes:
        model: Name of the model.
        version: The champion.
        folder: Its folder.
        cache_dir: Folder of converted base models.
        journal_copy: SQLite file of `trainers.store.journal_copy`.
        start, end: Range of journal offsets of the new examples.
        every: One in so many of them is scored.
        limit: The most new examples to score.
        reference: The number of holdout examples before `start` to score first; 0: none.
        reference_start: Those of them with a lower offset have been scored.
        log_level: Lowest level of log lines to send, as in `logging`.
    """

    model: str
    version: str
    folder: str
    cache_dir: str
    journal_copy: str
    start: int
    end: int
    every: int
    limit: int
    reference: int = 0
    reference_start: int = 0
    log_level: int = logging.INFO

    @property
    def title(self) -> str:
        """What it is about, for the log."""
        return f"scoring of {self.model} with {self.version}"


def execute(request: ScoreRequest, on_progress: ProgressCallback, send: Send) -> None:
    """Score the examples of a request, in this process.

    Args:
        request: What to score.
        on_progress: Called after every example; an exception that it raises ends the work.
        send: Gets the examples that were scored, in order: the reference, then the new ones.

    Raises:
        UnusableCopy: The copy of the journal is damaged.
        Exception: The version can't be loaded.
    """
    with contextlib.closing(JournalReader(Path(request.journal_copy))) as journal:
        sample = holdout_sample(journal, request.start, request.reference) if request.reference else []
        reference = [each for each in sample if each[0] >= request.reference_start]
        new = to_score(journal, request.start, request.end, request.every, request.limit)
    if not reference and not new:
        return
    scorer = load_scorer(request.model, Path(request.folder), Path(request.cache_dir))
    done, steps = 0, len(reference) + len(new)
    for is_reference, examples in ((True, reference), (False, new)):
        for batch in in_batches(examples, BATCH):
            scored = list[ExampleScore]()
            for example in batch:
                if found := scorer.score(example):
                    scored.append(found)
                done += 1
                on_progress(RunProgress("scoring new examples", done, steps))
            if scored:
                send(Scored(tuple(scored), is_reference))


def main() -> None:
    """Read a request from standard input, and execute it."""
    import torch

    torch.set_num_threads(1)  # the same numbers on every machine of a kind, and room for others

    serve(ScoreRequest, execute, log)


if __name__ == "__main__":
    main()
