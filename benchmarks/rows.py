"""What `benchmarks.quality` found, as a table, a plot and JSON."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

from trainers.core.config import RecipeConfig

Config = TypeVar("Config", bound=RecipeConfig)


class Skipped(Exception):
    """A task can't be measured here; the message says what is missing."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a task is given.

    Attributes:
        feeds: Folder with `attack/enterprise-attack-15.1.json`, `nuclei-templates/`, ...
        output: Where a task may write more than rows.
        seeds: Of the runs; figures are medians over them.
        cache: Where converted base models are kept.
        threads: Of torch.
        only: Where not empty, titles must contain it.
    """

    feeds: Path
    output: Path
    seeds: tuple[int, ...]
    cache: Path = Path(".sx9/cache")
    threads: int = 2
    only: str = ""

    def wants(self, title: str) -> bool:
        """Whether a part of a task is asked for."""
        return self.only in title

    def configured(self, config: Config, seed: int) -> Config:
        """A recipe's configuration with the threads and a seed of this run."""
        return msgspec.structs.replace(config, threads=self.threads, seed=seed)

    def feed(self, path: str) -> Path:
        """A file or folder of the feeds.

        Raises:
            Skipped: It is not there.
        """
        if not (self.feeds / path).exists():
            raise Skipped(f"{self.feeds / path} is not there: --feeds names the folder that has it")
        return self.feeds / path


class Row(msgspec.Struct, kw_only=True):
    """A figure of a task.

    Attributes:
        floor: Of the baseline as the bar was set, 0 for none.
        bar: What is to be reached; `at_most` where less is better.
        baseline: What the baseline reaches in this run, on the same examples; `baseline_name` what it is.
        ours: One value per seed.
        details: What else is worth keeping in the JSON.
    """

    task: str
    figure: str
    bar: float
    baseline: float
    baseline_name: str
    ours: list[float]
    floor: float = 0.0
    at_most: bool = False
    note: str = ""
    details: dict[str, Any] = {}

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def reached(self) -> bool:
        return self.median <= self.bar if self.at_most else self.median >= self.bar


class Result(msgspec.Struct):
    """Everything that one run found."""

    machine: dict[str, str]
    seeds: list[int]
    rows: list[Row] = []


def show(result: Result, console: Console) -> None:
    """Print the table."""
    console.print("  ".join(f"[dim]{name}[/] {value}" for name, value in result.machine.items()))
    table = Table("task", "figure", "floor", "baseline now", "bar", "ours", "seeds", "")
    for row in result.rows:
        verdict = "[green]reached[/]" if row.reached else "[bold red]below its bar[/]"
        table.add_row(
            row.task,
            row.figure,
            f"{row.floor:.3f}" if row.floor else "",
            f"{row.baseline:.3f} {row.baseline_name}",
            f"{'≤' if row.at_most else '≥'} {row.bar:.3f}",
            f"{row.median:.3f}",
            ", ".join(f"{value:.3f}" for value in row.ours),
            f"{verdict} {row.note}",
        )
    console.print(table)


def save(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write quality.json and quality.png into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text, picture = folder / "quality.json", folder / "quality.png"
    text.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    _plot(result, picture)
    return text, picture


def _plot(result: Result, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = result.rows[::-1]
    figure, axis = plt.subplots(figsize=(9, 0.5 * max(len(rows), 1) + 1.2), layout="constrained")
    places = range(len(rows))
    axis.barh(places, [row.median for row in rows], color="#1b6ca8", height=0.5, label="ours, median of the seeds")
    axis.scatter([row.baseline for row in rows], places, color="#7b858e", marker="D", label="baseline", zorder=3)
    axis.scatter([row.bar for row in rows], places, color="#c2452d", marker="|", s=220, label="bar", zorder=3)
    axis.set_yticks(list(places), [f"{row.task}\n{row.figure}" for row in rows], size=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
