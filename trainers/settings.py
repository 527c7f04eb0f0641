"""Settings of a trainer. No other module under `trainers` reads the environment.

Each field is an environment variable with the prefix `SX9_TRAINER_` (`SX9_TRAINER_MARGIN=0.03`). Each field of the
configuration of a recipe is one too, with the name of the recipe in between (`SX9_TRAINER_GNN_EPOCHS=3`). Folders
and addresses are shared with the streaming side, without `TRAINER_` (`SX9_OUTPUT_DIR`). An unknown `SX9_TRAINER_`
variable is an error, so a typo does not silently select a default.
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
"""Field -> its variable, which the streaming side reads too."""
FOREIGN = {"mlflow_tracking_uri": "MLFLOW_TRACKING_URI"}
"""Field -> its variable, which another project defines."""


def _shared(name: str, default: Any, description: str) -> Any:
    return Field(default, validation_alias=(SHARED | FOREIGN)[name], description=description)


class TrainerSettings(BaseSettings):
    """The settings of a trainer, except for the configuration of its recipe."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    output_dir: Path = _shared(
        "output_dir", Path("output"), "folder of the output; models are written to models/ in it"
    )
    state_dir: Path = _shared(
        "state_dir", Path(".sx9"), "folder of the state: local copy of the journal, failed attempts"
    )
    cache_dir: Path = _shared(
        "cache_dir", Path(platformdirs.user_cache_dir("sx9")), "folder of the cache: converted base models"
    )
    bind: str = _shared("bind", "127.0.0.1", "address that the metrics server listens on")

    neo4j_uri: str | None = _shared("neo4j_uri", None, "bolt://host:port of the Neo4j for node embeddings")
    neo4j_user: str = _shared("neo4j_user", "neo4j", "user of Neo4j")
    neo4j_password: SecretStr = _shared(
        "neo4j_password", SecretStr(""), "password of Neo4j; empty: no authentication"
    )

    mlflow_tracking_uri: str | None = _shared(
        "mlflow_tracking_uri", None, "http://host:port of an MLflow server that mirrors runs and versions"
    )

    margin: float = Field(0.02, ge=0, le=1, description="by how much a metric (macro F1, ...) may fall")
    label_margin: float = Field(0.05, ge=0, le=1, description="by how much the F1 of a label may fall")
    min_holdout: int = Field(50, ge=1, description="holdout examples that the gate needs to compare a task")
    min_support: int = Field(20, ge=1, description="holdout examples that the gate needs to compare a label")

    max_attempts: int = Field(3, ge=1, description="failed runs after which a trigger is refused")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0: a free port, which is logged")
    max_poll_interval_ms: int = Field(
        300_000,
        ge=1_000,
        description="a trainer that does not poll for longer loses its partition; it polls during runs",
    )

    @property
    def models_dir(self) -> Path:
        """The folder of the registry."""
        return self.output_dir / "models"

    @property
    def trainer_dir(self) -> Path:
        """The folder of the private files of trainers."""
        return self.state_dir / "trainer"

    @property
    def limits(self) -> Limits:
        """The tolerances of the gate."""
        return Limits(
            margin=self.margin,
            label_margin=self.label_margin,
            min_examples=self.min_holdout,
            min_support=self.min_support,
        )


def load_trainer_settings(**overrides: object) -> TrainerSettings:
    """Read the settings from the environment.

    Args:
        overrides: Field values that take precedence over the environment (command-line options).

    Raises:
        BadConfiguration: There is an unknown `SX9_TRAINER_` variable or an invalid value; the message names it.
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
    """The configuration struct of the recipe of a model.

    Raises:
        BadConfiguration: There is no such model.
    """
    found: type[RecipeConfig] = load(model_spec(model).config)
    return found


def variable_prefix(model: str) -> str:
    """The prefix of the variables of the recipe of a model.

    >>> variable_prefix("phi3-mitre-lora")
    'SX9_TRAINER_PHI3_LORA_'
    """
    return f"{PREFIX}{model_spec(model).variable}_"


def recipe_variables(model: str) -> dict[str, str]:
    """Variable -> field, for the recipe of a model. The seed has no variable, since a trigger has a seed."""
    names = (field.name for field in msgspec.structs.fields(config_class(model)) if field.name != "seed")
    return {f"{variable_prefix(model)}{name}".upper(): name for name in names}


def load_recipe_config(model: str, **defaults: Any) -> RecipeConfig:
    """Read the configuration of the recipe of a model from the environment.

    Args:
        model: Its name.
        defaults: Values that replace the defaults of the recipe; the environment takes precedence over them.

    Raises:
        BadConfiguration: A value has the wrong type or is out of range; the message names the variable.
    """
    environment = {name.upper(): value for name, value in os.environ.items()}
    config = config_class(model)(**defaults)
    for variable, name in recipe_variables(model).items():
        if variable in environment:
            config = with_values(config, variable, {name: environment[variable]})
    return config


def _renamed_variables() -> dict[str, str]:
    """Former name of a variable -> its present name."""
    renamed = {"CHILD_RATE": "WARM_START_LR_SCALE"}
    return {
        f"{variable_prefix(model)}{former}": f"{variable_prefix(model)}{present}"
        for model in ("distilbert-mitre", "gnn-threat")
        for former, present in renamed.items()
    }


def _variable(location: str) -> str:
    """The variable of a field, from the location of a pydantic error: the name or the alias of the field."""
    aliases = SHARED | FOREIGN
    return location if location in aliases.values() else aliases.get(location, f"{PREFIX}{location}".upper())
