"""The recipe of each model: the module that trains it, imported when it is asked for (torch takes seconds).

examples, parent or none, configuration with seed ──> run ──> a version's folder, a Report
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from schemas.errors import BadConfiguration
from schemas.versions import Manifest
from trainers.core.config import RecipeConfig
from trainers.core.dataset import Dataset
from trainers.core.loop import Checkpointer
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report

MODULES: Mapping[str, str] = {
    "distilbert-mitre": "trainers.models.distilbert.recipe",
    "phi3-mitre-lora": "trainers.models.phi3_lora.recipe",
    "gnn-threat": "trainers.models.gnn.recipe",
}


class Recipe(Protocol):
    """What a recipe's module has.

    Attributes:
        BASE_KIND: Architecture of its base model; see `trainers.bases.resolve.resolve`.
        CONTEXT: Whether it wants `Dataset.context`.
        PIPELINE: Its task as model hubs name it.
    """

    BASE_KIND: str
    CONTEXT: bool
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
    ) -> Report:
        """Train one version; see `trainers.models.distilbert.recipe.run`."""

    def introduction(self, manifest: Manifest) -> str:
        """What a version does and how it is used, in Markdown."""


def recipe(model: str) -> Recipe:
    """The recipe of a model.

    Raises:
        BadConfiguration: There is no such model.
    """
    if model not in MODULES:
        raise BadConfiguration(f"there is no model {model!r}: choose one of {', '.join(MODULES)}")
    return cast(Recipe, importlib.import_module(MODULES[model]))
