"""One process of the system, as `sx9 run ROLE` starts it: a role of the app, a trainer, or the fetchers."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

from prometheus_client import disable_created_metrics, start_http_server

from schemas.errors import BadConfiguration, RetryLater, Sx9Error
from schemas.models import MODELS
from streams import telemetry as metrics
from streams.app.wiring import ROLES, run_role
from streams.fetchers.base.runner import fetch
from streams.fetchers.feeds.registry import feed_named
from streams.local.services import Endpoints, running
from streams.settings import Settings
from sx9_ml_models.processes import end_with_parent
from trainers.settings import load_recipe_config, load_trainer_settings
from transport.topics import create_topics

log = logging.getLogger(__name__)

NAMES = (*ROLES, "train", "fetch")


def run(name: str, settings: Settings, model: str = MODELS[0]) -> None:
    """Run one process until SIGTERM or SIGINT.

    Args:
        name: One of `NAMES`.
        model: Which model `train` trains.
        settings: Name the services, or the state folder in which `sx9 up` runs them.

    Raises:
        BadConfiguration, RetryLater: It can't run; the message says what to do.
    """
    end_with_parent()
    disable_created_metrics()
    if name == "train":
        _train(settings, model)
        return
    endpoints = _endpoints(settings, neo4j=name == "graph")
    if name == "fetch":
        _fetch_on(settings, endpoints)
    else:
        run_role(next(role for role in ROLES if role == name), settings, endpoints)


def _train(settings: Settings, model: str) -> None:
    """A trainer; the Neo4j that runs gets its embeddings, where it has any."""
    from trainers.runs.consumer import run_consumer  # torch

    endpoints = running(settings) or _endpoints(settings, neo4j=False)
    create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
    own = load_trainer_settings(neo4j_uri=endpoints.neo4j_uri or None)
    run_consumer(own, load_recipe_config(model), endpoints.kafka_bootstrap, model)


def _endpoints(settings: Settings, *, neo4j: bool) -> Endpoints:
    found = running(settings, neo4j=neo4j)
    if found is None:
        wanted = "Kafka and Neo4j" if neo4j else "Kafka"
        raise RetryLater(
            f"{wanted} of {settings.state_dir} do not answer: start them with `sx9 up`, or set "
            "SX9_KAFKA_BOOTSTRAP and SX9_NEO4J_URI to your own"
        )
    return found


def _fetch_on(settings: Settings, endpoints: Endpoints) -> None:
    """Fetch every feed, and again after the interval; a feed that can't be had now is tried again then."""
    for feed in settings.feed_sources:
        feed_named(feed)
    if not settings.fetch_interval_s:
        raise BadConfiguration("SX9_FETCH_INTERVAL_S=0: nothing is fetched; set it to seconds between two fetches")
    create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
    server, _ = start_http_server(settings.metrics_port, addr=settings.bind)
    log.info("fetch: metrics on http://%s:%d/metrics", settings.bind, server.server_port)
    stop = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    while not stop.is_set():
        for feed, source in settings.feed_sources.items():
            _fetch(feed, source, settings, endpoints)
        stop.wait(settings.fetch_interval_s)


def _fetch(feed: str, source: str | None, settings: Settings, endpoints: Endpoints) -> None:
    try:
        report = fetch(feed, source, settings, endpoints.kafka_bootstrap)
    except Sx9Error as error:
        metrics.FETCH_FAILURES.labels(feed=feed, error=type(error).__name__).inc()
        log.warning("%s: %s; tried again in %.0f s", feed, error, settings.fetch_interval_s)
    else:
        log.info("%s: %d published of %s", feed, report.published, report.counts)
