"""Plots of a version, as PNG files whose bytes depend only on what they show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.core.history import History
from trainers.reporting.summary import qualified_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.png"


@contextlib.contextmanager
def picture(path: Path, width: float = 8.0, height: float = 4.5) -> Iterator[Figure]:
    """A matplotlib figure that is written when the block ends.

    Args:
        path: The PNG file.
        width: Inches.
        height: Inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    figure.savefig(path, dpi=110, metadata={"Software": None})


def save_curves(history: History, title: str, folder: Path) -> None:
    """Write `curves.png`: the loss of every step with its running mean, and the scores during training, if any."""
    with picture(folder / CURVES) as figure:
        losses, scores = figure.subplots(1, 2)
        steps = [point.step for point in history.points]
        loss = [point.loss for point in history.points]
        losses.plot(steps, loss, linewidth=0.6, alpha=0.4, color="tab:blue", label="each step")
        losses.plot(steps, _running_mean(loss), color="tab:blue", label="running mean")
        losses.set(title=f"{title}: loss", xlabel="step", ylim=(0, None))
        losses.legend()
        for name, points in _curves(history).items():
            scores.plot(*zip(*points, strict=True), marker="o", label=name)
        scores.set(title="scores on the holdout", xlabel="step", ylim=(0, 1))
        if history.scores:
            scores.legend()


def _curves(history: History) -> dict[str, list[tuple[int, float]]]:
    """Display name of a metric -> (step, value) of each evaluation during training."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, tasks in history.scores.items():
        main_task = next(iter(tasks), "")
        for task, metrics in tasks.items():
            for metric, value in metrics.items():
                curves.setdefault(qualified_name(metric, task, main_task), []).append((step, value))
    return curves


def _running_mean(values: list[float], share: float = 0.05) -> list[float]:
    """Exponential moving average: each value has the weight `share`, and the first value is the start."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else out[-1] + share * (value - out[-1]))
    return out
