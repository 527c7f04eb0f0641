"""What comes out of a run of any recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trainers.core.history import History
from trainers.core.metrics.classification import Scores

Splits = Mapping[str, Scores]
"""Split and task (`old`, `recent_severity`, `holdout`, ...) -> scores; see `trainers.core.metrics.classification`."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a run.

    Attributes:
        labels: That the version knows, in the order of its head.
        candidate: Its scores on `old`, `recent` and `holdout` (both), of each of its tasks.
        champion: The parent's on the same examples, and on `prequential`; empty without a parent.
        floor: Scores on `holdout` of a trivial predictor, which a first version must beat.
        baselines: Simple baseline trained on the same examples -> its scores on `holdout`.
        history: Losses and scores on the way.
        details: What else the recipe found out, as JSON can say it.
    """

    labels: tuple[str, ...]
    candidate: Splits
    champion: Splits = {}
    floor: Splits
    baselines: Mapping[str, Splits] = {}
    history: History = msgspec.field(default_factory=History)
    details: dict[str, Any] = {}
