"""What a run of a recipe returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.scores import Evaluation
from trainers.core.history import History


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of a recipe found out.

    Attributes:
        labels: The labels that the version knows, in the order of its head.
        candidate: Its scores on `old`, `recent` and `holdout`, for each of its tasks.
        champion: The parent's scores on the same examples, and on `prequential`; empty without a parent.
        trivial_baseline: Scores on `holdout` of a trivial predictor, which a first version must beat.
        baselines: Simple baseline, trained on the same examples -> its scores on `holdout`.
        history: Losses, and scores during training.
        details: What else the recipe reports, as JSON types.
    """

    labels: tuple[str, ...]
    candidate: Evaluation
    champion: Evaluation = {}
    trivial_baseline: Evaluation
    baselines: Mapping[str, Evaluation] = {}
    history: History = msgspec.field(default_factory=History)
    details: dict[str, Any] = {}
