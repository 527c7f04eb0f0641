"""`make bench`: rates of the ingest path beside those of others, on a real Kafka and a real Neo4j.

    live     topic -> journal, through the Faust app      beside a Faust agent that does nothing
    graph    backlog -> Neo4j, the graph role in bulk     beside Quix Streams' Neo4jSink, and the bare driver
    fold     journal -> state of the fold, in bulk        beside kafka-python that looks at nothing
    memory   of the three roles after few and after many events

Every side is a process of its own; sides of a part take turns, and the best run of each counts. The start of a
process and its connecting are left out on all sides. Also writes ingest.json and ingest.png.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.events import read_feed, write_feed
from benchmarks.parts import fold, graph, live, memory
from benchmarks.report import Report, machine, save, show
from benchmarks.stage import Stage
from streams.settings import load_settings

PARTS = {"live": live, "graph": graph, "fold": fold, "memory": memory}
QUIX = Path(".tools/quix/bin/python")


def main() -> None:
    """Measure what the command line asks for."""
    asked = _parse()
    if not asked.quix.exists():
        raise SystemExit(f"{asked.quix} is not there: `make bench` makes it (Quix Streams needs a venv of its own)")
    console = Console(width=None if sys.stdout.isatty() else 120)
    report = Report(machine=machine(asked.quix), events=asked.events, repeat=asked.repeat)
    with tempfile.TemporaryDirectory(prefix="sx9-bench-") as folder, _progress() as progress:
        feed = Path(folder) / "feed.jsonl"
        write_feed(feed, load_settings())
        stage = Stage(Path(folder), asked.events, asked.repeat, asked.quix, feed, read_feed(feed), progress)
        for name in asked.only.split(","):
            PARTS[name](stage, report)
    show(report, console)
    for path in save(report, asked.output):
        console.print(f"written: {path}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.ingest", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000, help="events of the backlog")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each side, of which the best counts")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--output", type=Path, default=load_settings().output_dir / "benchmarks", help="folder")
    parser.add_argument("--quix", type=Path, default=QUIX, help="a Python that has Quix Streams")
    asked = parser.parse_args()
    if asked.events < 1 or asked.repeat < 1 or not set(asked.only.split(",")) <= PARTS.keys():
        parser.error(f"--events and --repeat are at least 1; parts are {', '.join(PARTS)}")
    return asked


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


if __name__ == "__main__":
    main()
