"""Reads the policy file: TOML with one table per model. Fields that a table leaves out keep the model's defaults.

[distilbert-mitre]
retrain_examples = 2000
drift_threshold = 0.2
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration
from schemas.models import MODELS, model_spec
from schemas.policy import Policy


def load_policies(path: Path | None) -> dict[str, Policy]:
    """Model -> policy of the models that the file names.

    Args:
        path: The file; None: no policies.

    Raises:
        BadConfiguration: The file is missing or not TOML, a model or field is unknown, or a value is out of range.
    """
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfiguration(f"SX9_POLICY_FILE={path}: {error}; see docs/configuration.md") from error
    return {model: _policy(path, model, table) for model, table in tables.items()}


def _policy(path: Path, model: str, table: object) -> Policy:
    if model not in MODELS:
        raise BadConfiguration(f"{path}: unknown model {model!r}; known are {', '.join(MODELS)}")
    if not isinstance(table, dict):
        raise BadConfiguration(f"{path}: {model} = {table!r}: must be a table, [{model}]")
    unknown = sorted(set(table) - set(Policy.__struct_fields__))
    if unknown:
        known = ", ".join(Policy.__struct_fields__)
        raise BadConfiguration(f"{path} [{model}]: unknown field {', '.join(unknown)}; known are {known}")
    try:
        return msgspec.convert(msgspec.structs.asdict(model_spec(model).policy) | table, Policy).checked()
    except msgspec.ValidationError as error:
        raise BadConfiguration(f"{path} [{model}]: {error}") from error
