"""`make bench`: throughput of the ingest path compared with alternatives, on a real Kafka and a real Neo4j.

    live     topic -> journal, through the Faust app      against a Faust agent that does nothing
    graph    backlog -> Neo4j, the graph role in bulk     against Quix Streams' Neo4jSink, and the bare driver
    fold     journal -> state of the fold, in bulk        against kafka-python without decoding
    memory   of the three roles, after few and after many events

The implementations that a part compares are its sides. Each side runs in its own process. The sides take turns, and
the best run of each counts. Starting a process and connecting to the services is not measured. The results are also
written to ingest.json and ingest.png.
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
    """Run the parts that the command line selects."""
    arguments = _parse()
    if not arguments.quix.exists():
        raise SystemExit(
            f"{arguments.quix} does not exist: `make bench` creates it (Quix Streams needs its own venv)"
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    report = Report(machine=machine(arguments.quix), events=arguments.events, repeat=arguments.repeat)
    with tempfile.TemporaryDirectory(prefix="sx9-bench-") as folder, _progress() as progress:
        feed = Path(folder) / "feed.jsonl"
        write_feed(feed, load_settings())
        stage = Stage(
            Path(folder), arguments.events, arguments.repeat, arguments.quix, feed, read_feed(feed), progress
        )
        for name in arguments.only.split(","):
            PARTS[name](stage, report)
    show(report, console)
    for path in save(report, arguments.output):
        console.print(f"written: {path}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.ingest", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000, help="number of events in the backlog")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each side; the best one counts")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument(
        "--output", type=Path, default=load_settings().output_dir / "benchmarks", help="folder for the results"
    )
    parser.add_argument("--quix", type=Path, default=QUIX, help="Python interpreter with Quix Streams")
    arguments = parser.parse_args()
    if arguments.events < 1 or arguments.repeat < 1 or not set(arguments.only.split(",")) <= PARTS.keys():
        parser.error(f"--events and --repeat must be at least 1; the parts are {', '.join(PARTS)}")
    return arguments


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


if __name__ == "__main__":
    main()
