"""`python -m benchmarks.train`: how fast the recipes train, beside Hugging Face's Trainer with its defaults.

    distilbert    examples a second, the same base, data and epochs; score: average precision of a holdout
    lora          answer tokens a second, the same base, adapter, data and epoch; score: perplexity of a holdout
    phi3          Phi-3-mini's shape, random weights: tokens a second, share of the peak, memory (needs a GPU)

Every side is a process of its own, the sides take turns, and the best run of each counts. Timed is the training:
loading the model and tokenising are left out of the Trainer's time (they are in ours), scoring is left out of both.
Both sides' folders are scored by one piece of code. Also writes train.json. Runs on the GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SIDES = {
    "distilbert": ("ours", "trainer", "trainer-at-our-rate"),
    "lora": ("ours", "ours-float32", "trainer", "trainer-at-our-rate"),
    "phi3": ("ours",),
}
BARS = {"distilbert": 2.0, "lora": 1.5}
UNITS = {"distilbert": "examples/s", "lora": "answer tokens/s", "phi3": "tokens/s"}


def main() -> None:
    """Measure what the command line asks for."""
    asked = _parse()
    console = Console(width=None if sys.stdout.isatty() else 130)
    found: list[dict[str, Any]] = []
    for part in asked.only.split(","):
        runs = [_run(part, side, asked, console) for _ in range(asked.repeat) for side in SIDES[part]]
        found += [
            max((r for r in runs if r["side"] == s and "rate" in r), key=_rate, default={}) for s in SIDES[part]
        ]
    found = [one for one in found if one]
    _show(found, console)
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "train.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    console.print(f"written: {asked.output / 'train.json'}")


def _rate(run: dict[str, Any]) -> float:
    return float(run["rate"])


def _run(part: str, side: str, asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """One side in a process of its own; what it printed last."""
    command = [sys.executable, "-m", "benchmarks.train_sides", part, side, "--threads", str(asked.threads)]
    command += ["--examples", str(asked.examples if part == "distilbert" else asked.instructions)]
    environment = os.environ | {"OMP_NUM_THREADS": str(asked.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{part}, {side}: exit {done.returncode}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = {"part": part, "side": side} | json.loads(done.stdout.splitlines()[-1])
    console.print(f"{part}, {side}: {_said(result)}")
    return result


def _said(result: dict[str, Any]) -> str:
    if "skipped" in result:
        return f"skipped, {result['skipped']}"
    more = {name: value for name, value in result.items() if name not in ("part", "side", "rate", "score")}
    return f"{result['rate']:.1f} {UNITS[result['part']]}, score {result['score']:.4f}, {more}"


def _show(found: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("part", "side", "rate", "", "ours / this", "bar", "score"):
        table.add_column(column)
    for one in found:
        ours = next(o for o in found if o["part"] == one["part"] and o["side"] == "ours")
        ratio = f"{ours['rate'] / one['rate']:.2f}" if one is not ours else ""
        bar = f"{BARS[one['part']]:.1f}" if one["side"] == "trainer" else ""
        score = f"{one['score']:.4f}"
        table.add_row(one["part"], one["side"], f"{one['rate']:.1f}", UNITS[one["part"]], ratio, bar, score)
    console.print(table)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SIDES), help="parts, with commas between")
    parser.add_argument("--examples", type=int, default=1_500, help="texts to train on")
    parser.add_argument("--instructions", type=int, default=40, help="instructions to train on")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each side, of which the best counts")
    parser.add_argument("--threads", type=int, default=2, help="of torch, on every side")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder")
    asked = parser.parse_args()
    if min(asked.examples, asked.instructions, asked.repeat, asked.threads) < 1:
        parser.error("numbers are at least 1")
    if not set(asked.only.split(",")) <= SIDES.keys():
        parser.error(f"parts are {', '.join(SIDES)}")
    return asked


if __name__ == "__main__":
    main()
