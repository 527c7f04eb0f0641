"""`threat_content_fetcher.py` that is killed at random moments and called again writes the same bytes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from streams.fetchers.feeds.registry import FEEDS
from sx9_ml_models.content.command import main
from tests.forks import Fork, Forks, kill_at_random
from tests.streams.fetchers.feeds.samples import SAMPLES, put

KILLS = 8
FETCHED_AT = re.compile(rb'"fetched_at": "[^"]*"')


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """The command, in a forked process."""
    os.environ.update(environment)
    raise SystemExit(main(arguments))


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    made = Forks(__name__, log_file=tmp_path / "server.log")
    yield made
    made.close()


def written(folder: Path) -> dict[str, bytes]:
    """All files but those in which the command keeps what its latest run counted; without the time of the fetch."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    found = {name: path.read_bytes() for name, path in files.items() if "/.fetch/state/" not in name}
    return {name: FETCHED_AT.sub(b"", data) for name, data in found.items()}


def test_killed_and_called_again_it_writes_the_same_bytes(forks: Forks, tmp_path: Path) -> None:
    random = Random(11)
    sources = [f"{feed}={put(tmp_path / feed, SAMPLES[feed].files)}" for feed in FEEDS]

    def start(name: str) -> Fork:
        output = tmp_path / name
        arguments = ["--all", "--no-training", "--output", str(output)]
        arguments += [word for source in sources for word in ("--source", source)]
        environment = {"SX9_STATE_DIR": str(output / "state"), "SX9_KAFKA_BOOTSTRAP": ""}
        log = tmp_path / f"{name}.log"
        return forks.start(f"{__name__}:run", log, arguments=arguments, environment=environment)

    began = time.monotonic()
    assert start("quiet").wait(300) == 0, (tmp_path / "quiet.log").read_text()
    lasted_s = time.monotonic() - began
    wanted = written(tmp_path / "quiet")

    kill_at_random(lambda: start("killed"), KILLS, lasted_s, random)
    assert start("killed").wait(300) == 0, (tmp_path / "killed.log").read_text()
    found = written(tmp_path / "killed")
    assert found.keys() == wanted.keys()
    assert [name for name, data in wanted.items() if found[name] != data] == []
