"""A run and the scoring are killed at each of their stages; what comes out in the end has the same hashes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from schemas.journal import Example
from tests.forks import Forks
from tests.trainers.runs.killed import TRAINING, scorer_of, world_of
from tests.trainers.runs.test_scoring import models
from trainers.bases.resolve import Base

__all__ = ["models"]

POINTS = (
    "read", "prepare", "score parent", "fit", TRAINING, "evaluate", "write", "draw", "publish", "promote",
)  # fmt: skip
SCORED = (5, 30, 90)
"""How many examples of a request are scored when the scoring is killed: the holdout has about 20, a record 64."""
TIMEOUT_S = 300.0


class Starts:
    """Starts forks of `tests.trainers.runs.killed`, each with its end as the result."""

    def __init__(self, forks: Forks, log: Path) -> None:
        self._forks, self._log = forks, log

    def __call__(self, target: str, folder: Path, ends: int = 0, **arguments: Any) -> None:
        one = self._forks.start(f"tests.trainers.runs.killed:{target}", self._log, folder=str(folder), **arguments)
        assert one.wait(TIMEOUT_S) == ends, f"{target} {arguments}:\n{self._log.read_text()[-3000:]}"


@pytest.fixture
def start(forks: Forks, tmp_path: Path) -> Starts:
    return Starts(forks, tmp_path / "forks.log")


def test_a_run_that_is_killed_in_each_of_its_phases_ends_with_the_same_hashes(
    start: Starts, tiny: Base, models_cache: Path, tmp_path: Path
) -> None:
    cache = str(models_cache)
    for name in ("straight", "killed"):
        start("answer", tmp_path / name, cache=cache, number=0)
    start("answer", tmp_path / "straight", cache=cache, number=1)
    for point in POINTS:
        start("answer", tmp_path / "killed", cache=cache, number=1, point=point, ends=-signal.SIGKILL)
    start("answer", tmp_path / "killed", cache=cache, number=1)
    straight, killed = (world_of(str(tmp_path / name), cache) for name in ("straight", "killed"))
    assert killed.said() == straight.said()
    assert [type(record) for record in killed.answers()] == [type(record) for record in straight.answers()]
    for version in ("v0001", "v0002"):
        assert killed.manifest(version).files == straight.manifest(version).files
    assert killed.registry.champion("distilbert-mitre") == straight.registry.champion("distilbert-mitre")


def test_scoring_that_is_killed_in_the_middle_ends_with_the_same_scores_each_once(
    start: Starts, models: Path, tmp_path: Path
) -> None:
    start("score", tmp_path / "straight", models=str(models))
    for after in SCORED:
        start("score", tmp_path / "killed", models=str(models), after=after, ends=-signal.SIGKILL)
    start("score", tmp_path / "killed", models=str(models))
    straight, killed = (scorer_of(str(tmp_path / name), str(models)) for name in ("straight", "killed"))
    for reference in (True, False):
        assert killed.scored(reference=reference) == straight.scored(reference=reference) != []
    new = [at for at, record in enumerate(killed.records()) if isinstance(record, Example)][-len(killed.scored()) :]
    assert [each.offset for each in killed.scored()] == new
