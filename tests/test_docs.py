"""The pages in `docs/` say what the code says: settings and rules with their defaults, dependencies, links."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import annotated_types
import pytest
from msgspec.json import schema as json_schema
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from schemas.models import MODEL_SPECS, MODELS
from schemas.policy import GateLimits, Policy, QuarantineRules
from serving.settings import PREFIX as SERVE_PREFIX
from serving.settings import SHARED as SHARED_BY_SERVER
from serving.settings import ServeSettings
from streams.app.policy_file import SECTIONS, load_policies
from streams.settings import PREFIX, Settings
from tools.config_page import recipe_rows, with_tables
from trainers.settings import FOREIGN, SHARED, TrainerSettings, config_class
from trainers.settings import PREFIX as TRAINER_PREFIX

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
PAGES = sorted(DOCS.rglob("*.md"))


def rows(name: str) -> dict[str, tuple[str, ...]]:
    """Name -> the other cells of each table row whose first cell is a name of this form."""
    lines = (line.strip("|").split("|") for line in CONFIGURATION.splitlines() if line.startswith("| `"))
    cells = ([cell.strip() for cell in line] for line in lines)
    return {first.strip("`"): tuple(rest) for first, *rest in cells if re.fullmatch(name, first.strip("`"))}


def shown(default: Any) -> str:
    """A default as the page writes it."""
    if default is None:
        return "none"
    if isinstance(default, Path) and default.is_absolute():
        return "the user's cache folder"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return f"`{default}`" if str(default) else "empty"


def bounds(field: FieldInfo) -> str:
    """A range as the page writes it."""
    at = {type(each): value for each in field.metadata for value in dataclasses.asdict(each).values()}
    low, high = at.get(annotated_types.Ge), at.get(annotated_types.Le)
    if low is not None and high is not None:
        return f"{low} to {high}"
    words = {annotated_types.Ge: "at least", annotated_types.Gt: "over", annotated_types.Lt: "under"}
    return ", ".join(f"{word} {at[kind]}" for kind, word in words.items() if kind in at)


def settings_in_code() -> dict[str, tuple[str, str]]:
    """Variable -> its default and its range."""
    own = {n: f for n, f in TrainerSettings.model_fields.items() if n not in SHARED}
    fields = {f"{PREFIX}{n}".upper(): f for n, f in Settings.model_fields.items()}
    served = {n: f for n, f in ServeSettings.model_fields.items() if n not in SHARED_BY_SERVER}
    fields |= {f"{SERVE_PREFIX}{n}".upper(): f for n, f in served.items()}
    fields |= {FOREIGN.get(n, f"{TRAINER_PREFIX}{n}".upper()): f for n, f in own.items()}
    return {name: (shown(field.default), bounds(field)) for name, field in fields.items()}


def recipe_settings_in_code() -> dict[str, tuple[str, str, str]]:
    """Field or variable -> its default, its range and its meaning, as the types' JSON Schema has them."""
    found: dict[str, tuple[str, str, str]] = {}
    for model in MODELS:
        config = config_class(model)
        schema = json_schema(config)["$defs"][config.__name__]["properties"]
        for variable, name in recipe_rows(model).items():
            limits = schema[name]
            found[variable] = (shown(limits["default"]), schema_bounds(limits), limits.get("description", ""))
    return found


def schema_bounds(limits: dict[str, Any]) -> str:
    """A range as the page writes it, from JSON Schema."""
    if limits.get("type") == "boolean":
        return "`true`, `false`"
    if "enum" in limits:
        return ", ".join(sorted(map(shown, limits["enum"])))
    if "minimum" in limits and "maximum" in limits:
        return f"{limits['minimum']} to {limits['maximum']}"
    words = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "under"}
    return ", ".join(f"{word} {limits[key]}" for key, word in words.items() if key in limits)


def test_every_setting_is_documented_with_its_default_and_range() -> None:
    in_page = {name: cells[:2] for name, cells in rows(r"(SX9|MLFLOW)_\w+").items()}
    assert {
        name: cells for name, cells in in_page.items() if name not in recipe_settings_in_code()
    } == settings_in_code()


def test_every_setting_of_a_recipe_is_documented_with_default_range_and_meaning() -> None:
    in_code = recipe_settings_in_code()
    assert {
        name: cells for name, cells in rows(r"SX9_\w+|[a-z0-9-]+\.recipe\.\w+").items() if name in in_code
    } == in_code
    assert all(meaning for _, _, meaning in in_code.values())


def test_the_tables_of_the_recipes_are_what_their_command_writes() -> None:
    assert with_tables(CONFIGURATION) == CONFIGURATION, "run `python -m tools.config_page`"


def test_settings_shared_with_the_trainer_are_marked_and_have_one_default() -> None:
    marked = {name for name, cells in rows(r"SX9_\w+").items() if "**shared**" in cells[2]}
    assert marked == set(SHARED.values())
    for name in SHARED:
        assert TrainerSettings.model_fields[name].default == Settings.model_fields[name].default


def test_every_rule_is_documented_with_its_default_for_each_model() -> None:
    names = [name for name in Policy.__struct_fields__ if name not in SECTIONS]
    in_code = {
        name: tuple(shown(getattr(policy, name)) for policy in (spec.policy for spec in MODEL_SPECS))
        for name in names
    }
    assert {name: cells[: len(MODELS)] for name, cells in rows("[a-z_]+").items()} == in_code
    assert f"| field | {' | '.join(MODELS)} | meaning |" in CONFIGURATION


@pytest.mark.parametrize(("section", "struct"), [("gate", GateLimits), ("quarantine", QuarantineRules)])
def test_every_limit_of_gate_and_quarantine_is_documented_with_its_default_and_range(
    section: str, struct: type
) -> None:
    schema = json_schema(struct)["$defs"][struct.__name__]["properties"]
    in_code = {
        f"{section}.{n}": (shown(each["default"]), schema_bounds(each), each["description"])
        for n, each in schema.items()
    }
    assert {name: cells[:3] for name, cells in rows(rf"{section}\.\w+").items()} == in_code


def test_the_policy_file_of_the_page_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
    (tmp_path / "policy.toml").write_text(example, encoding="utf-8")
    assert load_policies(tmp_path / "policy.toml")["distilbert-mitre"].retrain_examples == 2_000


def dependencies() -> set[str]:
    """Names of everything that `pyproject.toml` or a `requirements/*.in` asks for, our own extras left out."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*found["build-system"]["requires"], *found["project"]["dependencies"]]
    for extra in found["project"]["optional-dependencies"].values():
        asked += extra
    for file in (ROOT / "requirements").glob("*.in"):
        asked += [line for line in file.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#-"]
    names = {match[0] for each in asked if (match := re.match(r"[\w.-]+", each))}
    return names - {found["project"]["name"]}


def test_every_dependency_says_why_it_is_here() -> None:
    text = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\*\*`([\w.-]+)`\*\*", text)) == dependencies()


def test_every_decision_is_in_the_index() -> None:
    index = (DOCS / "decisions/README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (DOCS / "decisions").glob("????-??-??-*.md")}
    assert set(re.findall(r"\]\((\d{4}-[\w.-]+)\)", index)) == pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
