"""The text of /metrics says what the encoder of the Prometheus client says."""

from __future__ import annotations

import gzip
import urllib.request

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from transport.metrics import serve_metrics
from transport.metrics_page import page


def families(text: str) -> list[tuple[object, ...]]:
    return [
        (
            family.name,
            family.type,
            family.documentation,
            sorted(
                (sample.name, sorted(sample.labels.items()), sample.value)
                for sample in family.samples
                if not sample.name.endswith("_created")
            ),
        )
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    ]


def test_it_is_what_the_client_writes_whatever_the_kinds_names_and_values_are() -> None:
    registry = CollectorRegistry()
    counter = Counter("sx9_some_total", "With a \\ and\na line", ["feed", "reason"], registry=registry)
    gauge = Gauge("sx9_depth", "Depth", registry=registry)
    Histogram("sx9_wait_seconds", "Wait", ["role"], buckets=(0.5, 1.0), registry=registry).labels("fold").observe(
        0.7
    )
    Info("sx9_build", "Build", registry=registry).info({"version": '1.0 "beta"'})
    for value, name in ((1, 'a "quote"'), (2.5, "back\\slash"), (1e21, "new\nline"), (0, "")):
        counter.labels(feed=name, reason="ü").inc(value)
    for depth in (float("inf"), float("-inf"), 1e-9, 123456789.0):
        gauge.set(depth)
        assert families(page(registry)) == families(generate_latest(registry).decode())
    gauge.set(float("nan"))
    assert "\nsx9_depth NaN\n" in page(registry)


def test_a_series_that_was_removed_is_gone_and_one_that_changed_has_its_new_value() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("sx9_version_info", "Version", ["version"], registry=registry)
    gauge.labels(version="v0001").set(1)
    assert 'version="v0001"} 1.0' in page(registry)
    gauge.remove("v0001")
    gauge.labels(version="v0002").set(1)
    assert 'version="v0001"' not in page(registry)
    gauge.labels(version="v0002").set(0)
    assert 'version="v0002"} 0.0' in page(registry)


def test_it_is_served_packed_to_those_who_take_it() -> None:
    server, _ = serve_metrics("test", 0, "127.0.0.1")
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(address) as answer:
            plain = answer.read()
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            packed = gzip.decompress(answer.read())
    finally:
        server.shutdown()
        server.server_close()
    assert plain.startswith(b"# HELP ")
    series = [{line.split(b" ")[0] for line in text.splitlines()} for text in (plain, packed)]
    assert series[0] == series[1]
