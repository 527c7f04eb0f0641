"""The structure of the code: what each package may import, no cycles, pure cores, and nothing too long to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "transport", "streams", "trainers", "serving", "sx9_ml_models", "tools", "benchmarks")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "schemas": (),
    "transport": ("schemas",),
    "streams.core": ("schemas",),
    "streams.settings": ("schemas", "transport.logins", "transport.secrets"),
    "streams.telemetry": ("schemas",),
    "streams.local": ("schemas", "transport", "streams.settings"),
    "streams.fetchers": ("schemas", "transport", "streams.settings", "streams.telemetry"),
    "streams.content": ("schemas", "transport", "streams.core", "streams.fetchers"),
    "streams.content.ontology": (
        "schemas", "transport", "streams.core", "streams.content.current", "streams.content.identity",
        "streams.content.trivariate", "streams.content.attack_paths",
    ),
    "streams.content.dsl": (
        "schemas", "transport", "streams.core", "streams.content.current", "streams.content.identity",
        "streams.content.trivariate", "streams.content.attack_paths",
    ),
    "streams.app": (
        "schemas", "transport", "streams.core", "streams.local", "streams.settings", "streams.telemetry",
    ),
    "trainers.core": ("schemas",),
    "trainers.settings": ("schemas", "trainers.core"),
    "trainers.telemetry": ("schemas", "transport"),
    "trainers.reporting": ("schemas", "trainers.core"),
    "trainers.bases": ("schemas", "transport", "trainers.core"),
    "trainers.models": ("schemas", "transport", "trainers.core", "trainers.bases", "trainers.reporting"),
    "trainers.store": ("schemas", "transport", "trainers.core", "trainers.telemetry"),
    "trainers.runs": (
        "schemas", "transport", "trainers.core", "trainers.models", "trainers.bases", "trainers.store",
        "trainers.reporting", "trainers.settings", "trainers.telemetry",
    ),
    "serving": (
        "schemas", "transport", "streams.core", "trainers.store", "trainers.models.predictor",
        "trainers.models.distilbert.predict", "trainers.models.phi3_lora.predict", "trainers.models.gnn.predict",
    ),
    "sx9_ml_models": ("schemas", "transport", "streams", "trainers", "serving"),
    "tools": ("schemas", "transport", "streams", "trainers", "serving"),
    "benchmarks": ("schemas", "transport", "streams", "trainers", "serving", "sx9_ml_models"),
}  # fmt: skip
"""Package or module -> what of ours it may import beside itself. What is not listed is refused."""

PURE = {
    "schemas": {"msgspec"},
    "streams.core": {"msgspec"},
    "streams.content.crosswalk": {"msgspec"},
    "trainers.core": {"msgspec", "numpy", "torch", "scipy", "sklearn", "accelerate", "threadpoolctl"},
}
"""Package without input, output, clock or environment -> third-party packages that it may import."""
PURE_STANDARD_LIBRARY = {
    "__future__", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib", "heapq",
    "importlib", "itertools", "logging", "math", "operator", "random", "re", "time", "typing", "warnings",
}  # fmt: skip
"""Modules of the standard library that compute. `time` only formats a time that is passed in, and `random`
only draws from a generator that is passed in."""
CALLS_OF_A_SHELL = {"open", "print", "input"}

MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 450


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of everything that is ours, tests left out."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {_name(path): path for path in sorted(files)}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imports(source: ast.Module) -> Iterator[str]:
    """Every module, or attribute of one, that is imported anywhere in a file."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def unit_of(name: str) -> str:
    """The longest entry of `MAY_IMPORT` that a module belongs to."""
    return max((unit for unit in MAY_IMPORT if within(name, unit)), key=len, default="")


def wrong_imports(name: str, imported: Iterator[str]) -> list[str]:
    """What of ours a module imports and may not; a package `__init__` of several units belongs to none."""
    unit = unit_of(name)
    allowed = (unit, *MAY_IMPORT[unit]) if unit else ()
    ours = (each for each in imported if each.partition(".")[0] in PACKAGES)
    return sorted({each for each in ours if not any(within(each, a) or within(a, each) for a in allowed)})


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_what_its_package_may(name: str) -> None:
    assert wrong_imports(name, imports(tree(name))) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("schemas.codec", "import transport.kafka"),
        ("streams.core.fold", "def f():\n    from streams.app import wiring"),
        ("streams.app.agents", "import trainers.core.gate"),
        ("trainers.core.gate", "from trainers.store import registry"),
        ("trainers.store.registry", "from trainers import runs"),
        ("serving.predictors", "from trainers.models.distilbert.objective import loss"),
    ],
)
def test_a_wrong_import_is_seen_wherever_it_stands(name: str, source: str) -> None:
    assert wrong_imports(name, imports(ast.parse(source)))


def pure_modules() -> list[str]:
    return [name for name in modules() if any(within(name, package) for package in PURE)]


@pytest.mark.parametrize("name", pure_modules())
def test_a_pure_module_reaches_nothing_outside(name: str) -> None:
    package = next(package for package in PURE if within(name, package))
    known = PURE[package] | PURE_STANDARD_LIBRARY | set(PACKAGES)
    outside = {each for each in imports(tree(name)) if each.partition(".")[0] not in known}
    called = {
        node.func.id
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS_OF_A_SHELL
    }
    assert outside | called == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: {m for m in _modules_in(imports(tree(name))) if m != name} for name in modules()}
    assert _circle(graph) == []


def _modules_in(imported: Iterator[str]) -> set[str]:
    return {each for each in imported if each in modules()} - {
        package for package in modules() if modules()[package].name == "__init__.py"
    }


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing: what is left after taking away, again and again, what imports nothing."""
    left = {name: set(targets) for name, targets in graph.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_a_circle_is_seen() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize("name", modules())
def test_files_and_functions_are_short_enough_to_read(name: str) -> None:
    lines = modules()[name].read_text(encoding="utf-8").count("\n")
    functions = (n for n in ast.walk(tree(name)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno}
    assert {n: length for n, length in long.items() if length > MAX_FUNCTION_LINES} == {}
    assert lines <= MAX_FILE_LINES


def test_every_package_says_what_it_is_for() -> None:
    packages = [name for name, path in modules().items() if path.name == "__init__.py"]
    assert [name for name in packages if not ast.get_docstring(tree(name))] == []
