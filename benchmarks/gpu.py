"""`python -m benchmarks.gpu`: the recipes on a GPU. At most eight minutes on one H100.

    the three recipes   bf16 on the GPU against float32 on the CPU: the curve of the losses, and the scores
    memory              a batch that does not fit is halved, and the losses stay the same
    checkpoint          a killed run, resumed, ends with the same losses and weights
    Phi-3-mini          its shape with random weights, LoRA, rows of 2,048 tokens on average: tokens per second,
                        memory, share of the card's bf16 peak; and the Trainer of transformers with PEFT

It needs torch, transformers, peft, accelerate, torch-geometric and msgspec, and a copy of this tree. It installs
and downloads nothing. Each part is a process of its own. The results are a table and `gpu.json`. Without a GPU it
says so, and runs everything on the CPU with tiny shapes: that shows that the code runs, but measures nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "torch": "torch", "transformers": "transformers", "peft": "peft", "accelerate": "accelerate",
    "torch_geometric": "torch-geometric", "msgspec": "msgspec",
}  # fmt: skip
"""Module -> the package that has it."""
PARTS = ("reference", "recipes", "memory", "checkpoint", "ours", "trainer")
LIMIT_S = 480
"""The whole command takes no longer; parts that have not run by then are reported as failed."""
MODELS = ("distilbert-mitre", "phi3-mitre-lora", "gnn-threat")

CURVE_TOLERANCE = 0.05
"""Mean difference of two curves over the steps, as a share of the first loss."""
SCORE_TOLERANCE = 3.0
"""Difference of two scores in standard errors of the score."""
MIN_ERROR = 0.005
"""Standard errors below this one count as this one."""
PEAK_BAR, RATIO_BAR = 0.4, 1.5
ANCHOR = "anchor: torchtune, Llama-3.2-3B with LoRA on an A100: 8,210 tokens/s"


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        what: What is measured.
        value: The measured value; None if it was not measured.
        bar: The value to reach; None for no bar.
        at_most: Whether less is better.
        note: Shown behind it.
    """

    what: str
    value: float | None
    bar: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None without a bar or a value."""
        if self.value is None or self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def main() -> int:
    """Run all parts.

    Returns:
        0 if all of them ran and computed what they should, 1 if not, 2 if a package is missing. A speed below its
        bar is shown, but does not change this.
    """
    chosen = _parse()
    if absent := missing_packages():
        print(f"benchmarks.gpu needs {', '.join(absent)}: pip install {' '.join(absent)}", file=sys.stderr)
        return 2
    import torch

    has_gpu = torch.cuda.is_available() and not chosen.dry_run
    if not has_gpu:
        print("no GPU is used: a dry run on the CPU with tiny shapes, in which no speed means anything")
    started = time.monotonic()
    found, failures = run(has_gpu, chosen.threads, started + LIMIT_S)
    lines = [*correctness(found), *(speed(found) if has_gpu else [])]
    result = {
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
        "dry_run": not has_gpu,
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started),
        "failures": failures,
        "table": [asdict(line) | {"reached": line.reached} for line in lines],
        "parts": found,
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "gpu.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(lines, failures, f"{result['device']}, torch {result['torch']}, {result['seconds']} s")
    print(f"written: {chosen.output / 'gpu.json'}")
    return int(bool(failures) or any(line.reached is False for line in correctness(found)))


def missing_packages() -> list[str]:
    """The packages that are not installed."""
    return [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]


def run(has_gpu: bool, threads: int, deadline: float) -> tuple[dict[str, Any], dict[str, str]]:
    """Run all parts in processes: each in its own on a GPU, which then has its whole memory; else all in one.

    Args:
        has_gpu: Whether to compute on the GPU with full sizes, or on the CPU with tiny ones.
        threads: Of torch, on the CPU.
        deadline: By `time.monotonic`, when the last one is stopped.

    Returns:
        Part -> its result, and part -> why it failed.
    """
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for parts in [[part] for part in PARTS] if has_gpu else [list(PARTS)]:
        left = deadline - time.monotonic()
        reason = _run(parts, has_gpu, threads, left, found) if left > 0 else f"no time is left of {LIMIT_S} s"
        failures |= dict.fromkeys([part for part in parts if part not in found], reason)
    return found, failures


def _run(parts: Sequence[str], has_gpu: bool, threads: int, limit: float, found: dict[str, Any]) -> str:
    """Run some parts in one process, and add their results. Returns why it failed, or nothing."""
    flags = ["-S"] if sys.flags.no_site else []
    size = ["cuda", "bfloat16", "full"] if has_gpu else ["cpu", "bfloat16", "tiny"]
    command = [sys.executable, *flags, "-m", "benchmarks.gpu_sides", *size, *parts, "--threads", str(threads)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f} s"
    for line in finished.stdout.splitlines():
        if line.startswith('{"part"'):
            result = json.loads(line)
            found[result["part"]] = result
            print(f"{result['part']}: done", flush=True)
    return f"exit {finished.returncode}: {finished.stderr.strip()[-2000:]}" if finished.returncode else ""


# ---- the table


def correctness(found: Mapping[str, Any]) -> list[Line]:
    """What must hold on any device."""
    lines: list[Line] = []
    if {"reference", "recipes"} <= found.keys():
        for model in MODELS:
            lines += _comparison(model, found["reference"][model], found["recipes"][model])
    if "memory" in found:
        part = found["memory"]
        note = f"micro-batches of {part['micro_batch']} instead of {part['batch']}; allocator: {part['allocator']}"
        share = part["micro_batch"] / part["batch"]
        lines.append(Line("out of memory: micro-batch, share of the batch", share, 0.5, at_most=True, note=note))
        difference = curve_difference(part["expected"], part["losses"])
        lines.append(Line("out of memory: curve against enough memory", difference, CURVE_TOLERANCE, at_most=True))
    if "checkpoint" in found:
        part = found["checkpoint"]
        is_same = part["expected"] == part["losses"] and part["equal_weights"]
        note = f"resumed at step {part['resumed_at']} of {part['steps']}"
        lines.append(Line("checkpoint: same losses and weights (1: yes)", float(is_same), 1.0, note=note))
    return lines


def _comparison(model: str, reference: Mapping[str, Any], tested: Mapping[str, Any]) -> list[Line]:
    difference = curve_difference(reference["losses"], tested["losses"])
    losses = [losses[i] for losses in (reference["losses"], tested["losses"]) for i in (0, -1)]
    curve_note = "float32 {:.3f} to {:.3f}, bf16 {:.3f} to {:.3f}".format(*losses)
    errors = abs(reference["score"] - tested["score"]) / max(reference["error"], MIN_ERROR)
    score_note = f"{reference['metric']}: float32 {reference['score']:.3f}, bf16 {tested['score']:.3f}"
    return [
        Line(f"{model}: curve in bf16 against float32", difference, CURVE_TOLERANCE, at_most=True, note=curve_note),
        Line(f"{model}: score, in standard errors", errors, SCORE_TOLERANCE, at_most=True, note=score_note),
    ]


def curve_difference(expected: Sequence[float], found: Sequence[float]) -> float:
    """Mean difference of two curves over the steps, as a share of the first loss.

    >>> curve_difference([2.0, 1.0], [2.0, 1.5])
    0.125
    """
    differences = [abs(a - b) for a, b in zip(expected, found, strict=True)]
    return sum(differences) / len(differences) / expected[0]


def speed(found: Mapping[str, Any]) -> list[Line]:
    """How fast the recipe of phi3-mitre-lora trains the shape of Phi-3-mini."""
    ours, trainer = found.get("ours"), found.get("trainer")
    lines: list[Line] = []
    if ours:
        tflops = f"{ours['tflops']:.0f} of {ours['peak_tflops'] or 'unknown'} TFLOP/s"
        lines += [
            Line("Phi-3-mini, LoRA: tokens/s", ours["tokens_per_s"], note=ANCHOR),
            Line("Phi-3-mini, LoRA: share of the bf16 peak", ours["share_of_peak"], PEAK_BAR, note=tflops),
            Line("Phi-3-mini, LoRA: memory, GiB", ours["memory_gib"]),
        ]
    if ours and trainer:
        ratio = ours["tokens_per_s"] / trainer["tokens_per_s"]
        note = f"Trainer with PEFT: {trainer['tokens_per_s']:.0f} tokens/s, {trainer['memory_gib']:.1f} GiB"
        lines.append(Line("Phi-3-mini, LoRA: ours / Trainer", ratio, RATIO_BAR, note=note))
    return lines


def show(lines: Sequence[Line], failures: Mapping[str, str], title: str) -> None:
    """Print the table."""
    print(title)
    width = max((len(line.what) for line in lines), default=0)
    for line in lines:
        value = (
            "unknown" if line.value is None else f"{line.value:,.4f}" if line.value < 100 else f"{line.value:,.0f}"
        )
        bar = "" if line.bar is None else f"{'<=' if line.at_most else '>='} {line.bar:g}"
        verdict = {True: "reached", False: "NOT REACHED", None: ""}[line.reached]
        print(f"{line.what:{width}}  {value:>9}  {bar:8}  {verdict:11}  {line.note}".rstrip())
    for part, reason in failures.items():
        print(f"{part}: FAILED, {reason.splitlines()[0]} ... {reason.splitlines()[-1]}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU, also if there is a GPU")
    parser.add_argument(
        "--threads", type=int, default=min(8, os.cpu_count() or 1), help="threads of torch on the CPU"
    )
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder for the results")
    chosen = parser.parse_args()
    if chosen.threads < 1:
        parser.error("--threads must be at least 1")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
