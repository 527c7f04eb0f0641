"""One process of the system: a role of the Faust app, a trainer, or the fetchers.

`sx9 up` starts all of them, `sx9 run` one. A process imports only what it needs: a trainer no Faust, a role of the
app no trainer.
"""

from __future__ import annotations

import logging
import math
import signal
import threading

from prometheus_client import disable_created_metrics

from schemas.errors import BadConfiguration, RetryLater
from schemas.models import MODELS
from streams.local.services import Endpoints, running
from streams.settings import Settings
from transport.health import Health
from transport.metrics import serve_metrics, use_certificate
from transport.topics import create_topics

log = logging.getLogger(__name__)

NAMES = ("journal", "graph", "fold", "train", "fetch", "archive", "classify", "serve")
"""The processes that `run` knows: those of `streams.app.wiring.ROLES`, a trainer, the fetchers, the archive,
the classifier of a topic, and the server."""


def run(name: str, settings: Settings, model: str = MODELS[0]) -> None:
    """Run one process until SIGTERM or SIGINT.

    Args:
        name: One of `NAMES`.
        settings: Name Kafka and Neo4j, or the state folder in which `sx9 up` runs them.
        model: The model that `train` trains; the other processes ignore it.

    Raises:
        BadConfiguration: The name or a setting is wrong.
        RetryLater: Kafka or Neo4j does not answer.
    """
    if name not in NAMES:
        raise BadConfiguration(f"there is no process {name!r}: choose one of {', '.join(NAMES)}")
    use_certificate(settings.metrics_cert_file, settings.metrics_key_file)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    if name == "train":
        _train(settings, model)
        return
    endpoints = _endpoints(settings, neo4j=name == "graph")
    if name == "classify":
        from serving.settings import load_serve_settings
        from sx9_ml_models import classify_topic

        classify_topic.run(endpoints.kafka_bootstrap, load_serve_settings(), settings.metrics_port)
    elif name == "serve":
        from serving.settings import load_serve_settings
        from sx9_ml_models.serving import run_server

        run_server(settings, load_serve_settings())
    elif name == "fetch":
        _fetch_repeatedly(settings, endpoints)
    elif name == "archive":
        _archive_repeatedly(settings, endpoints)
    else:
        from streams.app.wiring import ROLES, run_role

        run_role(next(role for role in ROLES if role == name), settings, endpoints)


def _train(settings: Settings, model: str) -> None:
    """Run a trainer. Node embeddings go to Neo4j whenever it runs."""
    from trainers.runs.consumer import run_consumer
    from trainers.settings import load_machine_fields, load_trainer_settings

    endpoints = _endpoints(settings, neo4j=False)
    create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
    run_consumer(
        load_trainer_settings(),
        load_machine_fields(model),
        endpoints.kafka_bootstrap,
        model,
        find_neo4j=lambda: _neo4j_uri(settings),
    )


def _neo4j_uri(settings: Settings) -> str | None:
    """The address of Neo4j; empty if it does not answer; None if none was set beside a Kafka of one's own."""
    if found := running(settings, kafka=False):
        return found.neo4j_uri
    return None if settings.kafka_bootstrap and not settings.neo4j_uri else ""


def _endpoints(settings: Settings, *, neo4j: bool) -> Endpoints:
    found = running(settings, neo4j=neo4j)
    if found is None:
        missing = "Kafka or Neo4j does" if neo4j else "Kafka does"
        raise RetryLater(
            f"{missing} not answer for {settings.state_dir}: start it with `sx9 up`, or set "
            "SX9_KAFKA_BOOTSTRAP and SX9_NEO4J_URI to your own"
        )
    return found


def _fetch_repeatedly(settings: Settings, endpoints: Endpoints) -> None:
    """Fetch every feed at each interval, some side by side, until SIGTERM. What fails is tried again earlier."""
    from streams.fetchers.base.runner import show_feeds
    from sx9_ml_models.fetching import fetch_on_schedule, with_keys

    if not settings.fetch_interval_s:
        raise BadConfiguration(
            "SX9_FETCH_INTERVAL_S=0 turns fetching off: set it to the seconds between two fetches, such as 3600"
        )
    sources = with_keys(settings, settings.feed_sources)
    create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
    show_feeds(settings)
    stop = _serve_until_stopped("fetch", settings)
    every_s, bootstrap = settings.fetch_interval_s, endpoints.kafka_bootstrap
    fetch_on_schedule(settings, sources, bootstrap, every_s, settings.fetch_jobs, stop)


def _archive_repeatedly(settings: Settings, endpoints: Endpoints) -> None:
    """Archive the topics at each interval, until SIGTERM."""
    from sx9_ml_models.archiving import archive_repeatedly
    from sx9_ml_models.connections import storage_of

    storage_of(settings)
    create_topics(endpoints.kafka_bootstrap, settings.replication_factor)
    stop = _serve_until_stopped("archive", settings)
    archive_repeatedly(settings, endpoints.kafka_bootstrap, settings.archive_interval_s, stop)


def _serve_until_stopped(name: str, settings: Settings) -> threading.Event:
    """Serve /metrics and say that the process is ready; the event is set by SIGTERM."""
    health, stop = Health(math.inf), threading.Event()  # one feed, or the first archive, may take hours
    serve_metrics(name, settings.metrics_port, settings.bind, {"state": settings.state_dir}, health)

    def stop_now(*_: object) -> None:
        health.set_not_ready("stopping")
        stop.set()

    signal.signal(signal.SIGTERM, stop_now)
    health.set_ready()
    return stop
