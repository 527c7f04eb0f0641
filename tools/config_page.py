"""Generates the tables of the recipe settings in `docs/configuration.md` from the configuration structs.

python -m tools.config_page            writes the tables between their markers
python -m tools.config_page --check    exits with 1 if the tables are stale
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from schemas.models import MODELS
from schemas.recipes.base import decisive_fields
from trainers.settings import config_class, recipe_variables

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
BEGIN, END = "<!-- made by `python -m tools.config_page` -->", "<!-- up to here -->"


def tables() -> str:
    """The sections of all recipes, in Markdown."""
    return "\n\n".join("\n".join(_section(model)) for model in MODELS)


def with_tables(page: str) -> str:
    """The page with the current tables between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _section(model: str) -> Iterator[str]:
    yield f"### `{model}`"
    yield ""
    yield "| field or variable | default | range | meaning |"
    yield "|---|---|---|---|"
    struct = msgspec.inspect.type_info(config_class(model))
    assert isinstance(struct, msgspec.inspect.StructType)
    fields = {field.name: field for field in struct.fields}
    for shown, name in recipe_rows(model).items():
        kind, description = _unwrapped(fields[name].type)
        limits = f" {_range(kind)} ".replace("  ", " ")
        yield f"| `{shown}` | {_formatted(fields[name].default)} |{limits}| {description} |"


def recipe_rows(model: str) -> dict[str, str]:
    """Place of a value -> field: `MODEL.recipe.FIELD` in the policy file, then the variables of the machine."""
    return {f"{model}.recipe.{name}": name for name in decisive_fields(config_class(model))} | recipe_variables(
        model
    )


def _unwrapped(kind: Any) -> tuple[Any, str]:
    """The type of a field without its metadata, and its description."""
    description = ""
    while isinstance(kind, msgspec.inspect.Metadata):
        description = description or (kind.extra_json_schema or {}).get("description", "")
        kind = kind.type
    return kind, description


def _formatted(default: Any) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return f"`{default}`" if str(default) else "empty"


def _range(kind: Any) -> str:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return ", ".join(sorted(map(_formatted, kind.values)))
    if isinstance(kind, msgspec.inspect.BoolType):
        return "`true`, `false`"
    low, high = getattr(kind, "ge", None), getattr(kind, "le", None)
    if low is not None and high is not None:
        return f"{low} to {high}"
    words = {"ge": "at least", "gt": "over", "le": "at most", "lt": "under"}
    found = {name: getattr(kind, name, None) for name in words}
    return ", ".join(f"{words[name]} {limit}" for name, limit in found.items() if limit is not None)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(with_tables(text), encoding="utf-8")
    elif with_tables(text) != text:
        sys.exit(f"{PAGE.name}: the recipes' tables are stale; run `python -m tools.config_page`")
