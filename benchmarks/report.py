"""The results of `benchmarks.ingest` as a table, a plot and JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

PACKAGES = ("faust-streaming", "aiokafka", "kafka-python", "neo4j", "msgspec")


class Rate(msgspec.Struct):
    """The throughput of one side: `runs` has the messages per second of each run; the best one counts."""

    part: str
    side: str
    ours: bool
    events: int
    runs: list[float]
    note: str = ""

    @property
    def best(self) -> float:
        """The highest rate of all runs."""
        return max(self.runs)


class Memory(msgspec.Struct):
    """Resident memory of one role after fewer and after more messages, MB."""

    role: str
    few: int
    few_mb: float
    many: int
    many_mb: float

    @property
    def growth(self) -> float:
        """Growth between the two measurements, MB."""
        return self.many_mb - self.few_mb


class Bar(msgspec.Struct):
    """A measured value and the bar that it must reach; `at_most` if less is better."""

    what: str
    value: float
    bar: float
    unit: str = ""
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the bar."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar


class Report(msgspec.Struct):
    """All results of one run."""

    machine: dict[str, str]
    events: int
    repeat: int
    rates: list[Rate] = []
    memory: list[Memory] = []
    bars: list[Bar] = []


def machine(quix: Path) -> dict[str, str]:
    """Cores, processor, load, system, and versions of the packages that are compared."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return processor() | versions | _quix_versions(quix)


def processor() -> dict[str, str]:
    """Cores, processor, load and system."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cores": str(os.cpu_count()),
        "processor": model,
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def _quix_versions(quix: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps([m.version('quixstreams'), m.version('neo4j')]))"
    versions = json.loads(subprocess.run([quix, "-c", code], check=True, capture_output=True).stdout)
    return {"quixstreams": f"{versions[0]}, with neo4j {versions[1]}"}


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print("  ".join(f"[dim]{name}[/] {value}" for name, value in report.machine.items()))
    rates = Table("part", "side", "messages", "per second", "all runs", title="Rates", title_justify="left")
    for rate in report.rates:
        style = "bold" if rate.ours else ""
        runs = ", ".join(f"{run:,.0f}" for run in rate.runs)
        side = f"{rate.side} ({rate.note})" if rate.note else rate.side
        rates.add_row(rate.part, side, f"{rate.events:,}", f"{rate.best:,.0f}", runs, style=style)
    console.print(rates)
    if report.memory:
        console.print(_memory_table(report.memory))
    console.print(_bars_table(report.bars))


def _memory_table(memory: Sequence[Memory]) -> Table:
    table = Table("role", "after", "MB", "after", "MB", "growth", title="Resident memory", title_justify="left")
    for row in memory:
        table.add_row(
            row.role,
            f"{row.few:,}",
            f"{row.few_mb:.0f}",
            f"{row.many:,}",
            f"{row.many_mb:.0f}",
            f"{row.growth:+.0f}",
        )
    return table


def _bars_table(bars: Sequence[Bar]) -> Table:
    table = Table("", "measured", "bar", "", title="Bars", title_justify="left")
    for bar in bars:
        verdict = "[green]reached[/]" if bar.reached else "[bold red]below its bar[/]"
        sign = "≤" if bar.at_most else "≥"
        digits = 0 if bar.unit else 2
        table.add_row(
            bar.what, f"{bar.value:.{digits}f}{bar.unit}", f"{sign} {bar.bar:.{digits or 1}f}{bar.unit}", verdict
        )
    return table


def save(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write ingest.json and ingest.png into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text, picture = folder / "ingest.json", folder / "ingest.png"
    text.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    _plot(report, picture)
    return text, picture


def _plot(report: Report, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parts = list(dict.fromkeys(rate.part for rate in report.rates))
    panels = len(parts) + bool(report.memory)
    heights = [sum(rate.part == part for rate in report.rates) + 1.6 for part in parts]
    heights += [len(report.memory) + 1.6] if report.memory else []
    figure, axes = plt.subplots(
        panels, figsize=(9, 0.42 * sum(heights) + 0.6), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for part, axis in zip(parts, axes[:, 0], strict=False):
        _plot_rates(axis, part, [rate for rate in report.rates if rate.part == part])
    if report.memory:
        _plot_memory(axes[-1, 0], report.memory)
    cores, processor = report.machine["cores"], report.machine["processor"]
    figure.suptitle(f"{report.events:,} ATT&CK events, best of {report.repeat}; {cores} cores, {processor}", size=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _plot_rates(axis: Any, part: str, rates: Sequence[Rate]) -> None:
    rates = sorted(rates, key=lambda rate: rate.best)
    colours = ["#1b6ca8" if rate.ours else "#b8c0c8" for rate in rates]
    bars = axis.barh([rate.side for rate in rates], [rate.best for rate in rates], color=colours)
    axis.bar_label(bars, [f"{rate.best:,.0f}" for rate in rates], padding=3, size=8)
    axis.set_title(f"{part}: messages per second", loc="left", size=10)
    _style(axis)


def _plot_memory(axis: Any, memory: Sequence[Memory]) -> None:
    names = [row.role for row in memory]
    axis.barh(names, [row.many_mb for row in memory], color="#1b6ca8", label=f"after {memory[0].many:,}")
    axis.barh(names, [row.few_mb for row in memory], color="#b8c0c8", label=f"after {memory[0].few:,}")
    for i, row in enumerate(memory):
        axis.text(max(row.many_mb, row.few_mb), i, f" {row.growth:+.0f} MB", va="center", size=8)
    axis.set_title("resident memory of the roles, MB", loc="left", size=10)
    axis.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    _style(axis)


def _style(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.margins(x=0.12)
