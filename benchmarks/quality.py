"""`python -m benchmarks.quality`: scores of the models compared with simpler alternatives.

    tactics       trained on ATT&CK 15.1, tested on what is new in 17.1; and on techniques in a holdout
    severity      of Nuclei templates, a fifth of them in the test set
    incremental   15.1, 16.1, 17.1 as windows, against one training on all of them; forgetting matrix
    links         techniques of actors and software of 17.1, trained on 15.1
    phi3          perplexity of answers about techniques of 17.1, trained on 15.1

Baselines are trained and evaluated in the same run. The reported value of a metric is its median over the seeds.
The results are also written to quality.json and quality.png. A task without its feeds is skipped, with a message.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.report import processor
from benchmarks.rows import Result, Row, Setup, Skipped, save, show

TASKS = ("tactics", "severity", "incremental", "links", "phi3")


def main() -> None:
    """Run the tasks that the command line selects."""
    arguments = _parse()
    setup = Setup(
        feeds=arguments.feeds,
        output=arguments.output,
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        threads=arguments.threads,
        only=arguments.part,
    )
    result = Result(machine=processor(), seeds=list(setup.seeds))
    console = Console(width=None if sys.stdout.isatty() else 130)
    with _progress(console) as progress:
        for name in arguments.only.split(","):
            result.rows += _task(name, setup, progress, console)
    show(result, console)
    for path in save(result, arguments.output):
        console.print(f"written: {path}")


def _task(name: str, setup: Setup, progress: Progress, console: Console) -> list[Row]:
    started = time.monotonic()
    try:
        rows: list[Row] = importlib.import_module(f"benchmarks.tasks.{name}").run(setup, progress)
    except Skipped as reason:
        console.print(f"{name}: skipped, {reason}")
        return []
    console.print(f"{name}: {time.monotonic() - started:.0f} s")
    return rows


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, separated by commas")
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds; the reported values are medians over them"
    )
    parser.add_argument("--first-seed", type=int, default=17, help="first seed; the others follow it")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--part", default="", help="only the parts of a task whose title contains this")
    parser.add_argument(
        "--feeds",
        type=Path,
        default=Path("../shared/feeds"),
        help="folder of the feeds: attack/, nuclei-templates/, ...",
    )
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or not set(arguments.only.split(",")) <= set(TASKS):
        parser.error(f"--seeds must be at least 1; the tasks are {', '.join(TASKS)}")
    return arguments


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stdout.isatty(),
    )


if __name__ == "__main__":
    main()
