"""Whether a candidate may serve: it is compared with the champion on the same holdout examples.

    split                        compared                                           margin at least
    old, recent (each with at    every figure (micro F1, recall@20, ...)            `margin`
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

from collections.abc import Iterator, Mapping

import msgspec

from schemas.versions import GateCheck
from trainers.core.metrics.classification import Scores, proportion_error, tasks_of

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


def compare(
    candidate: Mapping[str, Scores], champion: Mapping[str, Scores], limits: Limits
) -> tuple[GateCheck, ...]:
    """The checks of a candidate against the champion; it is promoted if all passed.

    Args:
        candidate, champion: Scores of the splits `old`, `recent` and `holdout` (both together) of each task that
            the candidate knows, on the same examples.
    """
    checks: list[GateCheck] = []
    for task in _judged_tasks(candidate, limits):
        splits = [f"old{task}", f"recent{task}"]
        if any(candidate[split].examples < limits.min_examples for split in splits):
            splits = [f"holdout{task}"]
        for split in splits:
            checks += _split_checks(split, candidate[split], champion[split], limits)
    return tuple(checks) or (_enough(candidate, limits),)


def first(candidate: Mapping[str, Scores], floor: Mapping[str, Scores], limits: Limits) -> tuple[GateCheck, ...]:
    """The checks of a first version, against a trivial predictor.

    Args:
        candidate, floor: Scores of the split `holdout` of each task that the candidate knows.
    """
    checks: list[GateCheck] = []
    for task in _judged_tasks(candidate, limits):
        ours, theirs = candidate[f"holdout{task}"], floor[f"holdout{task}"]
        for figure, value in ours.figures.items():
            name = f"first{task}/{_shown(figure)}"
            checks.append(_check(name, theirs.figures.get(figure, 0.0), value, -FIRST_GAIN, ours.examples))
    return tuple(checks) or (_enough(candidate, limits),)


def _judged_tasks(candidate: Mapping[str, Scores], limits: Limits) -> list[str]:
    """The tasks with a holdout that is large enough to say something."""
    return [t for t in tasks_of(candidate) if candidate[f"holdout{t}"].examples >= limits.min_examples]


def why_refused(checks: tuple[GateCheck, ...]) -> str:
    """The failed checks with their numbers, in a sentence; empty if none failed.

    >>> why_refused((GateCheck("recent/micro-f1", 0.8, 0.7, 0.02, 500, False),))
    'recent/micro-f1 0.700 is below 0.800 - 0.020 (500 examples)'
    """
    return "; ".join(
        f"{c.name} {c.candidate:.3f} is below {c.champion:.3f} {'+' if c.margin < 0 else '-'} {abs(c.margin):.3f}"
        f" ({c.support} examples)"
        for c in checks
        if not c.passed
    )


def _split_checks(split: str, candidate: Scores, champion: Scores, limits: Limits) -> Iterator[GateCheck]:
    for figure, before in champion.figures.items():
        margin = max(limits.margin, champion.error(figure))
        after = candidate.figures.get(figure, 0.0)
        yield _check(f"{split}/{_shown(figure)}", before, after, margin, candidate.examples)
    for label, known in champion.labels.items():
        if known.support >= limits.min_support:
            margin = max(limits.label_margin, LABEL_ERRORS * proportion_error(known.f1, known.support))
            yield _check(f"{split}/{label}", known.f1, candidate.labels[label].f1, margin, known.support)


def _shown(figure: str) -> str:
    return figure.replace("_", "-")


def _enough(candidate: Mapping[str, Scores], limits: Limits) -> GateCheck:
    """The check that fails where no task's holdout is large enough."""
    most = max((candidate[f"holdout{task}"].examples for task in tasks_of(candidate)), default=0)
    return _check("holdout/examples", float(limits.min_examples), float(most), 0.0, most)


def _check(name: str, champion: float, candidate: float, margin: float, support: int) -> GateCheck:
    return GateCheck(name, champion, candidate, margin, support, candidate >= champion - margin)
