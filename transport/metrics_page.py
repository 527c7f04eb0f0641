"""The text of /metrics, in the format of Prometheus 0.0.4, for little processor time.

The text of a series, `name{label="value"}`, is made once and kept: with all feeds a fetcher has 1,400 of them, and
the encoder of the Prometheus client spends most of a scrape on their labels.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.utils import floatToGoString

_CREATED = "_created"
"""Ending of the times at which series began, which only OpenMetrics has."""
_KEPT_SERIES = 20_000
_GZIP_LEVEL = 1
"""The fastest: a scrape has some 100 kB, of which this leaves 10 %."""


def page(registry: CollectorRegistry = REGISTRY) -> str:
    """All metrics of a registry.

    >>> from prometheus_client import Gauge
    >>> registry = CollectorRegistry()
    >>> Gauge("free_bytes", "Free space", ["folder"], registry=registry).labels(folder="state").set(5)
    >>> print(page(registry), end="")
    # HELP free_bytes Free space
    # TYPE free_bytes gauge
    free_bytes{folder="state"} 5.0
    """
    return "".join(_lines(registry))


def _lines(registry: CollectorRegistry) -> Iterator[str]:
    for metric in registry.collect():
        name, kind = metric.name, metric.type
        if kind == "counter":
            name += "_total"
        elif kind == "info":
            name, kind = f"{name}_info", "gauge"
        yield f"# HELP {name} {_escaped(metric.documentation)}\n# TYPE {name} {kind}\n"
        for sample in metric.samples:
            if not sample.name.endswith(_CREATED):
                value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
                yield f"{_series(sample.name, *sample.labels.items())} {value}\n"


@lru_cache(maxsize=_KEPT_SERIES)
def _series(name: str, *labels: tuple[str, str]) -> str:
    if not labels:
        return name
    pairs = (f'{label}="{_escaped(value, quotes=True)}"' for label, value in sorted(labels))
    return f"{name}{{{','.join(pairs)}}}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    found = text.replace("\\", "\\\\").replace("\n", "\\n")
    return found.replace('"', '\\"') if quotes else found


def metrics_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application of the page, packed where the client takes gzip."""
    body = page().encode()
    headers = [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)]
    if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers.append(("Content-Encoding", "gzip"))
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]
