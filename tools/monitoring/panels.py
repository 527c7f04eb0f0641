"""Panels of Grafana 11 as plain dicts: what they share, so that a dashboard is a list of titles and queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Json = dict[str, Any]

DATASOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "sx9-prometheus"}
WIDTH = 24
"""Columns of a dashboard."""


def query(expr: str, legend: str = "", *, instant: bool = False) -> Json:
    """A query; `legend` has the labels in double braces. `instant` asks for the latest value only."""
    kind = {"instant": True, "range": False, "format": "table"} if instant else {"range": True}
    return {"datasource": dict(DATASOURCE), "expr": expr, "legendFormat": legend or "__auto", **kind}


def time_series(title: str, unit: str, *queries: Json, help_text: str, limit: float | None = None) -> Json:
    """Lines over time; `limit` draws a dashed line."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "auto", "spanNulls": False}
    defaults: Json = {"unit": unit, "custom": custom, "min": None}
    if limit is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        steps = [{"color": "green", "value": None}, {"color": "red", "value": limit}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return _panel("timeseries", title, help_text, queries, defaults, options)


def stat(title: str, unit: str, *queries: Json, help_text: str, red_from: float | None = None) -> Json:
    """The latest value of each series, as a large number; red from a value on."""
    steps: list[Json] = [{"color": "green", "value": None}]
    if red_from is not None:
        steps.append({"color": "red", "value": red_from})
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name", "graphMode": "none"}
    return _panel("stat", title, help_text, queries, defaults, options)


def bar_gauge(
    title: str,
    unit: str,
    *queries: Json,
    help_text: str,
    largest: float = 1.0,
    full: Literal["red", "green"] = "red",
) -> Json:
    """A bar for the latest value of each series, to `largest`. A full bar is red, or green where that is good."""
    steps: list[Json] = [{"color": "green", "value": None}]
    if full == "red":
        steps += [{"color": "orange", "value": 0.7 * largest}, {"color": "red", "value": largest}]
    defaults = {"unit": unit, "min": 0, "max": largest, "thresholds": {"mode": "absolute", "steps": steps}}
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
    return _panel("bargauge", title, help_text, queries, defaults, options)


def table(title: str, unit: str, expr: str, *, columns: Sequence[str], help_text: str) -> Json:
    """The latest value of each series as a row with some of its labels."""
    panel = _panel("table", title, help_text, [query(expr, instant=True)], {"unit": unit}, {"showHeader": True})
    order = {name: index for index, name in enumerate((*columns, "Value"))}
    panel["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": list(order)}}},
        {"id": "organize", "options": {"indexByName": order}},
    ]
    return panel


def _panel(kind: str, title: str, help_text: str, queries: Sequence[Json], defaults: Json, options: Json) -> Json:
    targets = [target | {"refId": chr(ord("A") + index)} for index, target in enumerate(queries)]
    return {
        "type": kind,
        "title": title,
        "description": help_text,
        "datasource": dict(DATASOURCE),
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def laid_out(panels: Sequence[Json], *, per_row: int = 3, height: int = 8) -> list[Json]:
    """The panels with ids and places, from left to right and from top to bottom."""
    width = WIDTH // per_row
    places = [
        {"x": index % per_row * width, "y": index // per_row * height, "w": width, "h": height}
        for index in range(len(panels))
    ]
    numbered = zip(panels, places, range(1, len(panels) + 1), strict=True)
    return [panel | {"id": number, "gridPos": place} for panel, place, number in numbered]


VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$model": ".*", "$feed": ".*", "$__all": ".*"}
"""Variables of Grafana -> a value, as Grafana replaces them."""


def concrete(expr: str) -> str:
    """A query with the variables replaced.

    >>> concrete('sx9_pending_examples{model=~"$model"}')
    'sx9_pending_examples{model=~".*"}'
    """
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr
