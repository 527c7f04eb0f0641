"""Small versions of the graph model, trained for the tests."""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.journal import Example
from schemas.recipes.gnn import GnnConfig
from tests.trainers.journals import CONFIGS, graph, labels_of
from trainers.bases.resolve import resolve
from trainers.core.dataset import Dataset, split
from trainers.core.progress import no_progress
from trainers.core.report import Report
from trainers.models.gnn import recipe

CONFIG = msgspec.convert(msgspec.to_builtins(CONFIGS["gnn-threat"]), GnnConfig)


def trained(
    models_cache: Path, folder: Path, data: Dataset, parent: Path | None = None, config: GnnConfig = CONFIG
) -> Report:
    """Train a version into a new folder."""
    folder.mkdir()
    labels = labels_of([example for _, example in data.train])
    return recipe.run(data, labels, resolve("tiny", models_cache).folder, parent, config, folder, no_progress)


def small_graph(links: int = 240) -> Dataset:
    """The techniques, groups and links of `tests.trainers.journals.graph`."""
    return split(graph(links), 10_000, 17)


def with_link(example: Example, **changes: str) -> Example:
    """The example with other values in its link."""
    assert example.link
    return msgspec.structs.replace(example, link=msgspec.structs.replace(example.link, **changes))
