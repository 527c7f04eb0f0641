"""What PromQL queries name: the metrics, and the labels that they use of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import promql_parser

from tools.metrics_page import all_metrics
from tools.monitoring.alerts import ALERTS
from tools.monitoring.dashboards import dashboards
from tools.monitoring.panels import concrete
from tools.monitoring.recording import RECORDING

TARGET = ("job", "instance", "process")
"""The labels that every scraped series gets from its target."""
OF_PROMETHEUS = {
    "up": TARGET,
    "ALERTS": ("alertname", "alertstate", "severity", "model", "feed", "role", *TARGET),
    "process_resident_memory_bytes": TARGET,
    "process_cpu_seconds_total": TARGET,
}


def panel_queries() -> Iterator[tuple[str, str]]:
    """(where, query) of every panel and annotation."""
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", concrete(target["expr"])
        for annotation in board["annotations"]["list"]:
            yield f"{name}: {annotation['name']}", concrete(annotation["expr"])


def all_queries() -> dict[str, str]:
    """Where -> query, for all panels, recording rules and alerts."""
    found = {f"{where} ({index})": query for index, (where, query) in enumerate(panel_queries())}
    return found | dict(RECORDING) | {alert.name: alert.expr for alert in ALERTS}


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    inner = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param", "vector_selector")]
    for child in (*inner, *(getattr(node, "args", None) or ())):
        if child is not None:
            yield from selectors(child)


def grouping(node: Any) -> Iterator[str]:
    """The labels in `by`, `on` and `ignoring`."""
    modifier = getattr(node, "modifier", None)
    labels = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None)
    yield from labels or ()
    inner = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    for child in (*inner, *(getattr(node, "args", None) or ())):
        if child is not None:
            yield from grouping(child)


def known_series() -> dict[str, tuple[str, ...]]:
    """Series -> its labels: those of the code, of Prometheus itself, and of the recording rules."""
    known = {name: (*labels, *TARGET) for name, labels in all_metrics().items()} | OF_PROMETHEUS
    for name, expr in RECORDING.items():
        parsed = promql_parser.parse(expr)
        by = tuple(grouping(parsed))
        labels = {label for one in selectors(parsed) for label in known[one.name]}
        known[name] = by if re.match(r"(max|min|sum) by", expr) else tuple(labels)
    return known
