"""Builds a server from its settings and runs it until it is stopped."""

from __future__ import annotations

import functools
import logging
import os
import socket

import uvicorn

from schemas.errors import BadConfiguration
from schemas.models import MODELS, model_spec
from serving.app import create_app
from serving.batching import Batcher
from serving.context import CLASSIFIER, Serving, System
from serving.follower import Follower, Wanted, champions
from serving.keys import Keys
from serving.predictors import load
from serving.served import ServedModels
from serving.settings import ServeSettings
from serving.shadow import Shadow
from trainers.store.shared_registry import open_registry

log = logging.getLogger(__name__)


def build(
    settings: ServeSettings,
    wanted: Wanted | None = None,
    system: System | None = None,
) -> Serving:
    """A server that does not listen yet.

    Args:
        settings: Its settings.
        wanted: Which versions should serve; None: the champions in the registry.
        system: The system around it; None: there is no Kafka.

    Raises:
        BadConfiguration: It would listen to other machines without a key, or a model is not known.
    """
    keys = Keys(settings.keys_file)
    if not settings.on_loopback and not keys.all():
        raise BadConfiguration(
            f"SX9_SERVE_HOST={settings.host} can be reached from other machines, and there is no key: make one "
            "with `sx9 keys add NAME`, or listen on 127.0.0.1"
        )
    models = tuple(model_spec(name).name for name in settings.models.split()) or MODELS

    def batcher(model: str) -> Batcher:
        return Batcher(model, settings.batch_texts, settings.queue_texts, settings.timeout_s)

    registry = open_registry(settings)
    when_asked = settings.load == "asked"
    in_precision = functools.partial(load, precision=settings.precision)
    served = ServedModels(registry, batcher, models, settings.pinned_versions, in_precision, when_asked)
    follower = Follower(served, wanted or (lambda: champions(registry, models)), settings.follow_s)
    shadow = Shadow(served, CLASSIFIER) if settings.shadow and CLASSIFIER in models else None
    return Serving(settings, served, follower, keys, system=system, shadow=shadow)


class Server(uvicorn.Server):
    """Ends the streams of events before it waits for the connections: a page that is open holds up no end.

    Args:
        config: Of uvicorn.
        serving: Whose events are streamed.
    """

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self._serving = serving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._serving.hub.close()
        await super().shutdown(sockets)


def serve(serving: Serving) -> None:
    """Run a server until SIGTERM or SIGINT; requests that are being answered get their answers."""
    settings = serving.settings
    serving.served.threads = settings.threads or os.cpu_count() or 1
    config = uvicorn.Config(
        create_app(serving),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    server = Server(config, serving)
    bound = config.bind_socket()
    host, port = bound.getsockname()[:2]
    log.info("serving on http://%s:%d (docs at /docs)", host, port)
    server.run(sockets=[bound])
