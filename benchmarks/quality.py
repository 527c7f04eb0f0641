"""`python -m benchmarks.quality`: how good the models are, beside what a user would pick instead.

    tactics       trained on ATT&CK 15.1, tested on what is new in 17.1; and on techniques held out
    severity      of Nuclei templates, a fifth of them held out
    incremental   15.1, 16.1, 17.1 as windows beside one training on all of them, with a forgetting matrix
    links         techniques of actors and software of 17.1, trained on 15.1
    phi3          perplexity of answers about techniques of 17.1, trained on 15.1

Baselines are trained and measured in the same run. Every figure is the median over the seeds. Also writes
quality.json and quality.png. A task whose feeds are not there, or whose module this checkout lacks, is skipped with
a word.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.rows import Result, Row, Setup, Skipped, save, show

TASKS = ("tactics", "severity", "incremental", "links", "phi3")


def main() -> None:
    """Measure what the command line asks for."""
    asked = _parse()
    setup = Setup(
        feeds=asked.feeds,
        output=asked.output,
        seeds=tuple(range(asked.first_seed, asked.first_seed + asked.seeds)),
        threads=asked.threads,
        only=asked.part,
    )
    result = Result(machine=_machine(), seeds=list(setup.seeds))
    console = Console(width=None if sys.stdout.isatty() else 130)
    with _progress(console) as progress:
        for name in asked.only.split(","):
            result.rows += _task(name, setup, progress, console)
    show(result, console)
    for path in save(result, asked.output):
        console.print(f"written: {path}")


def _task(name: str, setup: Setup, progress: Progress, console: Console) -> list[Row]:
    module = f"benchmarks.tasks.{name}"
    if importlib.util.find_spec(module) is None:
        console.print(f"{name}: skipped, there is no {module} yet")
        return []
    started = time.monotonic()
    try:
        rows: list[Row] = importlib.import_module(module).run(setup, progress)
    except Skipped as why:
        console.print(f"{name}: skipped, {why}")
        return []
    console.print(f"{name}: {time.monotonic() - started:.0f} s")
    return rows


def _machine() -> dict[str, str]:
    from benchmarks.report import processor

    return processor()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, with commas between")
    parser.add_argument("--seeds", type=int, default=3, help="how many; figures are medians over them")
    parser.add_argument("--first-seed", type=int, default=17, help="the others follow")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--part", default="", help="of a task, the part whose title has this in it")
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder with attack/, ...")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder")
    asked = parser.parse_args()
    if asked.seeds < 1 or not set(asked.only.split(",")) <= set(TASKS):
        parser.error(f"--seeds is at least 1; tasks are {', '.join(TASKS)}")
    return asked


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
