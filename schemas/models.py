"""The table of models: everything that has one entry per model is looked up here.

To add a model, append a `ModelSpec` and write the modules that it names: CONTRIBUTING.md has the steps.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.errors import BadConfiguration
from schemas.events import Entity, Relationship, Report, Technique, Template
from schemas.policy import Policy
from schemas.recipes.base import RecipeConfig, recipe_values
from schemas.recipes.distilbert import DistilbertConfig
from schemas.recipes.gnn import GnnConfig
from schemas.recipes.phi3_lora import Phi3LoraConfig


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model.

    References are written `package.module:attribute`, because each side of the system may import only its own;
    `load` resolves them.

    Attributes:
        name: Also the key of its records and the name of its folder.
        partition: Its partition in the topics that have one per model; never changed once records exist.
        learns_from: Types of the events that it may learn from.
        policy: The rules of its journal before the first policy record.
        projection: `(event, clean) -> Projection | None`, see `streams.core.projections.base.Project`.
        recipe: The module that trains it, see `trainers.models.recipe`.
        predictor: `(folder) -> Predictor`: loads a version, see `trainers.models.predictor`.
        scorer: `(folder, cache_dir) -> Scorer`: loads a version that scores single examples, see
            `trainers.models.scorer`.
        config: The frozen struct that configures the recipe, see `schemas.recipes`.
        variable: What stands for the recipe in the names of environment variables: `SX9_TRAINER_<variable>_EPOCHS`.
    """

    name: str
    partition: int
    learns_from: tuple[type, ...]
    policy: Policy
    projection: str
    recipe: str
    predictor: str
    scorer: str
    config: type[RecipeConfig]
    variable: str


MODEL_SPECS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="distilbert-mitre",
        partition=0,
        learns_from=(Technique, Relationship, Template, Report),
        policy=Policy(
            score_every=1,
            input_drift_threshold=0.15,
            performance_drift_threshold=50.0,
            retrains_per_day=48,
            breaker_refusals=3,
            corrections_examples=200,
            run_examples=2_000,
            recipe=recipe_values(DistilbertConfig()),
        ),
        projection="streams.core.projections.tactics:project",
        recipe="trainers.models.distilbert.recipe",
        predictor="trainers.models.distilbert.predict:load",
        scorer="trainers.models.distilbert.score:load",
        config=DistilbertConfig,
        variable="DISTILBERT",
    ),
    ModelSpec(
        name="phi3-mitre-lora",
        partition=1,
        learns_from=(Technique, Relationship),
        # ATT&CK 17.1 gives it 3,800 training examples, each of which costs as much as a hundred of the others'.
        policy=Policy(
            window_examples=200,
            retrain_examples=500,
            champion_age_s=60 * 86_400.0,
            cooldown_s=86_400.0,
            drift_min_support=300,
            rehearsal_examples=200,
            holdout_examples=200,
            score_every=4,
            input_drift_window=100,
            input_drift_threshold=0.25,
            performance_drift_threshold=50.0,
            retrains_per_day=8,
            breaker_refusals=3,
            corrections_examples=100,
            run_examples=400,
            recipe=recipe_values(Phi3LoraConfig()),
        ),
        projection="streams.core.projections.instructions:project",
        recipe="trainers.models.phi3_lora.recipe",
        predictor="trainers.models.phi3_lora.predict:load",
        scorer="trainers.models.phi3_lora.score:load",
        config=Phi3LoraConfig,
        variable="PHI3_LORA",
    ),
    ModelSpec(
        name="gnn-threat",
        partition=2,
        learns_from=(Technique, Relationship, Entity),
        # ATT&CK 17.1 gives it 1,600 nodes and 18,000 links. Without the links there is nothing to learn, so the
        # first version waits until most of them are there.
        policy=Policy(
            window_examples=1_000,
            bootstrap_examples=8_000,
            retrain_examples=2_000,
            champion_age_s=60 * 86_400.0,
            staleness_examples=200,
            cooldown_s=6 * 3_600.0,
            drift_window=2_000,
            drift_min_support=1_500,
            drift_every=200,
            drift_threshold=0.4,
            drift_rearm=0.25,
            taxonomy_examples=200,
            reservoir=16_384,
            rehearsal_examples=2_000,
            holdout_examples=2_000,
            score_every=2,
            input_drift_threshold=0.3,
            performance_drift_threshold=50.0,
            retrains_per_day=12,
            breaker_refusals=3,
            corrections_examples=400,
            run_examples=100_000,
            recipe=recipe_values(GnnConfig()),
        ),
        projection="streams.core.projections.graph:project",
        recipe="trainers.models.gnn.recipe",
        predictor="trainers.models.gnn.predict:load",
        scorer="trainers.models.gnn.score:load",
        config=GnnConfig,
        variable="GNN",
    ),
)
MODELS: tuple[str, ...] = tuple(spec.name for spec in MODEL_SPECS)
"""The names, in the order of the table."""
_BY_NAME = {spec.name: spec for spec in MODEL_SPECS}


def model_spec(name: str) -> ModelSpec:
    """The entry of a model.

    Raises:
        BadConfiguration: There is no model of that name.
    """
    if name not in _BY_NAME:
        raise BadConfiguration(f"there is no model {name!r}: choose one of {', '.join(MODELS)}")
    return _BY_NAME[name]


def completed(name: str, policy: Policy) -> Policy:
    """A policy of a model with every field of its recipe: those that it leaves out have the defaults of today."""
    return msgspec.structs.replace(policy, recipe=recipe_values(model_spec(name).config()) | policy.recipe)


def load(reference: str) -> Any:
    """Import what a reference names: a module, or an attribute of one.

    >>> load("schemas.models:MODELS")[0]
    'distilbert-mitre'
    """
    module, _, attribute = reference.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
