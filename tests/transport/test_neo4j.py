"""The driver is imported by those who use it, without the packages that it would convert values for."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded(code: str, names: set[str]) -> set[str]:
    """Which of some packages a new interpreter has imported after some code."""
    command = [
        sys.executable,
        "-c",
        f"import sys\n{code}\nprint(*(name for name in {names} if sys.modules.get(name)))",
    ]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", ["sx9_ml_models.roles", "sx9_ml_models.system"])
def test_a_process_of_the_system_starts_without_the_driver_and_the_packages_of_the_trainers(module: str) -> None:
    heavy = {"neo4j", "numpy", "pandas", "pyarrow", "torch", "sklearn", "matplotlib", "jgo"}
    assert loaded(f"import {module}", heavy) == set()


def test_the_driver_does_not_bring_packages_that_convert_values() -> None:
    code = "from transport.neo4j import neo4j_module; neo4j_module().GraphDatabase"
    assert loaded(code, {"neo4j", "numpy", "pandas", "pyarrow"}) == {"neo4j"}


def test_packages_that_the_driver_does_not_bring_can_be_imported_after_it() -> None:
    assert loaded("from transport.neo4j import neo4j_module; neo4j_module(); import numpy", {"numpy"}) == {"numpy"}
