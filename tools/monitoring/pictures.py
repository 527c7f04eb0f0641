"""`python -m tools.monitoring.pictures`: a dashboard as a picture, where there is no Grafana.

    panels of a dashboard ──their queries──> Prometheus ──a plot of each panel──> docs/images/NAME.png

The plots show what the panels show: the same queries, legends, units and limits. They are not Grafana's.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tools.monitoring.dashboards import dashboards
from tools.monitoring.panels import WIDTH, Json, concrete
from trainers.reporting.plots import picture, plot_label
from trainers.reporting.summary import number

IMAGES = Path(__file__).parents[2] / "docs" / "images"
POINTS = 240
"""Points of a line."""
LEGENDS = 12
"""Most names in the legend of a panel: those of the largest series."""
ROWS = 8
"""Most rows of a table, bars, or numbers in a panel."""
COLOURS = 64
"""Colours of a picture, which keep it small."""
INCHES = (15.0, 2.3)
"""Width of a dashboard, and height of a row of panels."""
GREEN, ORANGE, RED, GREY = "#3a8a4a", "#d08a2e", "#c43b3b", "#d8d8d8"
COLOURS_OF_STEPS = {"green": GREEN, "orange": ORANGE, "red": RED}


class Series(NamedTuple):
    """A series of the answer to a query: its name in the legend, its labels, and its points."""

    legend: str
    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def latest(self) -> float:
        """The last value."""
        return self.points[-1][1]


class Prometheus(NamedTuple):
    """A Prometheus, and the time that is shown, seconds since 1970."""

    address: str
    start: float
    end: float

    def series(self, target: Json) -> list[Series]:
        """The answer to a query of a panel, over the time that is shown."""
        step = max((self.end - self.start) / POINTS, 1.0)
        parameters = {"query": concrete(target["expr"]), "start": self.start, "end": self.end, "step": step}
        address = f"{self.address}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        return [
            Series(
                legend(target["legendFormat"], each["metric"]),
                each["metric"],
                [(float(at), float(value)) for at, value in each["values"]],
            )
            for each in found
        ]

    def latest(self, target: Json) -> list[Series]:
        """Those that are there at the end."""
        step = max((self.end - self.start) / POINTS, 1.0)
        return [each for each in self.series(target) if each.points[-1][0] > self.end - 2 * step]


def legend(pattern: str, labels: Mapping[str, str]) -> str:
    """A legend with the labels of a series.

    >>> legend("{{model}} {{rule}}", {"model": "gnn-threat", "rule": "volume"})
    'gnn-threat volume'
    """
    if pattern == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__")
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), pattern)


def shown(value: float, unit: str) -> str:
    """A value in the unit of its panel.

    >>> shown(0.25, "percentunit"), shown(90.0, "s"), shown(7200.0, "s"), shown(math.inf, "s")
    ('25 %', '90 s', '2.0 h', 'for ever')
    >>> shown(0.42, "s"), shown(1234.0, "short"), shown(140e6, "bytes")
    ('0.42 s', '1234', '140 MB')
    """
    if unit == "s" and math.isinf(value):
        return "for ever"
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    if unit == "percentunit":
        return f"{100 * value:.0f} %"
    if unit == "s":
        short = f"{value:.0f} s" if value >= 10 or value == 0 else f"{value:.2g} s"
        return next((f"{value / size:.1f} {name}" for name, size in _TIMES if value >= 2 * size), short)
    return number(value)


_TIMES = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))


def _lines(axes: Any, panel: Json, prometheus: Prometheus) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = [each for target in panel["targets"] for each in prometheus.series(target)]
    for each in found:
        minutes = [(at - prometheus.end) / 60 for at, _ in each.points]
        axes.plot(minutes, [value for _, value in each.points], linewidth=1, label=plot_label(each.legend))
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ())
    for step in steps:
        if step["value"] is not None:
            axes.axhline(step["value"], color=RED, linewidth=1, linestyle="--")
    axes.set_xlim((prometheus.start - prometheus.end) / 60, 0)
    axes.yaxis.set_major_formatter(lambda value, _place: shown(value, unit))
    axes.tick_params(labelsize=6)
    axes.grid(color=GREY, linewidth=0.5)
    if found:
        largest = sorted(zip(axes.lines, found, strict=False), key=lambda each: -max(v for _, v in each[1].points))
        named = [line for line, _ in largest[:LEGENDS]]
        axes.legend(handles=named, fontsize=5, loc="best", ncols=2, framealpha=0.6)
    else:
        _nothing(axes)


def _bars(axes: Any, panel: Json, prometheus: Prometheus) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    found = [each for target in panel["targets"] for each in prometheus.latest(target)]
    most = sorted(found, key=lambda each: -each.latest)[:ROWS][::-1]
    if not most:
        _nothing(axes)
        return
    values = [min(each.latest, defaults["max"]) for each in most]
    colours = [_colour(each.latest, defaults["thresholds"]["steps"]) for each in most]
    axes.barh(range(len(most)), values, color=colours)
    axes.set_yticks(range(len(most)), [plot_label(each.legend) for each in most], fontsize=6)
    axes.set_xlim(0, defaults["max"])
    axes.set_xticks([])
    for row, each in enumerate(most):
        axes.text(defaults["max"], row, shown(each.latest, defaults["unit"]), fontsize=6, ha="right", va="center")


def _colour(value: float, steps: Sequence[Json]) -> str:
    """The colour of the last threshold that a value reaches."""
    return COLOURS_OF_STEPS[[s["color"] for s in steps if s["value"] is None or value >= s["value"]][-1]]


def _numbers(axes: Any, panel: Json, prometheus: Prometheus) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = [each for target in panel["targets"] for each in prometheus.latest(target)][:ROWS]
    _table(axes, [(plot_label(each.legend), shown(each.latest, unit)) for each in found])


def _rows(axes: Any, panel: Json, prometheus: Prometheus) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    order = panel["transformations"][1]["options"]["indexByName"]
    columns = [name for name in order if name != "Value"]
    found = [each for target in panel["targets"] for each in prometheus.latest(target)][:ROWS]
    rows = [
        (*(plot_label(each.labels.get(name, "")) for name in columns), shown(each.latest, unit)) for each in found
    ]
    _table(axes, rows)


def _table(axes: Any, rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        _nothing(axes)
        return
    axes.axis("off")
    table = axes.table(rows, loc="center", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(6)
    table.auto_set_column_width(range(len(rows[0])))


def _nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", fontsize=7, color="grey")
    axes.set_xticks([])
    axes.set_yticks([])


KINDS: Mapping[str, Callable[[Any, Json, Prometheus], None]] = {
    "timeseries": _lines, "bargauge": _bars, "stat": _numbers, "table": _rows,
}  # fmt: skip
"""Kind of a panel -> what draws it."""


def draw(board: Json, prometheus: Prometheus, path: Path) -> None:
    """Draw a dashboard.

    Args:
        board: From `dashboards`.
        prometheus: Which is asked.
        path: The PNG file.
    """
    rows = 1 + max(panel["gridPos"]["y"] // panel["gridPos"]["h"] for panel in board["panels"])
    with picture(path, INCHES[0], INCHES[1] * rows) as figure:
        figure.suptitle(
            f"{board['title']}: minutes before {time.strftime('%F %R', time.gmtime(prometheus.end))} UTC"
        )
        columns = WIDTH // board["panels"][0]["gridPos"]["w"]
        grid = figure.add_gridspec(rows, columns)
        for panel in board["panels"]:
            place = panel["gridPos"]
            axes = figure.add_subplot(grid[place["y"] // place["h"], place["x"] // place["w"]])
            axes.set_title(panel["title"], fontsize=8, loc="left")
            KINDS[panel["type"]](axes, panel, prometheus)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def _seconds(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601.

    >>> _seconds("1970-01-01T00:01:00Z")
    60.0
    """
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Draw the dashboard that the arguments name, and say where it is."""
    parser = argparse.ArgumentParser(description="a dashboard as a picture, where there is no Grafana")
    parser.add_argument("address", help="of Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("--board", choices=dashboards(), default="retraining", help="which dashboard")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long before its end it begins")
    parser.add_argument("--until", type=_seconds, help="where it ends, such as 2026-11-28T07:15:00Z (default: now)")
    parser.add_argument("--output", type=Path, help="the PNG file (default: docs/images/BOARD.png)")
    arguments = parser.parse_args()
    path = arguments.output or IMAGES / f"{arguments.board}.png"
    end = arguments.until or time.time()
    prometheus = Prometheus(arguments.address.rstrip("/"), end - 60 * arguments.minutes, end)
    draw(dashboards()[arguments.board], prometheus, path)
    print(f"written: {path} ({path.stat().st_size // 1000} kB)")


if __name__ == "__main__":
    main()
