"""The contract: generated files are current, and data moves along the arrows of the design only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from schemas.codec import stale_json_schemas

ROOT = Path(__file__).parents[2]
CORES = ("streams/core", "trainers/core")
OUTSIDE_CORE = {
    "kafka",
    "aiokafka",
    "faust",
    "neo4j",
    "prometheus_client",
    "os",
    "random",
    "transport.kafka",
    "transport.neo4j",
}


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(imports: set[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imports)


def files_under(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return files


def test_the_json_schemas_are_what_the_types_say() -> None:
    assert stale_json_schemas() == []


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("schemas", ("streams", "trainers", "sx9_ml_models")),
        ("streams", ("trainers", "sx9_ml_models", "torch")),
        ("trainers", ("streams", "sx9_ml_models")),
        ("streams/core", ("streams.app", "streams.services", "streams.fetchers", "streams.settings")),
        ("trainers/core", ("trainers.settings", "trainers.store.registry", "trainers.runs.consumer")),
    ],
)
def test_no_file_imports_against_the_arrows(folder: str, forbidden: tuple[str, ...]) -> None:
    wrong = [(str(p), f) for p in files_under(folder) for f in forbidden if reaches(imports_of(p), f)]
    assert wrong == []


@pytest.mark.parametrize("folder", CORES)
def test_a_core_knows_neither_clients_nor_the_environment(folder: str) -> None:
    wrong = [(str(p), f) for p in files_under(folder) for f in OUTSIDE_CORE if reaches(imports_of(p), f)]
    assert wrong == []


@pytest.mark.parametrize("source", ["import kafka.errors", "from schemas import wire", "def f():\n    import os"])
def test_a_wrong_import_is_seen_wherever_it_stands(source: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(source)
    assert any(reaches(imports_of(file), name) for name in OUTSIDE_CORE)
