"""`python -m benchmarks.scrape`: how long a scrape of /metrics takes at worst, and how many series it has.

    a process of each kind ──> every metric of its code with every value of its labels ──> 200 scrapes over HTTP

Each kind has a process of its own, so that it has the metrics of its own modules only. A scrape is what Prometheus
does: a new connection, one request that takes gzip, the whole answer. Exit code 1: a bar was missed.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from benchmarks.report import Bar, processor

SCRAPE_MS = 50.0
"""Bar: the median of the scrapes, ms."""
SERIES = 2_000.0
"""Bar: series of a process."""
SCRAPES = 200
KINDS = ("fetch", "role", "train", "serve")
ERRORS = ("RetryLater", "BadRecord", "BadConfiguration", "Corrupt", "RestartRequired")
CHANGES = ("new", "edited", "relabelled", "deprecated", "revoked", "withdrawn")


def main() -> None:
    """Measure every kind in a process of its own, and print the bars."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    bars = []
    for kind in KINDS:
        command = [sys.executable, "-m", "benchmarks.scrape", kind]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        bars.append(Bar(f"{kind}: median of {SCRAPES} scrapes", found["median_ms"], SCRAPE_MS, "ms", at_most=True))
        bars.append(Bar(f"{kind}: series", found["series"], SERIES, "", at_most=True))
        print(f"{kind}: {json.dumps(found)}")
    print(f"on {json.dumps(processor())}")
    for bar in bars:
        outcome = "reached" if bar.reached else "MISSED"
        print(f"{bar.what}: {bar.value:.1f} {bar.unit}, bar {bar.bar:.0f} {bar.unit}: {outcome}")
    sys.exit(0 if all(bar.reached for bar in bars) else 1)


def measure(kind: str) -> dict[str, float]:
    """Serve the metrics of a kind of process in this one, and scrape it.

    Returns:
        Median and 95th percentile of a scrape, ms; the processor time of one, ms; series; bytes as they are sent.
    """
    from prometheus_client import disable_created_metrics

    from transport.metrics import serve_metrics

    disable_created_metrics()  # type: ignore[no-untyped-call]
    fill(kind)
    server, _ = serve_metrics(kind, 0, "127.0.0.1")
    packed = scrape(server.server_port)
    series = sum(not line.startswith(b"#") for line in gzip.decompress(packed).splitlines())
    times, began_s = [], time.process_time()
    for _ in range(SCRAPES):
        started_s = time.perf_counter()
        scrape(server.server_port)
        times.append((time.perf_counter() - started_s) * 1000)
    cpu_ms = (time.process_time() - began_s) * 1000 / SCRAPES
    server.shutdown()
    server.server_close()
    p95 = statistics.quantiles(times, n=20)[-1]
    found = {"median_ms": statistics.median(times), "p95_ms": p95, "cpu_ms": cpu_ms}
    return {name: round(value, 2) for name, value in found.items()} | {"series": series, "bytes": len(packed)}


def scrape(port: int) -> bytes:
    """One scrape: the body as it is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "Accept": "text/plain;version=0.0.4"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return body


def fill(kind: str) -> None:
    """Give every metric of a kind of process every value of its labels."""
    from schemas.models import MODELS
    from schemas.topics import TOPICS
    from streams.fetchers.feeds.registry import FEEDS

    values: dict[str, Sequence[str]] = {
        "model": MODELS,
        "feed": [*FEEDS],
        "topic": [topic.name for topic in TOPICS],
        "partition": [str(number) for number in range(4)],
        "error": ERRORS,
        "kind": CHANGES,
        "reason": ["malformed-json", "no-id", "too-large", "undecodable", "unknown-type"],
    }
    for module in modules_of(kind):
        for metric in vars(module).values():
            if hasattr(metric, "_labelnames") and metric._labelnames:
                for labels in combinations(metric._labelnames, values, kind):
                    metric.labels(**labels)


def modules_of(kind: str) -> Iterator[ModuleType]:
    """The modules with the metrics of a kind of process."""
    import importlib

    names = {"fetch": "streams", "role": "streams", "train": "trainers", "serve": "serving"}
    for name in (f"{names[kind]}.telemetry", "transport.metrics", "transport.records"):
        yield importlib.import_module(name)


def combinations(names: Sequence[str], values: Mapping[str, Sequence[str]], kind: str) -> Iterator[dict[str, str]]:
    """Label sets that a metric has in one process: a trainer has one model, a role is one role."""
    own: dict[str, Sequence[str]] = {
        "role": [] if kind == "fetch" else ["journal"],
        "feed": values["feed"] if kind == "fetch" else ["stream"],
        "model": values["model"][:1] if kind == "train" else [] if kind == "fetch" else values["model"],
        "topic": values["topic"],
        "rule": ["volume", "drift", "taxonomy", "staleness", "manual", "backlog", "corrections"],
        "statistic": ["jensen_shannon", "corrections", "score", "input"],
        "task": ["tactics", "severity"],
        "split": ["old", "recent", "holdout", "prequential"],
        "metric": [f"metric_{number}" for number in range(12)],
        "check": [f"tactics/holdout/label-{number}" for number in range(20)],
        "route": [f"/v1/route-{number}" for number in range(16)],
        "status": ["200", "400", "401", "404", "422", "429", "500", "503"],
        "version": ["v0007"],
        "folder": ["state", "output"],
        "outcome": ["promoted", "refused", "rolled-back"],
        "phase": ["training", "evaluation", "scoring"],
        "closed_by": ["volume", "age", "manual", "trigger"],
        "layer": ["queue", "model"],
        "agreed": ["yes", "no"],
        "file": ["card", "curves", "matrix"],
    }  # fmt: skip
    for chosen in itertools.product(*(own.get(name, values.get(name, ["one"])) for name in names)):
        yield dict(zip(names, chosen, strict=True))


if __name__ == "__main__":
    main()
