"""Settings of a trainer: the one place under `trainers` that reads the environment.

Every field is an environment variable with the prefix `SX9_TRAINER_` (`SX9_TRAINER_MARGIN=0.03`), and so is every
field of a recipe's configuration, with the recipe's name between (`SX9_TRAINER_GNN_EPOCHS=3`); the folders and the
address are shared with the streaming side and have its names (`SX9_OUTPUT_DIR`). Unknown `SX9_TRAINER_` names are
refused, so that a typing error is not a silent default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import BadConfiguration
from schemas.models import MODELS, load, model_spec
from trainers.core.config import RecipeConfig, with_values
from trainers.core.gate import Limits

PREFIX = "SX9_TRAINER_"
SHARED = {
    name: f"SX9_{name}".upper()
    for name in ("output_dir", "state_dir", "cache_dir", "bind", "neo4j_uri", "neo4j_user", "neo4j_password")
}
"""Field -> its name without `TRAINER_`, the one that the streaming side reads too."""
FOREIGN = {"mlflow_tracking_uri": "MLFLOW_TRACKING_URI"}
"""Field -> a name that isn't ours, under which everybody knows it."""


def _shared(name: str, default: Any, description: str) -> Any:
    return Field(default, validation_alias=(SHARED | FOREIGN)[name], description=description)


class TrainerSettings(BaseSettings):
    """What a trainer needs to know beside its recipe's configuration; frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    output_dir: Path = _shared("output_dir", Path("output"), "models are written to its folder models/")
    state_dir: Path = _shared("state_dir", Path(".sx9"), "local copy of the journal, failed attempts")
    cache_dir: Path = _shared("cache_dir", Path(platformdirs.user_cache_dir("sx9")), "converted base models")
    bind: str = _shared("bind", "127.0.0.1", "address that the metrics server listens on")

    neo4j_uri: str | None = _shared("neo4j_uri", None, "bolt://host:port of the Neo4j that gets node embeddings")
    neo4j_user: str = _shared("neo4j_user", "neo4j", "its user")
    neo4j_password: SecretStr = _shared("neo4j_password", SecretStr(""), "its password; empty: no authentication")

    mlflow_tracking_uri: str | None = _shared(
        "mlflow_tracking_uri", None, "an MLflow server, http://host:port, that gets runs and versions as well"
    )

    margin: float = Field(0.02, ge=0, le=1, description="loss of a figure (macro F1, ...) that the gate lets pass")
    label_margin: float = Field(0.05, ge=0, le=1, description="loss of one label's F1 that the gate lets pass")
    min_holdout: int = Field(50, ge=1, description="holdout examples that the gate needs to judge")
    min_support: int = Field(20, ge=1, description="holdout examples that a label needs to be judged by itself")

    max_attempts: int = Field(3, ge=1, description="failed runs after which a trigger is answered as refused")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0: a free one, printed at start")
    max_poll_interval_ms: int = Field(
        300_000, ge=1_000, description="a trainer that is silent for longer loses its partition; runs may be longer"
    )

    @property
    def models_dir(self) -> Path:
        """Folder of the registry."""
        return self.output_dir / "models"

    @property
    def trainer_dir(self) -> Path:
        """Folder of what a trainer keeps for itself."""
        return self.state_dir / "trainer"

    @property
    def limits(self) -> Limits:
        """What the gate tolerates."""
        return Limits(
            margin=self.margin,
            label_margin=self.label_margin,
            min_examples=self.min_holdout,
            min_support=self.min_support,
        )


def load_trainer_settings(**overrides: object) -> TrainerSettings:
    """Read the settings from the environment.

    Args:
        overrides: Field values that win over the environment (command-line options).

    Raises:
        BadConfiguration: An unknown `SX9_TRAINER_` name or a bad value, each named with its remedy.
    """
    own = (name for name in TrainerSettings.model_fields if name not in SHARED | FOREIGN)
    known = {f"{PREFIX}{name}".upper() for name in own}
    known |= {variable for model in MODELS for variable in recipe_variables(model)}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    renamed = _renamed_variables()
    if moved := [f"{name} is now {renamed[name.upper()]}" for name in unknown if name.upper() in renamed]:
        raise BadConfiguration(f"renamed setting: {', '.join(moved)}; rename it in the environment")
    if unknown:
        raise BadConfiguration(
            f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}: correct or unset it"
        )
    try:
        return TrainerSettings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{_variable(str(e['loc'][0]))}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise BadConfiguration("bad setting " + "; ".join(lines)) from error


def config_class(model: str) -> type[RecipeConfig]:
    """The configuration struct of a model's recipe.

    Raises:
        BadConfiguration: There is no such model.
    """
    found: type[RecipeConfig] = load(model_spec(model).config)
    return found


def variable_prefix(model: str) -> str:
    """What the names of the variables of a model's recipe begin with.

    >>> variable_prefix("phi3-mitre-lora")
    'SX9_TRAINER_PHI3_LORA_'
    """
    return f"{PREFIX}{model_spec(model).variable}_"


def recipe_variables(model: str) -> dict[str, str]:
    """Variable -> field of a model's recipe. The seed has none: a trigger brings it."""
    names = (field.name for field in msgspec.structs.fields(config_class(model)) if field.name != "seed")
    return {f"{variable_prefix(model)}{name}".upper(): name for name in names}


def load_recipe_config(model: str, **defaults: Any) -> RecipeConfig:
    """The configuration of a model's recipe, as the environment has it.

    Args:
        model: Its name.
        defaults: Values that replace the defaults of the recipe; the environment has precedence over them.

    Raises:
        BadConfiguration: A value has another type or is out of its range; the message names the variable.
    """
    environment = {name.upper(): value for name, value in os.environ.items()}
    config = config_class(model)(**defaults)
    for variable, name in recipe_variables(model).items():
        if variable in environment:
            config = with_values(config, variable, {name: environment[variable]})
    return config


def _renamed_variables() -> dict[str, str]:
    """Former name of a variable -> its name today."""
    renamed = {"CHILD_RATE": "WARM_START_LR_SCALE"}
    return {
        f"{variable_prefix(model)}{former}": f"{variable_prefix(model)}{today}"
        for model in ("distilbert-mitre", "gnn-threat")
        for former, today in renamed.items()
    }


def _variable(place: str) -> str:
    """The variable of a field, which pydantic names by the field or by its alias."""
    aliases = SHARED | FOREIGN
    return place if place in aliases.values() else aliases.get(place, f"{PREFIX}{place}".upper())
