"""Settings of a trainer. No other module under `trainers` reads the environment.

Each field is an environment variable with the prefix `SX9_TRAINER_` (`SX9_TRAINER_MAX_ATTEMPTS=5`). The fields of a
recipe that belong to the machine are too, with the name of the recipe in between (`SX9_TRAINER_GNN_DEVICE=cuda:1`).
What decides a result is in the policy. Folders and addresses are shared with the streaming side, without `TRAINER_`
(`SX9_OUTPUT_DIR`). An unknown `SX9_TRAINER_` variable is an error, so a typo does not silently select a default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import BadConfiguration
from schemas.models import MODELS, model_spec
from schemas.recipes.base import RecipeConfig, decisive_fields, machine_fields, with_values

PREFIX = "SX9_TRAINER_"
SECRETS_DIR = Path("/run/secrets")
"""Where containers have secrets as files, as for the streaming side: `sx9_neo4j_password`."""
SHARED = {
    name: f"SX9_{name}".upper()
    for name in (
        "output_dir",
        "state_dir",
        "cache_dir",
        "bind",
        "models_url",
        "archive_url",
        "neo4j_uri",
        "neo4j_user",
        "neo4j_password",
    )
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
    models_url: str | None = _shared("models_url", None, "where several machines share the versions")
    archive_url: str | None = _shared(
        "archive_url", None, "archive of the topics, for records that retention has deleted"
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

    max_attempts: int = Field(3, ge=1, description="failed runs after which a trigger is refused")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0: a free port, which is logged")
    score_interval_s: float = Field(
        10.0,
        ge=0,
        description="seconds without a new example until the champion scores those that wait; 0: only before a run",
    )
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
    moved = _moved_variables()
    if found := [f"{name} is now {moved[name.upper()]}" for name in unknown if name.upper() in moved]:
        raise BadConfiguration(
            f"moved setting: {'; '.join(found)}: set it there and unset the variable; what decides a result is "
            "part of the policy, see docs/configuration.md"
        )
    if unknown:
        raise BadConfiguration(
            f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}: correct or unset it"
        )
    try:
        secrets = SECRETS_DIR if SECRETS_DIR.is_dir() else None
        return TrainerSettings(_secrets_dir=secrets, **overrides)  # type: ignore[arg-type,call-arg]
    except ValidationError as error:
        lines = [f"{_variable(str(e['loc'][0]))}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise BadConfiguration("bad setting " + "; ".join(lines)) from error


def config_class(model: str) -> type[RecipeConfig]:
    """The configuration struct of the recipe of a model.

    Raises:
        BadConfiguration: There is no such model.
    """
    return model_spec(model).config


def variable_prefix(model: str) -> str:
    """The prefix of the variables of the recipe of a model.

    >>> variable_prefix("phi3-mitre-lora")
    'SX9_TRAINER_PHI3_LORA_'
    """
    return f"{PREFIX}{model_spec(model).variable}_"


def recipe_variables(model: str) -> dict[str, str]:
    """Variable -> field, for the fields of the recipe of a model that belong to the machine."""
    return {f"{variable_prefix(model)}{name}".upper(): name for name in machine_fields(config_class(model))}


def load_machine_fields(model: str) -> dict[str, Any]:
    """The fields of the recipe of a model that the environment sets; they change no result.

    Raises:
        BadConfiguration: A value has the wrong type or is out of range; the message names the variable.
    """
    environment = {name.upper(): value for name, value in os.environ.items()}
    found: dict[str, Any] = {}
    for variable, name in recipe_variables(model).items():
        if variable in environment:
            found[name] = getattr(with_values(config_class(model)(), variable, {name: environment[variable]}), name)
    return found


def _moved_variables() -> dict[str, str]:
    """Former variable -> where its value is now."""
    gate = {"MARGIN": "margin", "LABEL_MARGIN": "label_margin", "MIN_HOLDOUT": "min_examples",
            "MIN_SUPPORT": "min_support"}  # fmt: skip
    moved = {f"{PREFIX}{former}": f"`{name}` in [MODEL.gate] of the policy file" for former, name in gate.items()}
    for model in MODELS:
        names = {name: name for name in decisive_fields(config_class(model))}
        if "warm_start_lr_scale" in names:
            names["child_rate"] = "warm_start_lr_scale"
        moved |= {
            f"{variable_prefix(model)}{former}".upper(): f"`{name}` in [{model}.recipe] of the policy file"
            for former, name in names.items()
        }
        moved[f"{variable_prefix(model)}MAX_EXAMPLES"] = f"`run_examples` in [{model}] of the policy file"
    return moved


def _variable(location: str) -> str:
    """The variable of a field, from the location of a pydantic error: the name or the alias of the field."""
    aliases = SHARED | FOREIGN
    return location if location in aliases.values() else aliases.get(location, f"{PREFIX}{location}".upper())
