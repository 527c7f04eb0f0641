"""What the routes need, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.events import Report
from schemas.models import MODELS
from serving import telemetry
from serving.batching import Answered
from serving.events import Hub
from serving.follower import Follower
from serving.keys import Keys
from serving.predictors import LoadedVersion
from serving.served import ServedModels
from serving.settings import ServeSettings

CLASSIFIER, EXPLAINER, GRAPH = MODELS


@dataclass(frozen=True)
class Serving:
    """A server.

    Attributes:
        state: The state of the whole system, for the page; None: there is no Kafka to read it from.
        send: Publishes an event, and returns when the broker has it; None: there is no Kafka.
    """

    settings: ServeSettings
    served: ServedModels
    follower: Follower
    keys: Keys
    hub: Hub = field(default_factory=Hub)
    state: Callable[[], Mapping[str, Any]] | None = None
    send: Callable[[Report], None] | None = None

    async def version(self, model: str, pinned: str | None = None) -> LoadedVersion:
        """See `ServedModels.get`."""
        serving = self.served.current(model)
        if serving is not None and pinned in (None, serving.version):
            return serving
        return await asyncio.to_thread(self.served.get, model, pinned)

    async def ask(self, version: LoadedVersion, queries: list[Any]) -> Answered:
        """See `Batcher.submit`."""
        answered = await self.served.batchers[version.model].submit(version, queries)
        for layer, seconds in (("queue", answered.waited_s), ("model", answered.computed_s)):
            telemetry.LAYER_SECONDS.labels(model=version.model, layer=layer).observe(seconds)
        return answered
