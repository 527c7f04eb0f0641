"""The results of `benchmarks.quality` as a table, a plot and JSON."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

from schemas.recipes.base import RecipeConfig

Config = TypeVar("Config", bound=RecipeConfig)


class Skipped(Exception):
    """A task can't run here; the message says what is missing."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a task.

    Attributes:
        feeds: Folder with `attack/enterprise-attack-15.1.json`, `nuclei-templates/`, ...
        output: Folder for the results; a task may also write temporary files there.
        seeds: Of the runs; the reported values are medians over them.
        cache: Folder of the converted base models.
        threads: Of torch.
        only: If not empty, only parts whose titles contain it are run.
    """

    feeds: Path
    output: Path
    seeds: tuple[int, ...]
    cache: Path = Path(".sx9/cache")
    threads: int = 2
    only: str = ""

    def wants(self, title: str) -> bool:
        """Whether to run a part of a task."""
        return self.only in title

    def configured(self, config: Config, seed: int) -> Config:
        """The configuration of a recipe with the threads of this run and a seed."""
        return msgspec.structs.replace(config, threads=self.threads, seed=seed)

    def feed(self, path: str) -> Path:
        """The path of a file or a folder of the feeds.

        Raises:
            Skipped: It does not exist.
        """
        if not (self.feeds / path).exists():
            raise Skipped(f"{self.feeds / path} does not exist: give its folder as --feeds")
        return self.feeds / path


class Row(msgspec.Struct, kw_only=True):
    """A metric of a task.

    Attributes:
        task: Title of the task.
        metric: Name of the metric.
        bar: The value to reach.
        baseline: Value of the baseline in this run, on the same examples.
        baseline_name: Which model the baseline is.
        ours: Our values, one per seed.
        initial_baseline: Value of the baseline when the bar was set; 0 if there was none.
        at_most: Whether less is better.
        note: Shown in the table.
        details: Further results for the JSON.
    """

    task: str
    metric: str
    bar: float
    baseline: float
    baseline_name: str
    ours: list[float]
    initial_baseline: float = 0.0
    at_most: bool = False
    note: str = ""
    details: dict[str, Any] = {}

    @property
    def median(self) -> float:
        """The median over the seeds."""
        return statistics.median(self.ours)

    @property
    def reached(self) -> bool:
        """Whether the median is on the right side of the bar."""
        return self.median <= self.bar if self.at_most else self.median >= self.bar


class Result(msgspec.Struct):
    """All results of one run."""

    machine: dict[str, str]
    seeds: list[int]
    rows: list[Row] = []


def show(result: Result, console: Console) -> None:
    """Print the table."""
    console.print("  ".join(f"[dim]{name}[/] {value}" for name, value in result.machine.items()))
    table = Table("task", "metric", "initial baseline", "baseline", "bar", "ours", "seeds", "")
    for row in result.rows:
        verdict = "[green]reached[/]" if row.reached else "[bold red]below its bar[/]"
        table.add_row(
            row.task,
            row.metric,
            f"{row.initial_baseline:.3f}" if row.initial_baseline else "",
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
    positions = range(len(rows))
    axis.barh(
        positions, [row.median for row in rows], color="#1b6ca8", height=0.5, label="ours, median of the seeds"
    )
    axis.scatter([row.baseline for row in rows], positions, color="#7b858e", marker="D", label="baseline", zorder=3)
    axis.scatter([row.bar for row in rows], positions, color="#c2452d", marker="|", s=220, label="bar", zorder=3)
    axis.set_yticks(list(positions), [f"{row.task}\n{row.metric}" for row in rows], size=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
