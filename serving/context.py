"""What the routes need, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from schemas.events import Report
from schemas.models import MODELS
from schemas.severity import StatedSeverity
from serving import telemetry
from serving.answers.ask import Answer, Generator
from serving.answers.evidence import Evidence
from serving.batching import Answered
from serving.classify import SaidTechnique
from serving.events import Hub
from serving.follower import Follower
from serving.keys import Keys
from serving.predictors import LoadedVersion
from serving.served import ServedModels
from serving.settings import ServeSettings
from serving.shadow import Shadow
from serving.techniques.index import Threshold

CLASSIFIER, EXPLAINER, GRAPH = MODELS
Change = Literal["promoted", "rolled-back"]


class ChangeChampion(Protocol):
    """Makes another version serve; see `trainers.runs.champion.change_champion`."""

    def __call__(self, model: str, version: str, action: Change, by: str, why: str) -> str:
        """The version that served before."""


class AnswerQuestion(Protocol):
    """Answers a question from the threat graph; see `serving.answers.ask.ask`."""

    def __call__(self, question: str, generator: Generator | None, name: str, reason_without: str) -> Answer:
        """The answer."""


class Techniques(Protocol):
    """Says techniques of sentences, and severities that texts state; see `serving.techniques.live`."""

    @property
    def threshold(self) -> Threshold | None:
        """From which score a technique is said; None: no example is known."""

    def said(self, texts: Sequence[str]) -> list[tuple[SaidTechnique, ...]]:
        """The techniques of each sentence."""

    def severity(self, text: str) -> StatedSeverity | None:
        """The severity that a text states."""


@dataclass(frozen=True)
class System:
    """The system around a server: what it can do only where Kafka runs.

    Attributes:
        state: The state of the whole system, for the page.
        send: Publishes an event, and returns when the broker has it.
        change: Promotes a version, or rolls back to it.
        answer: Answers a question from the threat graph.
        neighbours: What the graph knows of a node, by its id or name; None: it has no such node.
        techniques: Says the techniques of sentences.
    """

    state: Callable[[], Mapping[str, Any]]
    send: Callable[[Report], None]
    change: ChangeChampion
    answer: AnswerQuestion
    neighbours: Callable[[str], Evidence | None]
    techniques: Techniques


@dataclass(frozen=True)
class Serving:
    """A server.

    Attributes:
        system: The system around it; None: there is no Kafka.
        shadow: Compares with a candidate; None: that is turned off.
    """

    settings: ServeSettings
    served: ServedModels
    follower: Follower
    keys: Keys
    hub: Hub = field(default_factory=Hub)
    system: System | None = None
    shadow: Shadow | None = None

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
