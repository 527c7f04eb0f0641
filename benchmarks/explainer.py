"""`python -m benchmarks.explainer`: do answers hold to their context, on techniques that no version was trained on?

An adapter is trained on ATT&CK 15.1 and asked about the techniques that are new in 17.1: with what 17.1 says of
them, with what does not belong beside it, and with contexts that do not answer the question. The untuned base gets
the same questions. With `--without-context`, another adapter is trained and asked without any context, as versions
were before; it has "invented" the ids that it knows by heart. With `--development`, the questions are about
techniques of 15.1 that are held out: choose settings with these, and look at those of 17.1 once. The results are
also written to explainer/quality.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.report import processor
from benchmarks.rows import Result, Row, Setup, Skipped, save, show
from benchmarks.tasks import phi3
from schemas.journal import held_out
from schemas.scores import ANSWERS, HOLDOUT
from trainers.core.report import Report

BARS = (
    ("citation_precision", 0.98, False),
    ("invented_ids", 0.02, True),
    ("tactic_named", 0.9, False),
    ("mitigation_named", 0.9, False),
    ("no_answer_recall", 0.8, False),
    ("false_no_answer", 0.05, True),
    ("grounded", 0.9, False),
)
"""Metric, its bar, and whether less is better; see `trainers.models.phi3_lora.generation_evaluation`."""


def main() -> None:
    """Train, ask, and print the table."""
    arguments = _parse()
    seeds = tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds))
    setup = Setup(feeds=arguments.feeds, output=arguments.output, seeds=seeds, threads=arguments.threads)
    console = Console(width=None if sys.stdout.isatty() else 150)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stdout.isatty()) as progress:
        try:
            known, test = phi3.material(setup)
            if arguments.development:
                test = tuple(at for at in enumerate(known) if held_out(at[1]))
        except Skipped as reason:
            sys.exit(f"benchmarks.explainer: {reason}")
        overrides = _overrides(arguments)
        reports = [phi3.trained(known, test, arguments.examples, seed, progress, overrides) for seed in seeds]
        title = f"{len(test)} instructions, {arguments.examples} examples trained on"
        rows = _rows(title, reports)
        if arguments.without_context:
            bare = overrides | {"context_chars": 0}
            reports = [phi3.trained(known, test, arguments.examples, seed, progress, bare) for seed in seeds]
            rows += _rows("the same, trained and asked without context", reports)
    result = Result(machine=processor(), seeds=list(seeds), rows=rows)
    show(result, console)
    for path in save(result, arguments.output):
        console.print(f"written: {path}")


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "threads": arguments.threads,
        "sample_answers": arguments.answers,
        "answer_tokens": 96,
        "eval_examples": 16,
        "eval_steps": 10**6,
    }


def _rows(title: str, reports: list[Report]) -> list[Row]:
    ours = [report.candidate[ANSWERS][HOLDOUT].extra for report in reports]
    base = reports[0].trivial_baseline[ANSWERS][HOLDOUT].extra
    return [
        Row(
            task=title,
            metric=metric,
            bar=bar,
            at_most=at_most,
            baseline=base.get(metric, 0.0),
            baseline_name="untuned base" if metric in base else "untuned base: none cited",
            ours=[values[metric] for values in ours],
            details={"samples": [report.details["samples"] for report in reports]} if not number else {},
        )
        for number, (metric, bar, at_most) in enumerate(BARS)
        if all(metric in values for values in ours)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.explainer", description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=400, help="number of examples to train on")
    parser.add_argument("--answers", type=int, default=120, help="number of questions to generate answers for")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; the values are medians over them")
    parser.add_argument("--first-seed", type=int, default=17, help="first seed; the others follow it")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument(
        "--without-context", action="store_true", help="also train and ask without context, as before"
    )
    parser.add_argument("--development", action="store_true", help="ask about held out techniques of 15.1")
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder of the feeds")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks/explainer"), help="for the results")
    arguments = parser.parse_args()
    if min(arguments.examples, arguments.answers, arguments.seeds, arguments.threads) < 1:
        parser.error("--examples, --answers, --seeds and --threads must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
