"""Trained versions that the tests of serving share."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.models import MODELS
from tests.serving.versions import train
from trainers.store.registry import Registry


@pytest.fixture(scope="session")
def serving_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the tiny base models."""
    return tmp_path_factory.mktemp("serving-cache")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, serving_cache: Path) -> Registry:
    """A registry with a trained version of every model, each the champion; nobody changes it."""
    registry = Registry(tmp_path_factory.mktemp("serving") / "models")
    for model in MODELS:
        train(registry, model, serving_cache)
    return registry
