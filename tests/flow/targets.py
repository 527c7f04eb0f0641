"""What a test forks: a role of the app, a trainer, a fetch; see `tests.forks`.

They are what `sx9 run` runs, but with short timeouts: Kafka waits for a member that was killed.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from streams.app import wiring
from streams.fetchers.base.runner import FetchFailure
from streams.fetchers.base.runner import fetch as fetch_feed
from streams.local.services import Endpoints
from streams.settings import Settings, load_settings
from sx9_ml_models.fetching import fetch_feeds
from trainers.runs import consumer as trainer
from trainers.runs import failures
from trainers.runs.execute_run import execute
from trainers.runs.trigger_handler import TriggerHandler
from trainers.settings import load_trainer_settings
from transport.logins import use_kafka_login

MODULES = (__name__, "trainers.models.distilbert.recipe", "trainers.reporting.plots", "neo4j")
"""What the server imports."""
SESSION_S = 3.0
HEARTBEAT_S = 0.7


def role(name: Any, settings: dict[str, Any]) -> None:
    """One role of the app."""
    own = _settings(settings)
    wiring.LAG_INTERVAL_S = 2.0
    wiring.SESSION_TIMEOUT_S = SESSION_S
    faust_app = wiring.faust_app

    def quick_app(*arguments: Any) -> Any:
        app = faust_app(*arguments)
        app.conf.broker_heartbeat_interval = HEARTBEAT_S
        return app

    wiring.faust_app = quick_app
    password = own.neo4j_password.get_secret_value()
    wiring.run_role(name, own, Endpoints(own.kafka_bootstrap or "", own.neo4j_uri or "", own.neo4j_user, password))


def train(model: str, settings: dict[str, Any], folders: dict[str, Any]) -> None:
    """A trainer. Its runs are in its own process, so that a kill ends both at once and a start imports no torch.

    A run in a process of its own, and how it ends with its trainer, is tested in `test_run_process`.
    """
    own = _settings(settings)
    trainer.SESSION_TIMEOUT_MS = int(SESSION_S * 1000)
    trainer.consumer = functools.partial(trainer.consumer, heartbeat_interval_ms=int(HEARTBEAT_S * 1000))
    trainer.TriggerHandler = functools.partial(TriggerHandler, run=execute)  # type: ignore[misc]
    failures.RETRY_PAUSES_S = (0.1,)
    machine = {"save_steps": 5, "device": "cpu"}
    trainer.run_consumer(
        load_trainer_settings(**folders), machine, own.kafka_bootstrap or "", model, find_neo4j=lambda: None
    )


def fetch(feed: str, source: str, settings: dict[str, Any]) -> None:
    """One fetch of a feed."""
    own = _settings(settings)
    report = fetch_feed(feed, source, own, own.kafka_bootstrap or "")
    logging.info("%s", report)


def fetch_all(sources: dict[str, str | None], settings: dict[str, Any]) -> None:
    """One fetch of many feeds, as `sx9 fetch --all`; fails if one of them could not be fetched."""
    results = list(fetch_feeds(_settings(settings), sources))
    if failures := [result for result in results if isinstance(result, FetchFailure)]:
        raise SystemExit(str(failures))


def _settings(fields: dict[str, Any]) -> Settings:
    """The settings, with which this process logs in to Kafka from now on; and its log."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    settings = load_settings(**fields)
    use_kafka_login(settings.kafka_bootstrap or "", settings.kafka_login)
    return settings
