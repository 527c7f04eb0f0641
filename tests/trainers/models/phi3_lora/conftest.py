"""The tiny base model and a first version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.models.phi3_lora.material import (
    data,
    trained,
)
from trainers.bases.base_models import Base, resolve
from trainers.core.report import Report


@pytest.fixture(scope="session")
def tiny_phi3(models_cache: Path) -> Base:
    """A Phi-3 of two layers that reads bytes."""
    return resolve("tiny-phi3", models_cache, "phi3")


@pytest.fixture(scope="session")
def first(tiny_phi3: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A first version and its report."""
    folder = tmp_path_factory.mktemp("versions") / "first"
    return folder, trained(data(range(48)), tiny_phi3, folder)
