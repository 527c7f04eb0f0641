"""The Prometheus metrics of the server, in one table."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("sx9_serving_requests_total", "Requests answered", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "sx9_serving_request_duration_seconds", "From the request to the end of its answer", ["route"], buckets=_SECONDS
)
LAYER_SECONDS = Histogram(
    "sx9_serving_layer_duration_seconds", "Time in a layer of an answer", ["model", "layer"], buckets=_SECONDS
)
WAITING = Gauge("sx9_serving_waiting_queries", "Queries that wait for a batch", ["model"])
BATCH_SIZE = Histogram("sx9_serving_batch_size", "Queries of a batch", ["model"], buckets=_SIZES)
SERVING = Gauge("sx9_serving_version_info", "1 for the version that answers", ["model", "version"])
SWAPS = Counter("sx9_serving_swaps_total", "Changes of the version that answers", ["model", "outcome"])
BEHIND = Gauge("sx9_serving_behind", "1 while another version should serve than the one that answers", ["model"])
AGREEMENT = Counter(
    "sx9_serving_shadow_answers_total", "Answers of the candidate beside those of the champion", ["model", "agreed"]
)
SENTENCES = Counter(
    "sx9_serving_generated_sentences_total",
    "Sentences that the explainer wrote: kept, or left out because the evidence does not say them",
    ["outcome"],
)
FOLLOWING_FAILURES = Counter("sx9_serving_following_failures_total", "Failures to read which version serves", [])
