"""What feeds are worth, as a table, a picture and plain objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from sx9_ml_models.worth.measure import Difference, FeedWorth, Worth
from trainers.reporting.plots import picture, plot_label
from trainers.reporting.summary import qualified_name

COLUMNS = (
    "without", "examples", "versions", "scored on", "examples scored", "score", "with it", "without it", "worth",
    "standard error",
)  # fmt: skip
SHOWN_METRICS = ("micro_f1", "recall_at_20", "bits_saved")
"""The metric of each task that is shown; all are in the JSON. Macro F1 hangs on few examples of rare labels."""
CLEAR_ERRORS = 2.0
"""A worth of so many standard errors is called clear."""


def table(worth: Worth) -> list[tuple[str, ...]]:
    """The rows of `COLUMNS`: of each feed, on the examples of the others and on its own."""
    return [row for feed in worth.feeds for row in _rows(feed, _main_task(worth))]


def conclusions(worth: Worth, folder: Path) -> list[str]:
    """What the table rests on, and what it says, in sentences."""
    lines = [
        f"All sides end at journal offset {worth.end} and are scored on the same {worth.holdout} examples, which "
        f"no version is trained on. With all feeds, {worth.examples} training examples led to {worth.champion}.",
        "The standard error is that of the holdout. Another seed would move the scores, too: call a worth real "
        f"from {CLEAR_ERRORS:.0f} standard errors on, and look at the versions.",
    ]
    for feed in worth.feeds:
        clear = [each for each in shown(feed, "the other feeds") if is_clear(each)]
        lines += [_conclusion(feed.feed, each) for each in clear]
        if not feed.champion:
            lines.append(f"Without {feed.feed} the gate promotes no version.")
    return [*lines, f"The versions are in {folder}; delete it to begin anew with what came since."]


def write_plot(worth: Worth, path: Path) -> None:
    """Draw the worth of each feed, on the examples of the others and on its own, with twice the standard error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tasks = list(dict.fromkeys(each.task for feed in worth.feeds for each in feed.differences)) or [""]
    names = [feed.feed for feed in worth.feeds]
    with picture(path, width=3.0 + 4.5 * len(tasks), height=1.8 + 0.5 * max(len(names), 1)) as figure:
        panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for panel, task in zip(panels, tasks, strict=True):
            for scored_on, lift, color in (("the other feeds", -0.12, "tab:blue"), ("its own", 0.12, "lightgray")):
                points = [
                    (each, lane + lift)
                    for lane, feed in enumerate(worth.feeds)
                    for each in shown(feed, scored_on)
                    if each.task == task
                ]
                panel.errorbar(
                    [each.worth for each, _ in points], [lane for _, lane in points],
                    xerr=[CLEAR_ERRORS * (each.error or 0.0) for each, _ in points],
                    fmt="o", color=color, label=f"on {scored_on}",
                )  # fmt: skip
            panel.axvline(0.0, color="black", linewidth=0.8)
            panel.set(title=plot_label(task), xlabel="worth: with the feed, less without it")
            panel.set_yticks(range(len(names)), [plot_label(name) for name in names])
            panel.set_ylim(len(names) - 0.5, -0.5)
            panel.grid(axis="x", alpha=0.3)
        figure.suptitle(f"{worth.model}: what each feed is worth")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")


def as_plain(worth: Worth) -> dict[str, Any]:
    """A result as plain objects, for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(worth)
    return plain


def shown(feed: FeedWorth, scored_on: str) -> list[Difference]:
    """The differences of a feed that are shown."""
    return [each for each in feed.differences if each.scored_on == scored_on and each.metric in SHOWN_METRICS]


def is_clear(each: Difference) -> bool:
    """Whether a worth is more than the holdout can have by chance."""
    return each.error is not None and abs(each.worth) > CLEAR_ERRORS * each.error


def _conclusion(feed: str, each: Difference) -> str:
    """What a clear worth says. A task that one side never learnt says when it would have retrained, no more."""
    if 0.0 in (each.with_feed, each.without_feed):
        side = "without" if each.without_feed else "with"
        return (
            f"Only the last version {side} {feed} has learnt {each.task}; no run of the other side took such "
            "examples yet, so this says nothing of the feed."
        )
    effect = "helps" if each.worth > 0 else "harms"
    return f"{feed} {effect} on what the other feeds say: {each.task} {each.worth:+.3f}."


def _rows(feed: FeedWorth, main_task: str) -> list[tuple[str, ...]]:
    promoted = sum(each.promoted for each in feed.versions)
    first = (feed.feed, str(feed.examples), f"{promoted} of {len(feed.versions)} promoted")
    cells = [_cells(each, main_task) for kind in ("the other feeds", "its own") for each in shown(feed, kind)]
    if not cells:
        cells = [("", "", "no version" if not feed.champion else "nothing is held out", "", "", "", "")]
    return [(*(first if i == 0 else ("", "", "")), *row) for i, row in enumerate(cells)]


def _cells(each: Difference, main_task: str) -> tuple[str, ...]:
    return (
        each.scored_on,
        str(each.examples),
        qualified_name(each.metric, each.task, main_task),
        f"{each.with_feed:.3f}",
        f"{each.without_feed:.3f}",
        f"{each.worth:+.3f}",
        "unknown" if each.error is None else f"{each.error:.3f}",
    )


def _main_task(worth: Worth) -> str:
    return next((each.task for feed in worth.feeds for each in feed.differences), "")
