"""A first version of `distilbert-mitre`, trained once for these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.models.distilbert.training import train
from tests.trainers.samples import examples
from trainers.bases.resolve import Base
from trainers.core.report import Report


@pytest.fixture(scope="package")
def first(tmp_path_factory: pytest.TempPathFactory, tiny: Base) -> tuple[Path, Report]:
    """A first version: its folder and its report."""
    folder = tmp_path_factory.mktemp("versions") / "v0001"
    return folder, train(folder, tiny, examples(300))
