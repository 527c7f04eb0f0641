"""One holdout for versions of several lineages, and how sure a difference on it is.

    copy of the whole journal ──> examples held out ──> without texts that anyone was trained on ──> parts
    scores on each part, of two sides ──> difference, with its standard error

No lineage is trained on what is held out, because the hash of the key decides the side. A text that a training
example of the journal has too, under another key, is dropped: one of the sides may have learnt it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from schemas.errors import RetryLater
from schemas.journal import Example, key_hash
from schemas.scores import TaskScores
from sx9_ml_models.rebuild.run import Rebuild
from trainers.core.dataset import OffsetExample, text_hash
from trainers.runs.evaluation import Evaluate, EvaluationRequest, PartScores, saved_scores
from trainers.runs.failures import RunFailed
from trainers.runs.progress import progress_bars
from trainers.settings import load_machine_fields
from trainers.store.journal_reader import JournalReader
from trainers.store.manifest import MANIFEST
from trainers.store.unscored import holdout_sample
from transport.files import sha256_of

GROUPS = 20
"""Groups of the jackknife, by the hash of the group of an example: what belongs together is left out together."""
SCORES = "scores"
"""Folder of the scores of a rebuild."""
_HOLDOUT_PER_MILLE = 1_000

Parts = tuple[tuple[int, ...], ...]


def common_holdout(copy: Path, end: int, size: int) -> list[OffsetExample]:
    """The holdout of a journal at an offset: current examples, at most `size`, chosen by the hashes of their keys.

    Args:
        copy: The copy of the journal.
        end: The offset.
        size: At least 1.
    """
    reader = JournalReader(copy)
    try:
        sample = holdout_sample(reader, end, size)
        trained = reader.trained_texts((example for _, example in sample), end)
    finally:
        reader.close()
    return [each for each in sample if not each[1].text or text_hash(each[1].text) not in trained]


def with_each_group_left_out(examples: Sequence[OffsetExample], part: Sequence[int]) -> Parts:
    """A part, and the same without each of its groups; see `standard_error`."""
    groups = {i: group_of(examples[i][1]) for i in part}
    without = (tuple(i for i in part if groups[i] != group) for group in sorted(set(groups.values())))
    return (tuple(part), *without)


def group_of(example: Example) -> int:
    """The group of an example in the jackknife, 0 to `GROUPS` - 1."""
    return key_hash(example.group or example.key) // _HOLDOUT_PER_MILLE % GROUPS


def standard_error(left_out: Sequence[float]) -> float | None:
    """The standard error of a statistic by the delete-a-group jackknife (Kott 2001).

    Args:
        left_out: The statistic without each of the groups.

    Returns:
        None for fewer than two groups: then nothing is known of it.

    >>> standard_error([0.25, 0.5, 0.75])
    0.28867513459481287
    """
    number = len(left_out)
    if number < 2:
        return None
    mean = math.fsum(left_out) / number
    return math.sqrt((number - 1) / number * math.fsum((value - mean) ** 2 for value in left_out))


def value_of(scores: dict[str, TaskScores], task: str, metric: str) -> float:
    """A metric of a task; 0 for a version that does not have the task: it answers none of it."""
    return scores[task].metrics.get(metric, 0.0) if task in scores else 0.0


def score_version(
    rebuild: Rebuild,
    version: str,
    holdout: Sequence[OffsetExample],
    parts: Parts,
    whole_copy: Path,
    evaluate: Evaluate,
) -> PartScores:
    """Score a version of a rebuild on parts of a holdout, unless that was done.

    Args:
        rebuild: Has the version.
        version: Its name.
        holdout: The examples, at least one.
        parts: Indices into the examples.
        whole_copy: The copy of the journal that the holdout is from.
        evaluate: Does it.

    Raises:
        RetryLater: It failed; the next call does it again.
    """
    model, registry = rebuild.model, rebuild.registry
    folder = registry.folder(model, version)
    request = EvaluationRequest(
        model=model,
        folder=str(folder),
        manifest_sha256=sha256_of(folder / MANIFEST),
        machine=load_machine_fields(model),
        cache_dir=str(rebuild.cache_dir),
        holdout_copy=str(whole_copy),
        known_copy=str(rebuild.copy_path),
        end=rebuild.end,
        offsets=tuple(offset for offset, _ in holdout),
        parts=parts,
        output="",
        log_level=logging.getLogger().getEffectiveLevel(),
    )
    output = rebuild.copy_path.parent / SCORES / f"{version}-{request.digest}.json"
    request = msgspec.structs.replace(request, output=str(output))
    if (found := saved_scores(request)) is not None:
        return found
    try:
        with progress_bars(version, threading.Event()) as on_progress:
            evaluate(request, on_progress)
    except RunFailed as error:
        raise RetryLater(
            f"scoring {model} {version} on the holdout failed ({error}); call it again to continue"
        ) from error
    found = saved_scores(request)
    if found is None:
        raise RetryLater(f"{request.output} is missing or damaged; call it again to continue")
    return found
