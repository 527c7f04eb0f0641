"""One picture of all versions of some models: the main metric before and after each retraining, and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.scores import HOLDOUT, Evaluation
from schemas.versions import Manifest
from trainers.reporting.plots import picture
from trainers.reporting.summary import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAIN_METRICS = ("macro_f1", "recall_at_20", "bits_saved")
"""The metric of a model's main task that is drawn; a task has one of them."""
COLOURS = {
    "volume": "tab:blue",
    "staleness": "tab:gray",
    "drift": "tab:orange",
    "input_drift": "tab:olive",
    "performance_drift": "tab:brown",
    "taxonomy": "tab:purple",
    "manual": "tab:green",
}
"""Reason of a retraining -> colour."""


def save_version_history(versions: Mapping[str, Sequence[Manifest]], path: Path) -> None:
    """Draw a panel for each model.

    A version is an arrow from the score of the champion before it to its own score, on the same holdout. Each
    version has its own holdout. A refused version is drawn faint.

    Args:
        versions: Model -> its manifests, oldest first; models without versions are left out.
        path: PNG file to write.
    """
    drawn = {model: manifests for model, manifests in versions.items() if manifests}
    with picture(path, 4.0 * max(len(drawn), 1), 3.6) as figure:
        panels = figure.subplots(1, max(len(drawn), 1), squeeze=False)[0]
        for panel, (model, manifests) in zip(panels, drawn.items(), strict=False):
            _draw(panel, model, manifests)
        reasons = sorted({manifest.reason for manifests in drawn.values() for manifest in manifests})
        handles = [
            panels[0].plot([], [], color=COLOURS.get(reason, "black"), label=reason)[0] for reason in reasons
        ]
        if handles:
            figure.legend(handles=handles, title="reason", loc="outside right center", fontsize=8)


def _draw(panel: Axes, model: str, manifests: Sequence[Manifest]) -> None:
    metric = next((m for m in MAIN_METRICS if m in _metrics(manifests[-1].evaluation)), "")
    for x, manifest in enumerate(manifests):
        after = _metrics(manifest.evaluation).get(metric)
        before = _metrics(manifest.parent_evaluation).get(metric, after)
        if after is None or before is None:
            continue
        colour, alpha = COLOURS.get(manifest.reason, "black"), 1.0 if manifest.promoted else 0.35
        arrow = {"arrowstyle": "-|>", "linewidth": 1.5, "color": colour, "alpha": alpha}
        panel.annotate("", (x, after), (x, before), arrowprops=arrow)
        panel.plot([x], [before], marker="_", markersize=8, color=colour, alpha=alpha)
        panel.plot([x], [after], marker="o", markersize=5, color=colour, alpha=alpha)
    panel.set_xticks(range(len(manifests)), [m.version for m in manifests], rotation=45, fontsize=8)
    panel.set(title=f"{model}\n{metric_name(metric)} on the holdout, before and after")
    panel.title.set_fontsize(9)
    panel.margins(y=0.15)
    panel.grid(axis="y", alpha=0.3)


def _metrics(evaluation: Evaluation) -> Mapping[str, float]:
    """The metrics of the main task on the holdout."""
    splits = next(iter(evaluation.values()), {})
    return splits[HOLDOUT].metrics if HOLDOUT in splits else {}
