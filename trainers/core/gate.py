"""The gate: whether a candidate may become the champion. Both are compared on the same holdout examples.

    split                        compared                                           margin, at least
    old, recent (each with at    every metric (micro F1, recall@20, ...)            `margin`
    least `min_examples`)        F1 of every label with `min_support` examples      `label_margin`

If one of the two splits has fewer than `min_examples`, they are compared together, as `holdout`.

Each task of a model is compared separately. A task with fewer than `min_examples` holdout examples is skipped. If
all tasks are skipped, the candidate is refused.

A first version has no champion to compare with. Each of its metrics must exceed that of a trivial predictor by
`FIRST_GAIN`; for labels, the trivial predictor always predicts the most frequent ones.

**Margins and noise.** An F1 over n examples has a standard error of about sqrt(F1 (1 - F1) / n), as a proportion
has. With a fixed margin, good candidates would be refused by chance where n is small. So the margin is the larger
one of the fixed margin and the standard error: one standard error for a metric of a split, two for a label, since
there are many labels and a single failure refuses the candidate. Candidate and champion are scored on the same
examples, which makes the error of their difference smaller than this. The margin therefore errs on the side of
promoting an equal candidate.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.policy import GateLimits
from schemas.scores import HOLDOUT, OLD, RECENT, Evaluation, TaskScores, proportion_error
from schemas.versions import GateCheck

FIRST_GAIN = 0.05
"""By how much a first version must exceed a trivial predictor, in every metric."""
LABEL_ERRORS = 2.0
"""The margin of a label is at least this number of standard errors."""


def compare(candidate: Evaluation, champion: Evaluation, limits: GateLimits) -> tuple[GateCheck, ...]:
    """Compare a candidate with the champion; it is promoted if all checks pass.

    Args:
        candidate: Scores on the splits `old`, `recent` and `holdout` of each task of the candidate.
        champion: Scores on the same examples.
        limits: The tolerances.

    Returns:
        At least one check; a single failed one if no task has enough holdout examples.
    """
    checks: list[GateCheck] = []
    for task in _compared_tasks(candidate, limits):
        splits = [OLD, RECENT]
        if any(candidate[task][split].examples < limits.min_examples for split in splits):
            splits = [HOLDOUT]
        for split in splits:
            checks += _split_checks(f"{task}/{split}", candidate[task][split], champion[task][split], limits)
    return tuple(checks) or (_not_enough_examples(candidate, limits),)


def compare_first(candidate: Evaluation, trivial_baseline: Evaluation, limits: GateLimits) -> tuple[GateCheck, ...]:
    """Compare a first version with a trivial predictor; it is promoted if all checks pass.

    Args:
        candidate: Scores on the split `holdout` of each task of the candidate.
        trivial_baseline: Scores on the same examples.
        limits: The tolerances.

    Returns:
        At least one check; a single failed one if no task has enough holdout examples.
    """
    checks: list[GateCheck] = []
    for task in _compared_tasks(candidate, limits):
        scores, trivial = candidate[task][HOLDOUT], trivial_baseline[task][HOLDOUT]
        for metric, value in scores.metrics.items():
            baseline = trivial.metrics.get(metric, 0.0)
            checks.append(_check(f"{task}/first/{metric}", baseline, value, -FIRST_GAIN, scores.examples))
    return tuple(checks) or (_not_enough_examples(candidate, limits),)


def _compared_tasks(candidate: Evaluation, limits: GateLimits) -> list[str]:
    """The tasks whose holdout is large enough to compare."""
    return [t for t, splits in candidate.items() if splits[HOLDOUT].examples >= limits.min_examples]


def why_refused(checks: tuple[GateCheck, ...]) -> str:
    """Describe the failed checks with their numbers; empty if none failed.

    >>> why_refused((GateCheck("tactics/recent/micro_f1", 0.8, 0.7, 0.02, 500, False),))
    'tactics/recent/micro_f1 0.700 is below 0.800 - 0.020 (500 examples)'
    """
    return "; ".join(
        f"{c.name} {c.candidate:.3f} is below {c.champion:.3f} {'+' if c.margin < 0 else '-'} {abs(c.margin):.3f}"
        f" ({c.support} examples)"
        for c in checks
        if not c.passed
    )


def _split_checks(
    name: str, candidate: TaskScores, champion: TaskScores, limits: GateLimits
) -> Iterator[GateCheck]:
    for metric, before in champion.metrics.items():
        margin = max(limits.margin, champion.error(metric))
        after = candidate.metrics.get(metric, 0.0)
        yield _check(f"{name}/{metric}", before, after, margin, candidate.examples)
    for label, known in champion.labels.items():
        if known.support >= limits.min_support:
            margin = max(limits.label_margin, LABEL_ERRORS * proportion_error(known.f1, known.support))
            yield _check(f"{name}/{label}", known.f1, candidate.labels[label].f1, margin, known.support)


def _not_enough_examples(candidate: Evaluation, limits: GateLimits) -> GateCheck:
    """The check that fails if no task has enough holdout examples."""
    most = max((splits[HOLDOUT].examples for splits in candidate.values()), default=0)
    return _check("holdout/examples", float(limits.min_examples), float(most), 0.0, most)


def _check(name: str, champion: float, candidate: float, margin: float, support: int) -> GateCheck:
    return GateCheck(name, champion, candidate, margin, support, candidate >= champion - margin)
