"""Precision-recall curves of each label on the holdout, with one panel per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from trainers.core.metrics.classification import LabelMatrix
from trainers.reporting.plots import picture, plot_label

PICTURE = "precision_recall.png"


class Panel(msgspec.Struct, frozen=True):
    """A task.

    Attributes:
        title: Its name.
        labels: The columns.
        probabilities: (examples, labels), 0 to 1.
        truth: (examples, labels), boolean.
    """

    title: str
    labels: Sequence[str]
    probabilities: npt.NDArray[np.float64]
    truth: LabelMatrix


def save_precision_recall(panels: Sequence[Panel], folder: Path) -> None:
    """Write `precision_recall.png` with one panel per task; the panel of a task without examples is empty."""
    with picture(folder / PICTURE, width=7.0 * max(len(panels), 1), height=4.6) as figure:
        axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=False):
            _draw(axis, panel)


def _draw(axis: Any, panel: Panel) -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    support = panel.truth.sum(0)
    columns = sorted((i for i in range(len(panel.labels)) if support[i]), key=lambda i: -support[i])
    for number, column in enumerate(columns):
        truth, scores = panel.truth[:, column], panel.probabilities[:, column]
        precision, recall, _ = precision_recall_curve(truth, scores)
        name = f"{plot_label(panel.labels[column])}  {average_precision_score(truth, scores):.2f}"
        style = "-" if number < 10 else "--"
        axis.step(recall, precision, where="post", linewidth=1.0, linestyle=style, label=name)
    axis.set(title=f"{panel.title}, {len(panel.truth)} examples", xlabel="recall", ylabel="precision")
    axis.set(xlim=(0, 1.01), ylim=(0, 1.02))
    if columns:
        axis.legend(title="label, average precision", fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
