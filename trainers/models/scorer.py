"""The scorer of each model: what its champion makes of single examples, for the journal.

    the folder of a version ──load_scorer──> Scorer ──score(example)──> losses, projection

Equal examples and versions give equal scores on a machine: each example is computed by itself, so it does not count
what else there is to score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from schemas.journal import ExampleScore
from schemas.models import load, model_spec
from trainers.core.dataset import OffsetExample


class Scorer(Protocol):
    """A version in memory."""

    def score(self, example: OffsetExample, /) -> ExampleScore | None:
        """Score an example.

        Args:
            example: No retraction.

        Returns:
            Its losses and the projection; None if it has nothing that this version can be judged on.
        """


def load_scorer(model: str, folder: Path, cache_dir: Path) -> Scorer:
    """Load a version of a model.

    Args:
        model: Its name.
        folder: Of the version.
        cache_dir: Folder of converted base models.

    Raises:
        BadConfiguration: There is no such model, or a base model is not found.
    """
    return cast(Scorer, load(model_spec(model).scorer)(folder, cache_dir))
