"""`python -m benchmarks.train`: training speed of the recipes compared with the Trainer of Hugging Face.

    distilbert    examples per second, the same base, data and epochs; score: average precision on a holdout
    lora          answer tokens per second, the same base, adapter, data and epochs; score: perplexity of a holdout

The implementations that a part compares are its sides. Each side runs in its own process. The sides take turns, and
the best run of each counts. Only training is timed. Loading the model and tokenizing are not part of the Trainer's
time, and computing the hidden states of frozen layers is part of ours. All sides are scored by the same code. The
results are also written to train.json. The sides run on the GPU if there is one;
`benchmarks.gpu` trains a larger model there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SIDES = {
    "distilbert": ("ours", "trainer", "trainer-at-our-rate"),
    "lora": ("ours", "ours-float32", "trainer", "trainer-at-our-rate"),
}
BARS = {"distilbert": 2.0, "lora": 1.5}
UNITS = {"distilbert": "examples/s", "lora": "answer tokens/s"}


def main() -> None:
    """Run the parts that the command line selects."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else 130)
    results: list[dict[str, Any]] = []
    for part in arguments.only.split(","):
        runs = [_run(part, side, arguments, console) for _ in range(arguments.repeat) for side in SIDES[part]]
        results += _best_runs(runs, SIDES[part])
    _show(results, console)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "train.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written: {arguments.output / 'train.json'}")


def _best_runs(runs: Sequence[dict[str, Any]], sides: Sequence[str]) -> list[dict[str, Any]]:
    """The fastest run of each side."""
    measured = [[run for run in runs if run["side"] == side] for side in sides]
    return [max(of_side, key=lambda run: float(run["rate"])) for of_side in measured]


def _run(part: str, side: str, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run one side in its own process; returns the result that it printed."""
    command = [sys.executable, "-m", "benchmarks.train_sides", part, side, "--threads", str(arguments.threads)]
    command += ["--examples", str(arguments.examples if part == "distilbert" else arguments.instructions)]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if finished.returncode:
        raise SystemExit(f"{part}, {side}: exit {finished.returncode}\n{finished.stderr[-3000:]}")
    result: dict[str, Any] = {"part": part, "side": side} | json.loads(finished.stdout.splitlines()[-1])
    console.print(f"{part}, {side}: {_description(result)}")
    return result


def _description(result: dict[str, Any]) -> str:
    details = {name: value for name, value in result.items() if name not in ("part", "side", "rate", "score")}
    return f"{result['rate']:.1f} {UNITS[result['part']]}, score {result['score']:.4f}, {details}"


def _show(results: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("part", "side", "rate", "", "ours / this side", "bar", "score"):
        table.add_column(column)
    for result in results:
        part = result["part"]
        ours = next(other for other in results if other["part"] == part and other["side"] == "ours")
        ratio = f"{ours['rate'] / result['rate']:.2f}" if result is not ours else ""
        bar = f"{BARS[part]:.1f}" if result["side"] == "trainer" else ""
        score = f"{result['score']:.4f}"
        table.add_row(part, result["side"], f"{result['rate']:.1f}", UNITS[part], ratio, bar, score)
    console.print(table)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SIDES), help="parts, separated by commas")
    parser.add_argument("--examples", type=int, default=1_500, help="number of texts to train on")
    parser.add_argument("--instructions", type=int, default=40, help="number of instructions to train on")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each side; the best one counts")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch, for every side")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    if min(arguments.examples, arguments.instructions, arguments.repeat, arguments.threads) < 1:
        parser.error("all numbers must be at least 1")
    if not set(arguments.only.split(",")) <= SIDES.keys():
        parser.error(f"the parts are {', '.join(SIDES)}")
    return arguments


if __name__ == "__main__":
    main()
