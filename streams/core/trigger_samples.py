"""The samples that a trigger names: rehearsal and holdout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schemas.policy import MAX_SAMPLE, Policy
from streams.core.sampling import BottomK, StratifiedBottomK, sample_stratified, sample_uniform


class TriggerSamples(NamedTuple):
    """Journal offsets; see `schemas.windows.Trigger`."""

    rehearsal: tuple[int, ...]
    holdout_old: tuple[int, ...]
    holdout_recent: tuple[int, ...]


def draw_samples(
    policy: Policy, number: int, start: int, train_sample: StratifiedBottomK, holdout_sample: BottomK
) -> TriggerSamples:
    """Draw the samples of a trigger.

    Args:
        policy: Gives their sizes and the seed.
        number: Of the trigger; it is the salt, so each trigger has its own samples.
        start: Journal offset of its first window.
        train_sample: Keys of training examples.
        holdout_sample: Keys of holdout examples.
    """
    holdout = list(holdout_sample.offsets.items())

    def sample_holdout(candidates: Iterable[tuple[int, int]]) -> tuple[int, ...]:
        return sample_uniform(candidates, min(policy.holdout_examples, MAX_SAMPLE), policy.seed, number)

    rehearsal_examples = min(policy.rehearsal_examples, MAX_SAMPLE)
    return TriggerSamples(
        rehearsal=sample_stratified(train_sample.before(start), rehearsal_examples, policy.seed, number),
        holdout_old=sample_holdout(pair for pair in holdout if pair[1] < start),
        holdout_recent=sample_holdout(pair for pair in holdout if pair[1] >= start),
    )
