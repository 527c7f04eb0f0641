"""`sx9 up`: one system per folder; its processes are restarted when they exit, and nothing outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.models import MODELS

BACKGROUND = ("/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Put before a command, it ignores SIGINT, as a shell does for a job that it starts in the background."""
TIMEOUT_S = 900.0
"""Longest wait of a test, seconds: no machine is that busy."""
MONITORING = ["--monitoring"] if shutil.which("prometheus") else []
"""A system has a Prometheus where the machine has one."""
SCRAPED = {"journal", "graph", "fold", "serve", *(f"train-{model}" for model in MODELS)}
NAMES = SCRAPED | ({"prometheus"} if MONITORING else set())


class Up:
    """A running `sx9 up`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "up.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*BACKGROUND, *self._command("up", *MONITORING)],
                env=os.environ | {"SX9_FETCH_INTERVAL_S": "0"},
                stdout=out,
                stderr=out,
            )

    def _command(self, *arguments: str) -> list[str]:
        folders = ["--state-dir", str(self.folder / "state"), "--output-dir", str(self.folder / "output")]
        return [sys.executable, "-m", "sx9_ml_models", *folders, *arguments]

    def sx9(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command on the same folder."""
        return subprocess.run(
            self._command(*arguments), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def status(self) -> dict[str, Any]:
        """The output of `sx9 status --json`."""
        done = self.sx9("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def is_up(self) -> bool:
        """Whether every process answers."""
        found = self.status()
        return found["running"] and {p["name"] for p in found["processes"] if p["answers"]} == NAMES

    def family(self) -> list[psutil.Process]:
        """All its processes, those of Kafka and Neo4j included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def role(self, name: str) -> psutil.Process | None:
        """The running process of a role; None while there is none."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):  # a watchdog that has exited is a zombie for a moment
                if process.cmdline()[-2:] == ["run", name]:
                    return process
        return None

    def service(self, name: str) -> int:
        """Process id of the Java of Kafka or Neo4j."""
        found: dict[str, int] = json.loads((self.folder / "state" / "run" / f"{name}.json").read_text())
        return found["child"]


def until(done: Callable[[], bool], what: str) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.3)


def scraped(up: Up) -> set[str]:
    """The processes that Prometheus reaches."""
    (port,) = (p["metrics_port"] for p in up.status()["processes"] if p["name"] == "prometheus")
    query = "http://127.0.0.1:{}/api/v1/query?query=up%7Bjob%3D%22sx9%22%7D%20%3D%3D%201"
    with urllib.request.urlopen(query.format(port)) as answer:
        return {one["metric"]["process"] for one in json.load(answer)["data"]["result"]}


def check_page(up: Up) -> None:
    """The page of the server is there before any model is, and the server has not loaded torch for it."""
    (page,) = (p["page"] for p in up.status()["processes"] if "page" in p)
    assert f"the page of the system: {page}" in up.log.read_text()
    with urllib.request.urlopen(page) as answer:
        assert b"<title>sx9-ml-models</title>" in answer.read()
    with urllib.request.urlopen(f"{page}v1/state") as answer:
        state = json.load(answer)
    found = {one["model"]: (one["version"], one["versions"]) for one in state["serving"]}
    assert found == dict.fromkeys(MODELS, (None, []))
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{page}readyz")
    server = up.role("serve")
    assert server is not None
    if sys.platform == "linux":
        assert not [m.path for m in server.memory_maps() if "libtorch" in m.path]


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    system = Up(tmp_path)
    try:
        until(lambda: system.process.poll() is None and system.is_up(), f"{system.log.read_text()}")
        yield system
    finally:
        if system.process.poll() is None:
            system.process.terminate()
        system.process.wait(TIMEOUT_S)


def test_a_process_that_exits_is_restarted_and_all_stop_at_sigterm(up: Up) -> None:
    assert up.sx9("up").returncode == 1  # a second one in the same folder
    child = up.role("fold")
    assert child is not None
    child.kill()
    until(lambda: up.role("fold") not in (None, child), "a new fold role")
    assert "fold exited with code 137 and restarts in 1 s" in up.log.read_text()
    until(up.is_up, "all to answer again")
    for process in up.status()["processes"]:
        text = urllib.request.urlopen(f"http://127.0.0.1:{process['metrics_port']}/metrics").read().decode()
        assert ("# TYPE sx9_" in text) == (process["name"] in SCRAPED)
        assert sum(not line.startswith("#") for line in text.splitlines()) < 2_000, "series of a scrape"
    if MONITORING:
        until(lambda: scraped(up) == SCRAPED, "Prometheus to reach every process")
    check_page(up)
    asked = up.sx9("retrain", "--reason", "a test", "--json")
    assert json.loads(asked.stdout)["reason"] == "a test"
    processes = up.family()
    up.process.terminate()
    assert up.process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert all_gone(processes)
    written = {path.name: path.read_bytes() for path in (up.folder / "state" / "logs").glob("*.log")}
    assert [name for name, text in written.items() if b"\x1b" in text] == [], "no control codes in a file"


def test_nothing_outlives_a_system_that_is_killed(up: Up) -> None:
    processes = up.family()
    assert len(processes) >= len(NAMES) + 4
    up.process.kill()
    up.process.wait()
    until(lambda: all_gone(processes), "its processes to end")
    assert up.status()["running"] is False


def test_kafka_and_neo4j_that_are_killed_are_restarted_on_the_same_data_and_ctrl_c_ends_all(up: Up) -> None:
    before = up.status()
    killed = {name: up.service(name) for name in ("kafka", "neo4j")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    asked = up.sx9("retrain", "--reason", "while Kafka is away", "--json")
    assert json.loads(asked.stdout)["reason"] == "while Kafka is away", asked.stderr
    until(lambda: up.status()["running"] and up.is_up(), "all to answer again")
    addresses = {name: before[name] for name in killed}
    until(lambda: addresses.items() <= up.status().items(), "Kafka and Neo4j at their addresses")
    log = up.log.read_text()
    for name, pid in killed.items():
        assert f"{name} exited with code 137 and restarts in 1 s" in log
        assert up.service(name) != pid
        assert psutil.Process(up.service(name)).parents()[1].pid == up.process.pid, "it belongs to `sx9 up`"
    javas = [p for p in up.family() if any("kafka.args" in part for part in p.cmdline()[:2])]
    assert len(javas) == 1
    processes = up.family()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(TIMEOUT_S) == 130
    assert all_gone(processes)
