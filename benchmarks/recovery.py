"""`python -m benchmarks.recovery`: how long each process of `sx9 up` takes from a kill until it is ready again.

    sx9 up ──> all ready ──> SIGKILL of one process ──> a new one answers /readyz with 200 ──> the next process

The server, which has no version to serve, has to answer /healthz. Kafka is ready again once it answers an admin
request, Neo4j once it answers a query; both keep their data. Nothing is fetched. The results are also written to
recovery.json. Exit code 1: a process took longer than the bar.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.report import processor
from benchmarks.up import GIVE_UP_S, family, running, wait_until_ready
from schemas.errors import Sx9Error
from streams.local.kafka import broker_count
from streams.local.neo4j import check_neo4j
from streams.local.probe import kafka_answers
from streams.local.services import Endpoints
from streams.local.services import running as endpoints_of
from streams.settings import load_settings
from sx9_ml_models.monitoring import SERVER

READY_S = 15.0
"""Bar: seconds from the kill until ready again."""
SETTLE_S = 65.0
"""Seconds before a process is killed again: only then does it restart after the shortest pause."""
CALM_S = 15.0
"""Seconds between two kills, in which the others connect again and share their partitions: one fault at a time."""
POLL_S = 0.05


class Target(NamedTuple):
    """A process to kill: its name, how to find it, and whether it is ready."""

    name: str
    pid: Callable[[], int]
    is_ready: Callable[[], bool]


def main() -> None:
    """Measure, print the table, write recovery.json, and exit with 0 if every process reached the bar."""
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="sx9-recovery-") as folder:
        measured = measure(Path(folder), arguments.repeat, arguments.only)
    _show(measured)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "recovery.json"
    found = {"machine": processor(), "bar_s": READY_S, "seconds": measured}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")
    sys.exit(0 if all(max(runs) <= READY_S for runs in measured.values()) else 1)


def measure(folder: Path, repeat: int, only: Sequence[str]) -> dict[str, list[float]]:
    """Start the system in an empty folder and kill its processes one after the other.

    Args:
        folder: An empty folder.
        repeat: How often each is killed.
        only: The names of those to kill; empty: all.

    Returns:
        Process -> seconds of each time.
    """
    measured: dict[str, list[float]] = {}
    with running(folder) as process:
        listed = folder / "state" / "run" / "up.json"
        wait_until_ready(process, listed, time.monotonic())
        targets = _targets(process.pid, folder / "state")
        _wait(lambda: all(target.is_ready() for target in targets), "all processes ready")
        killed = [target for target in targets if not only or target.name in only]
        for round_ in range(repeat):
            if round_:
                time.sleep(SETTLE_S)
            for target in track(killed, f"kills, round {round_ + 1} of {repeat}", disable=not sys.stderr.isatty()):
                time.sleep(CALM_S)
                measured.setdefault(target.name, []).append(_recovery_s(target))
                _wait(lambda: all(each.is_ready() for each in targets), "all processes ready")
    return measured


def _recovery_s(target: Target) -> float:
    """Kill a process, and wait until its successor is ready."""
    os.kill(target.pid(), signal.SIGKILL)
    killed_s = time.monotonic()
    _wait(lambda: not target.is_ready(), f"{target.name} gone")
    _wait(target.is_ready, f"{target.name} ready again")
    return time.monotonic() - killed_s


def _targets(up: int, state: Path) -> list[Target]:
    """Every process of the system, Kafka and Neo4j last."""
    endpoints = endpoints_of(load_settings(state_dir=state))
    assert endpoints is not None, "wait_until_ready has seen both"
    listed = json.loads((state / "run" / "up.json").read_text())
    roles = [_role(up, one["name"], one["metrics_port"]) for one in listed]
    kafka, neo4j = (_service_pid(state, name) for name in ("kafka", "neo4j"))
    return [
        *roles,
        Target("kafka", kafka, lambda: _kafka_answers(endpoints.kafka_bootstrap)),
        Target("neo4j", neo4j, lambda: _neo4j_answers(endpoints)),
    ]


def _role(up: int, name: str, port: int) -> Target:
    """A child of `sx9 up`: a role, or the trainer `train-MODEL`."""
    role, _, model = name.partition("-") if name.startswith("train-") else (name, "", "")
    words = ["run", role, *(["--model", model] if model else [])]

    def pid() -> int:
        for process in family(up):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                if process.cmdline()[-len(words) :] == words:
                    return process.pid
        raise SystemExit(f"there is no process {' '.join(words)}")

    # A server without any version of a model is never ready.
    path = "healthz" if name == SERVER else "readyz"
    return Target(name, pid, lambda: _answers(f"http://127.0.0.1:{port}/{path}"))


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _service_pid(state: Path, name: str) -> Callable[[], int]:
    return lambda: int(json.loads((state / "run" / f"{name}.json").read_text())["child"])


def _kafka_answers(bootstrap: str) -> bool:
    return kafka_answers(bootstrap) and broker_count(bootstrap) > 0


def _neo4j_answers(endpoints: Endpoints) -> bool:
    try:
        check_neo4j(endpoints.neo4j_uri, endpoints.neo4j_user, endpoints.neo4j_password)
    except Sx9Error:
        return False
    return True


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"not within {GIVE_UP_S:.0f} s: {what}")
        time.sleep(POLL_S)


def _show(measured: dict[str, list[float]]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("process", "ready again after, median s", "longest s", f"bar {READY_S:.0f} s"):
        table.add_column(column)
    for name, runs in measured.items():
        outcome = "reached" if max(runs) <= READY_S else "MISSED"
        table.add_row(name, f"{statistics.median(runs):.1f}", f"{max(runs):.1f}", outcome)
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="from a kill of each process of `sx9 up` to ready again")
    parser.add_argument("--repeat", type=int, default=1, help="how often each process is killed")
    parser.add_argument("--only", action="append", default=[], help="kill only this process")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder of recovery.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
