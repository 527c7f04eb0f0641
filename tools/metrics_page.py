"""Generates `docs/metrics.md` from the Prometheus metrics in the code.

python -m tools.metrics_page            writes the page
python -m tools.metrics_page --check    exits with 1 if the page is stale
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from serving import telemetry as serving_telemetry
from streams import telemetry as streams_telemetry
from trainers import telemetry as trainers_telemetry
from transport import metrics as process_metrics
from transport import records

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
SECTIONS: Mapping[str, tuple[ModuleType, ...]] = {
    "Every process": (process_metrics, records),
    "Fetchers and roles": (streams_telemetry,),
    "Trainers": (trainers_telemetry,),
    "Server": (serving_telemetry,),
}
LABELS: Mapping[str, str] = {
    "agreed": "`yes` or `no`",
    "cause": "what holds a retrain back: `answer` (a trigger without one), `breaker`, `budget`",
    "check": "a check of the gate, `task/split/metric` or `task/split/label`; at most 20 for each model",
    "closed_by": "what closed a window: `volume`, `age`, `trigger`, `manual`",
    "error": "the class of an error",
    "feed": "name of a feed; `stream` for what the roles reject",
    "file": "name of a picture or card",
    "folder": "`state` or `output`: SX9_STATE_DIR, SX9_OUTPUT_DIR",
    "kind": "kind of change of an event, such as `new` or `edited`",
    "layer": "part of an answer: `queue`, `model`",
    "metric": "a metric of an evaluation, such as `macro_f1`",
    "model": "name of a model",
    "outcome": "`promoted`, `refused` or `rolled-back`; of a swap `swapped` or `failed`",
    "partition": "number of a partition",
    "phase": "phase of a run, such as `training`",
    "reason": "why something was rejected, or which rule triggered; one of a fixed set",
    "role": "`journal`, `graph` or `fold`",
    "route": "a route of the server, such as `/v1/classify`",
    "rule": "a rule of retraining, such as `drift` or `volume`",
    "split": "`old`, `recent`, `holdout` or `prequential`",
    "status": "HTTP status",
    "statistic": "a drift statistic: `jensen_shannon` of labels, `mmd` of inputs, `page_hinkley` of losses",
    "task": "a task of a model, such as `tactics`",
    "topic": "name of a Kafka topic",
    "version": "name of the version that serves; one for each model",
}
"""Label -> its values. Labels are bounded: none holds the id of an event, an example or a trigger."""
HEADER = """# Metrics

Every process has a page `/metrics` in the text format of Prometheus. `sx9 up` logs the addresses, and
`SX9_METRICS_PORT` chooses them. The page also has the `process_*` and `python_*` metrics of the Prometheus client.
All metrics of ours are listed here. This page is made from the code by `python -m tools.metrics_page`.

Units are seconds, bytes and counts. A gauge is true after a restart: it is set again from the topics, the manifests
and the cursors. A counter begins at 0 in each process. Its series appears with the first increase, which the alert
rules take into account.
"""


def metrics_of(module: ModuleType) -> Iterator[MetricWrapperBase]:
    """The metrics of a module, in the order of its source."""
    for value in vars(module).values():
        if isinstance(value, MetricWrapperBase):
            yield value


def all_metrics() -> dict[str, tuple[str, ...]]:
    """Name of every series as it is scraped -> its labels, `le` of histograms included."""
    found: dict[str, tuple[str, ...]] = {}
    for modules in SECTIONS.values():
        for metric in (each for module in modules for each in metrics_of(module)):
            labels = tuple(metric._labelnames)
            if isinstance(metric, Histogram):
                found |= {f"{_name(metric)}_{part}": labels for part in ("count", "sum")}
                found[f"{_name(metric)}_bucket"] = (*labels, "le")
            else:
                found[_name(metric)] = labels
    return found


def page() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEADER
    used: set[str] = set()
    for title, modules in SECTIONS.items():
        yield from (f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|")
        for metric in (each for module in modules for each in metrics_of(module)):
            used |= set(metric._labelnames)
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield f"| `{_name(metric)}` | {metric._type} | {labels} | {metric._documentation} |".replace(
                "|  |", "| |"
            )
        yield ""
    yield from ("## Labels", "", "| label | values |", "|---|---|")
    yield from (f"| `{label}` | {LABELS[label]} |" for label in sorted(used))
    yield ""


def _name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE.name} is stale; run `python -m tools.metrics_page`")
