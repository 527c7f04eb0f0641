"""`python -m benchmarks.up`: how long `sx9 up` takes to be ready in an empty folder, and its memory while idle.

    sx9 up ──> ready: Kafka and Neo4j answer, and every process serves its metrics ──> 30 s idle ──> memory

Nothing is fetched. Memory is the PSS of each process on Linux, in which a page that several processes share counts
once; elsewhere it is the RSS. The results are also written to up.json. Exit code 1: a bar was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.report import Bar, processor

READY_S = 30.0
"""Bar: seconds from the start of the command until everything answers, on two quiet cores."""
IDLE_MB = 1_600.0
"""Bar: memory of all processes while idle, MB."""
IDLE_S = 30.0
POLL_S = 0.2
GIVE_UP_S = 900.0
MB = 1024 * 1024


def main() -> None:
    """Measure, print the table, write up.json, and exit with 0 if both bars are reached."""
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="sx9-up-") as folder:
        measured = measure(Path(folder), arguments.idle)
    bars = [
        Bar("ready after", measured["ready_s"], READY_S, "s", at_most=True),
        Bar("memory while idle", measured["total_mb"], IDLE_MB, "MB", at_most=True),
    ]
    _show(measured, bars)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "up.json"
    found = {"machine": processor(), **measured, "bars": {bar.what: [bar.value, bar.bar] for bar in bars}}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")
    sys.exit(0 if all(bar.reached for bar in bars) else 1)


def measure(folder: Path, idle_s: float) -> dict[str, Any]:
    """Start the system in an empty folder, and stop it after it was idle.

    Args:
        folder: An empty folder.
        idle_s: Seconds from ready until memory is measured.

    Returns:
        `ready_s`, `cpu_s` (processor time of all processes until ready), `total_mb`, and `processes`: name, MB,
        threads, and the share of a core that each took while idle.
    """
    with running(folder) as process:
        began = time.monotonic()
        wait_until_ready(process, folder / "state" / "run" / "up.json", began)
        ready_s = time.monotonic() - began
        before = {one.pid: _cpu_s(one) for one in family(process.pid)}
        time.sleep(idle_s)
        rows = [_row(one, before.get(one.pid, 0.0), idle_s) for one in family(process.pid)]
    return {
        "ready_s": ready_s,
        "cpu_s": sum(before.values()),
        "total_mb": sum(row["mb"] for row in rows),
        "processes": sorted(rows, key=lambda row: -row["mb"]),
    }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`sx9 up` in a folder, with its output in `up.log`."""
    folders = ["--state-dir", str(folder / "state"), "--output-dir", str(folder / "output")]
    command = [sys.executable, "-m", "sx9_ml_models", *folders, "up"]
    with (folder / "up.log").open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | {"SX9_FEEDS": ""}, stdout=out, stderr=out)
    try:
        yield process
    except BaseException:
        print((folder / "up.log").read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], listed: Path, began: float) -> None:
    """Wait until every process in `up.json` serves its metrics. It is written when Kafka and Neo4j answer."""
    while not (listed.exists() and all(_serves(one["metrics_port"]) for one in json.loads(listed.read_text()))):
        if process.poll() is not None or time.monotonic() - began > GIVE_UP_S:
            raise SystemExit(f"sx9 up is not ready after {time.monotonic() - began:.0f} s; its output is above")
        time.sleep(POLL_S)


def _serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _row(process: psutil.Process, cpu_before_s: float, idle_s: float) -> dict[str, Any]:
    memory = process.memory_full_info()
    return {
        "name": _name(process.cmdline()),
        "mb": round(getattr(memory, "pss", memory.rss) / MB, 1),
        "threads": process.num_threads(),
        "core_share": round((_cpu_s(process) - cpu_before_s) / idle_s, 4),
    }


def _name(command: list[str]) -> str:
    """`train gnn-threat` for a role, `kafka` or `neo4j` for Java, and who is watched for a watchdog."""
    text = " ".join(command)
    watched = "watchdog of " if "supervisor.py" in text else ""
    for service in ("kafka", "neo4j"):
        if f"{service}.args" in text:
            return watched + service
    if watched:
        inner = json.loads(command[-1])["command"]
        return watched + " ".join(inner[inner.index("sx9_ml_models") + 1 :])
    return " ".join(command[command.index("sx9_ml_models") + 1 :] if "sx9_ml_models" in command else command)[-60:]


def _show(measured: dict[str, Any], bars: list[Bar]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("process", "MB", "threads", "core while idle"):
        table.add_column(column)
    for row in measured["processes"]:
        table.add_row(row["name"], f"{row['mb']:.0f}", str(row["threads"]), f"{row['core_share']:.1%}")
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(table)
    console.print(f"processor time until ready: {measured['cpu_s']:.0f} s")
    for bar in bars:
        outcome = "reached" if bar.reached else "MISSED"
        console.print(f"{bar.what}: {bar.value:.1f} {bar.unit}, bar {bar.bar:.0f} {bar.unit}: {outcome}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time to ready and idle memory of `sx9 up`")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds of idling before memory is measured")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder of up.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
