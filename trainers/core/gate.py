"""Whether a candidate may serve: it is compared with the champion on the same holdout examples.

    split                        compared                                           margin at least
    old, recent (each with at    every metric (micro F1, recall@20, ...)            `margin`
    least `min_examples`)        F1 of every label with `min_support` examples      `label_margin`

Every task of a model is judged like this, each where its holdout has `min_examples`; one with fewer is not
judged, and where that leaves none, nothing can be said and the candidate is refused.

A split with fewer than `min_examples` says too little by itself: then old and recent are judged together, as
`holdout`.

The first version has no champion. It must be better by `FIRST_GAIN` in every figure than a trivial predictor
(of labels: naming the most frequent ones for everything).

**Margins and noise.** F1 over n examples varies by about sqrt(F1 (1 - F1) / n) from one sample of n to the
next (a proportion's standard error), so a fixed margin refuses good candidates at small n for no reason. The
margin is therefore the larger of the fixed one and that error: once for the two figures of a split, twice for
each label, of which there are many and one unlucky is enough to refuse. Candidate and champion are judged on
the same examples, which makes the error of their difference smaller than this: the margin leans towards
letting an equal candidate pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from schemas.scores import HOLDOUT, OLD, RECENT, Evaluation, TaskScores, proportion_error
from schemas.versions import GateCheck

FIRST_GAIN = 0.05
LABEL_ERRORS = 2.0
"""Standard errors that a label may lose."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate tolerates.

    Attributes:
        margin: Loss of a figure of a split, 0 to 1.
        label_margin: Loss of F1 of one label, 0 to 1.
        min_examples: Examples that a split needs to be judged by itself.
        min_support: Examples that a label needs to be judged.
    """

    margin: float = 0.02
    label_margin: float = 0.05
    min_examples: int = 50
    min_support: int = 20


def compare(candidate: Evaluation, champion: Evaluation, limits: Limits) -> tuple[GateCheck, ...]:
    """The checks of a candidate against the champion; it is promoted if all pass.

    Args:
        candidate: Scores on the splits `old`, `recent` and `holdout` of each task that the candidate knows.
        champion: Scores on the same examples.
        limits: What the gate tolerates.
    """
    checks: list[GateCheck] = []
    for task in _judged_tasks(candidate, limits):
        splits = [OLD, RECENT]
        if any(candidate[task][split].examples < limits.min_examples for split in splits):
            splits = [HOLDOUT]
        for split in splits:
            checks += _split_checks(f"{task}/{split}", candidate[task][split], champion[task][split], limits)
    return tuple(checks) or (_not_enough_examples(candidate, limits),)


def compare_first(candidate: Evaluation, trivial_baseline: Evaluation, limits: Limits) -> tuple[GateCheck, ...]:
    """The checks of a first version, against a trivial predictor.

    Args:
        candidate: Scores on the split `holdout` of each task that the candidate knows.
        trivial_baseline: Scores on the same examples.
        limits: What the gate tolerates.
    """
    checks: list[GateCheck] = []
    for task in _judged_tasks(candidate, limits):
        scores, trivial = candidate[task][HOLDOUT], trivial_baseline[task][HOLDOUT]
        for metric, value in scores.metrics.items():
            baseline = trivial.metrics.get(metric, 0.0)
            checks.append(_check(f"{task}/first/{metric}", baseline, value, -FIRST_GAIN, scores.examples))
    return tuple(checks) or (_not_enough_examples(candidate, limits),)


def _judged_tasks(candidate: Evaluation, limits: Limits) -> list[str]:
    """The tasks whose holdout is large enough to compare."""
    return [t for t, splits in candidate.items() if splits[HOLDOUT].examples >= limits.min_examples]


def why_refused(checks: tuple[GateCheck, ...]) -> str:
    """The failed checks with their numbers, in a sentence; empty if none failed.

    >>> why_refused((GateCheck("tactics/recent/micro_f1", 0.8, 0.7, 0.02, 500, False),))
    'tactics/recent/micro_f1 0.700 is below 0.800 - 0.020 (500 examples)'
    """
    return "; ".join(
        f"{c.name} {c.candidate:.3f} is below {c.champion:.3f} {'+' if c.margin < 0 else '-'} {abs(c.margin):.3f}"
        f" ({c.support} examples)"
        for c in checks
        if not c.passed
    )


def _split_checks(name: str, candidate: TaskScores, champion: TaskScores, limits: Limits) -> Iterator[GateCheck]:
    for metric, before in champion.metrics.items():
        margin = max(limits.margin, champion.error(metric))
        after = candidate.metrics.get(metric, 0.0)
        yield _check(f"{name}/{metric}", before, after, margin, candidate.examples)
    for label, known in champion.labels.items():
        if known.support >= limits.min_support:
            margin = max(limits.label_margin, LABEL_ERRORS * proportion_error(known.f1, known.support))
            yield _check(f"{name}/{label}", known.f1, candidate.labels[label].f1, margin, known.support)


def _not_enough_examples(candidate: Evaluation, limits: Limits) -> GateCheck:
    """The check that fails where no task has a holdout that is large enough."""
    most = max((splits[HOLDOUT].examples for splits in candidate.values()), default=0)
    return _check("holdout/examples", float(limits.min_examples), float(most), 0.0, most)


def _check(name: str, champion: float, candidate: float, margin: float, support: int) -> GateCheck:
    return GateCheck(name, champion, candidate, margin, support, candidate >= champion - margin)
