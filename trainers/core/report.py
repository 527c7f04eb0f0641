"""What a run of a recipe returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.scores import Evaluation
from trainers.core.history import History


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run of a recipe.

    Attributes:
        labels: The labels that the version knows, in the order of its head.
        candidate: Scores of the new version on `old`, `recent` and `holdout`, for each of its tasks.
        champion: Scores of the parent on the same examples, and on `prequential`; empty without a parent.
        trivial_baseline: Scores of a trivial predictor on `holdout`, which a first version must beat.
        baselines: Simple model, trained on the same examples -> its scores on `holdout`.
        history: The loss of every step, and the scores during training.
        details: What else the recipe reports, as JSON types.
    """

    labels: tuple[str, ...]
    candidate: Evaluation
    champion: Evaluation = {}
    trivial_baseline: Evaluation
    baselines: Mapping[str, Evaluation] = {}
    history: History = msgspec.field(default_factory=History)
    details: dict[str, Any] = {}
