"""The recipe of each model: the module that trains it. It is imported on first use, since torch takes seconds.

dataset, parent or base, configuration ──> Recipe.run ──> the folder of a version, a Report
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from schemas.models import load, model_spec
from schemas.recipes.base import RecipeConfig
from schemas.scores import TaskScores
from schemas.versions import Manifest
from trainers.core.dataset import Dataset
from trainers.core.holdout import Holdout
from trainers.core.loop import Checkpointer
from trainers.core.phases import NOT_MEASURED, Phases
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report


class Recipe(Protocol):
    """The interface of a recipe module.

    Attributes:
        BASE_ARCHITECTURE: Architecture of its base model: `distilbert` or `phi3`, see
            `trainers.bases.resolve.resolve`.
        NEEDS_GRAPH_CONTEXT: Whether it uses `Dataset.context`.
        PIPELINE: The pipeline tag of its models on the Hugging Face hub.
    """

    BASE_ARCHITECTURE: str
    NEEDS_GRAPH_CONTEXT: bool
    PIPELINE: str

    def run(
        self,
        data: Dataset,
        labels: Sequence[str],
        base: Path,
        parent: Path | None,
        config: RecipeConfig,
        folder: Path,
        on_progress: ProgressCallback,
        *,
        checkpointer: Checkpointer | None = None,
        phases: Phases = NOT_MEASURED,
    ) -> Report:
        """Train one version and write it to a folder.

        Args:
            data: At least one training example.
            labels: The labels that the version must know, in addition to those of its parent.
            base: Folder of the base model.
            parent: Folder of the version to start from, which is not changed; None: start from the base model.
            config: The configuration of the recipe.
            folder: Where the version is written; exists and is empty.
            on_progress: Called after every step; an exception that it raises ends the run.
            checkpointer: Loads and saves the checkpoint of the run; None for no checkpoints.
            phases: Measures how long each phase takes.

        Returns:
            Scores, history and details. Equal arguments on the same machine type give equal files.

        Raises:
            ArithmeticError: The loss is not finite.
            BadConfiguration: The parent does not match the base model or the configuration.
        """

    def evaluate(
        self,
        holdout: Holdout,
        parts: Sequence[Sequence[int]],
        version: Path,
        base: Path,
        config: RecipeConfig,
        on_progress: ProgressCallback,
    ) -> list[dict[str, TaskScores]]:
        """Score a version on parts of a holdout, as a run scores its parent.

        Args:
            holdout: At least one example; the version was trained on none of them.
            parts: Indices of the examples of each part; a part may be empty.
            version: Folder of the version.
            base: Folder of the base model.
            config: With which it was trained.
            on_progress: Called after every step; what it raises ends the work.

        Returns:
            Task -> scores, of each part. A task that the version does not have may be missing.
        """

    def introduction(self, manifest: Manifest) -> str:
        """What a version does and how to use it, in Markdown, for the model card."""


def recipe(model: str) -> Recipe:
    """The recipe of a model.

    Raises:
        BadConfiguration: There is no such model.
    """
    return cast(Recipe, load(model_spec(model).recipe))
