"""Pictures beside a version: PNG files whose bytes depend on nothing but what they show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.core.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.png"


@contextlib.contextmanager
def picture(path: Path, width: float = 8.0, height: float = 4.5) -> Iterator[Figure]:
    """A figure of some inches that is written when the block ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    figure.savefig(path, dpi=110, metadata={"Software": None})


def save_curves(history: History, title: str, folder: Path) -> None:
    """`curves.png`: the loss of every step with its running mean, and the scores on the way where there are any."""
    with picture(folder / CURVES) as figure:
        losses, scores = figure.subplots(1, 2)
        steps = [point.step for point in history.points]
        loss = [point.loss for point in history.points]
        losses.plot(steps, loss, linewidth=0.6, alpha=0.4, color="tab:blue", label="each step")
        losses.plot(steps, _running_mean(loss), color="tab:blue", label="running mean")
        losses.set(title=f"{title}: loss", xlabel="step", ylim=(0, None))
        losses.legend()
        for name in sorted({name for found in history.scores.values() for name in found}):
            at = [(step, found[name]) for step, found in history.scores.items() if name in found]
            scores.plot(*zip(*at, strict=True), marker="o", label=name)
        scores.set(title="scores on the holdout", xlabel="step", ylim=(0, 1))
        if history.scores:
            scores.legend()


def _running_mean(values: list[float], share: float = 0.05) -> list[float]:
    """Exponential, each value with the weight `share` (the first counts in full)."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else out[-1] + share * (value - out[-1]))
    return out
