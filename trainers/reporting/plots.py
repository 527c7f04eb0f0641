"""Plots of a version, as PNG files whose bytes depend only on what they show.

A label from a feed is text in a plot: not TeX, of bounded length, in whatever script.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.core.history import History
from trainers.reporting.summary import qualified_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.png"
MAX_LABEL_CHARS = 60
"""Longer labels are truncated in plots."""


@contextlib.contextmanager
def picture(path: Path, width: float = 8.0, height: float = 4.5) -> Iterator[Figure]:
    """A matplotlib figure that is written when the block ends; without an exception, or not at all.

    Args:
        path: The PNG file.
        width: Inches.
        height: Inches.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about glyphs that the font lacks, and the layout of many labels
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        try:
            figure.savefig(path, dpi=110, metadata={"Software": None})
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def plot_label(text: str) -> str:
    r"""A text from a feed as a label of a plot.

    >>> plot_label("_a\x00" + "b" * 100)
    ' _a�bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…'
    """
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))
    if len(shown) > MAX_LABEL_CHARS:
        shown = shown[: MAX_LABEL_CHARS - 1] + "…"
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves a label with "_" out of the legend


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
