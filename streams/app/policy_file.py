"""Reads the policy file: TOML with one table per model. Fields that a table leaves out keep the model's defaults.

[distilbert-mitre]
retrain_examples = 2000
drift_threshold = 0.2

[distilbert-mitre.gate]
margin = 0.03

[distilbert-mitre.quarantine]
burst_factor = 20

[distilbert-mitre.recipe]
epochs = 3
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.errors import BadConfiguration
from schemas.models import MODELS, completed, model_spec
from schemas.policy import GateLimits, Policy, QuarantineRules
from schemas.recipes.base import OF_THE_MACHINE, decisive_fields

SECTIONS = ("gate", "quarantine", "recipe")
"""Fields of a policy that are tables of their own."""


class _Table(NamedTuple):
    """A table of the file, and where it is."""

    path: Path
    text: str
    name: str

    def error(self, key: str, problem: str) -> BadConfiguration:
        """An error that names the file, the line of a key and the table."""
        return BadConfiguration(f"{self.path}:{line_of(self.text, self.name, key)}: [{self.name}] {problem}")

    def check_names(self, given: Collection[str], known: Collection[str], elsewhere: Mapping[str, str]) -> None:
        """Refuse a key that is not known, with the one that was probably meant."""
        for key in given:
            if key in known:
                continue
            close = difflib.get_close_matches(key, known, 1) or [
                name for name in known if _same_but_unit(key, name)
            ]
            remedy = elsewhere.get(key) or (f"did you mean {close[0]}?" if close else "")
            raise self.error(key, f"unknown field {key}; {remedy or 'known are ' + ', '.join(known)}")


def load_policies(path: Path | None) -> dict[str, Policy]:
    """Model -> policy of the models that the file names.

    Args:
        path: The file; None: no policies.

    Raises:
        BadConfiguration: The file is missing or not TOML, a model or field is unknown, a value is of the wrong type
            or out of range, or two values contradict each other; the message has the line.
    """
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfiguration(f"SX9_POLICY_FILE={path}: {error}; see docs/configuration.md") from error
    return {model: _policy(_Table(path, text, model), model, table) for model, table in tables.items()}


def _policy(at: _Table, model: str, table: object) -> Policy:
    if model not in MODELS:
        line = line_of(at.text, model, model)
        raise BadConfiguration(f"{at.path}:{line}: unknown model {model!r}; known are {', '.join(MODELS)}")
    if not isinstance(table, dict):
        line = line_of(at.text, "", model)
        raise BadConfiguration(f"{at.path}:{line}: {model} = {table!r}: must be a table, [{model}]")
    default, config = model_spec(model).policy, model_spec(model).config
    sections = {name: at._replace(name=f"{model}.{name}") for name in SECTIONS}
    in_recipe = dict.fromkeys(decisive_fields(config), f"it belongs into [{model}.recipe]")
    in_gate = dict.fromkeys(GateLimits.__struct_fields__, f"it belongs into [{model}.gate]")
    in_quarantine = dict.fromkeys(QuarantineRules.__struct_fields__, f"it belongs into [{model}.quarantine]")
    at.check_names(table, Policy.__struct_fields__, in_recipe | in_gate | in_quarantine)
    for name, section in sections.items():
        if not isinstance(table.get(name, {}), dict):
            raise at.error(name, f"{name} = {table[name]!r}: must be a table, [{section.name}]")
    of_machine = dict.fromkeys(OF_THE_MACHINE, "it belongs to the machine: set its variable, docs/configuration.md")
    own_seed = {
        "seed": f"the seed of a run is `seed` in [{model}]",
        "max_examples": f"the bound of a run is `run_examples` in [{model}]",
    }
    for name, struct in (("gate", GateLimits), ("quarantine", QuarantineRules)):
        sections[name].check_names(table.get(name, {}), struct.__struct_fields__, {})
    sections["recipe"].check_names(table.get("recipe", {}), decisive_fields(config), of_machine | own_seed)
    recipe = table.get("recipe", {})
    _converted(sections["recipe"], recipe, config())
    gate = _converted(sections["gate"], table.get("gate", {}), default.gate)
    quarantine = _converted(sections["quarantine"], table.get("quarantine", {}), default.quarantine)
    rules = {name: value for name, value in table.items() if name not in SECTIONS}
    policy = msgspec.structs.replace(_converted(at, rules, default), gate=gate, quarantine=quarantine)
    policy = completed(model, msgspec.structs.replace(policy, recipe=recipe))
    try:
        return policy.checked()
    except BadConfiguration as error:
        named = next((name for name in rules if re.search(rf"\b{name}=", str(error))), "")
        raise at.error(named, str(error)) from error


def _converted(at: _Table, values: Mapping[str, Any], default: Any) -> Any:
    """A struct with some values replaced, each checked by itself so that the error names its line."""
    known = {name: getattr(default, name) for name in default.__struct_fields__}
    builtin = msgspec.to_builtins(known)
    for key, value in values.items():
        try:
            msgspec.convert(builtin | {key: value}, type(default))
        except msgspec.ValidationError as error:
            raise at.error(key, f"{key} = {value!r}: {error}") from error
    return msgspec.convert(builtin | dict(values), type(default))


def _same_but_unit(key: str, name: str) -> bool:
    """Whether two names differ in their unit only: `cooldown_hours`, `cooldown_s`.

    >>> _same_but_unit("cooldown_hours", "cooldown_s"), _same_but_unit("cooldown", "seed")
    (True, False)
    """
    return name.endswith("_s") and re.sub(r"_[a-z]+$", "", key) in (name[:-2], name)


def line_of(text: str, table: str, key: str) -> int:
    """The line of a key in a table of a TOML file, or that of the table; 1 if neither is found.

    >>> line_of("[a]\\nx = 1\\n[a.b]\\nx = 2", "a.b", "x")
    4
    """
    found, current = 1, ""
    quoted = r"\s*[\"']?{}[\"']?\s*[=.]"
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            current = re.sub(r"[\s\"']", "", header[1])
            found = number if current == table else found
            continue
        name = key if current == table else f"{table}.{key}".removeprefix(f"{current}.")
        if re.match(quoted.format(re.escape(name)), line):
            return number
    return found
