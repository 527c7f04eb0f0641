"""The versions in memory: of each model the one that serves, and a few that requests have pinned.

    swap(model, version):  load beside the old one ──> self-test ──> replace the reference ──> the old one is freed
                             └── fails: the old one stays, and the reason is kept and shown

Where models are loaded when somebody asks, the first swap only notes the version, and the first request loads it.
A request takes a reference to one version and is answered by it to the end, whatever is swapped meanwhile.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import Sx9Error
from schemas.models import MODELS, model_spec
from serving import telemetry
from serving.batching import Batcher
from serving.errors import NotFound, NotReady
from serving.predictors import LoadedVersion, load
from serving.self_test import self_test
from trainers.store.registry import Registry
from transport.metrics import forget
from transport.secrets import without_secrets

log = logging.getLogger(__name__)

Load = Callable[[Path], LoadedVersion]
RETRY_S = 15.0
"""Time until a version that failed is tried again, seconds."""
_VERSION = re.compile(r"v\d{4,9}", re.ASCII)


@dataclass(frozen=True)
class Failure:
    """Why a version that should serve does not.

    Attributes:
        at_s: Time of the attempt, seconds since 1970.
    """

    version: str
    reason: str
    at_s: float


class ServedModels:
    """The versions that answer.

    Args:
        registry: Where the versions are.
        models: Names of the models that are served.
        batcher: Makes the batcher of a model.
        pinned: Most versions in memory that requests have asked for by name and that do not serve.
        load_version: Loads a version from its folder.
        when_asked: Whether a model is loaded at its first request, and not before.

    Attributes:
        threads: Threads of torch, set before a version is loaded; 0: as they are.
    """

    def __init__(
        self,
        registry: Registry,
        batcher: Callable[[str], Batcher],
        models: tuple[str, ...] = MODELS,
        pinned: int = 2,
        load_version: Load = load,
        when_asked: bool = False,
    ) -> None:
        self.registry = registry
        self.models = models
        self.batchers: Mapping[str, Batcher] = {model: batcher(model) for model in models}
        self.failures: dict[str, Failure] = {}
        self.threads = 0
        self.since_s: dict[str, float] = {}
        self._load = load_version
        self._current: dict[str, LoadedVersion] = {}
        self._pinned: OrderedDict[tuple[str, str], LoadedVersion] = OrderedDict()
        self._max_pinned = pinned
        self._loading = threading.Lock()
        self._when_asked = when_asked
        self._noted: dict[str, str] = {}
        self._first_request = threading.Lock()

    def current(self, model: str) -> LoadedVersion | None:
        """The version that serves; None if none does."""
        return self._current.get(model)

    def to_load(self, model: str) -> str | None:
        """The version that the first request loads; None: one is in memory, or there is none."""
        return None if model in self._current else self._noted.get(model)

    def get(self, model: str, version: str | None = None) -> LoadedVersion:
        """The version that answers a request. Loading a pinned one takes seconds: call it in a thread.

        Args:
            model: Its model.
            version: The version that the request pins; None: the one that serves.

        Raises:
            NotReady: No version of the model serves.
            NotFound: The pinned version does not exist, or can't be loaded.
        """
        serving = self._current.get(model)
        if version is None or (serving and serving.version == version):
            return serving or self._load_first(model)
        if found := self._pinned.get((model, version)):
            return found
        return self._pin(model, version)

    def swap(self, model: str, version: str) -> bool:
        """Make a version serve, or note it if the model is loaded at its first request. Idempotent.

        Returns:
            Whether it serves or is noted. If not, what served before still does, and `failures` has the reason.
        """
        before = self._current.get(model)
        if before is None and self._when_asked:
            failure = self.failures.get(model)
            if failure and failure.version != version:
                self._note(model, None)
            self._noted[model] = version
            return True
        if before and before.version == version:
            self._note(model, None)
            return True
        return self._replace(model, version)

    def _replace(self, model: str, version: str) -> bool:
        before = self._current.get(model)
        try:
            loaded = self._loaded(model, version)
        except Sx9Error as error:
            self._note(model, Failure(version, without_secrets(str(error)), time.time()))
            telemetry.SWAPS.labels(model=model, outcome="failed").inc()
            serves = f"{before.version} still serves" if before else "no version serves"
            log.error("%s: %s does not serve: %s; %s", model, version, error, serves)
            return False
        self._current[model] = loaded
        self.since_s[model] = time.time()
        self._note(model, None)
        forget(telemetry.SERVING, model=model)
        telemetry.SERVING.labels(model=model, version=version).set(1)
        telemetry.SWAPS.labels(model=model, outcome="swapped").inc()
        log.info("%s: %s serves%s", model, version, f", before it {before.version}" if before else "")
        return True

    def close(self) -> None:
        """End the threads."""
        for batcher in self.batchers.values():
            batcher.close()

    def _load_first(self, model: str) -> LoadedVersion:
        """The version that was noted. One that can't be loaded is tried again after `RETRY_S`."""
        with self._first_request:
            if version := self.to_load(model):
                failure = self.failures.get(model)
                if not failure or failure.version != version or time.time() - failure.at_s > RETRY_S:
                    log.info("%s: %s is loaded for the first request", model, version)
                    self._replace(model, version)
            if serving := self._current.get(model):
                return serving
        raise NotReady(self.why_none_serves(model))

    def _loaded(self, model: str, version: str) -> LoadedVersion:
        with self._loading:
            found = self._pinned.get((model, version))
            if found is None:
                if self.threads:
                    import torch  # 200 MB, which a server does without until somebody asks it

                    torch.set_num_threads(self.threads)
                found = self._load(self.registry.folder(model, version))
                self_test(found)
            return found

    def _pin(self, model: str, version: str) -> LoadedVersion:
        model_spec(model)
        if not _VERSION.fullmatch(version) or not self.registry.has(model, version):
            there = [m.version for m in self.registry.versions(model)]
            raise NotFound(f"{model} has no version {version!r}; there are: {', '.join(there[-20:]) or 'none'}")
        try:
            loaded = self._loaded(model, version)
        except Sx9Error as error:
            raise NotFound(f"{model} {version} can't be loaded: {error}") from error
        with self._loading:
            self._pinned[model, version] = loaded
            while len(self._pinned) > self._max_pinned:
                self._pinned.popitem(last=False)
        return loaded

    def _note(self, model: str, failure: Failure | None) -> None:
        if failure:
            self.failures[model] = failure
        else:
            self.failures.pop(model, None)
        telemetry.BEHIND.labels(model=model).set(failure is not None)

    def why_none_serves(self, model: str) -> str:
        """Why no version of a model serves, and what to do."""
        if model not in self.models:
            return f"this server does not serve {model}; it serves {', '.join(self.models)}"
        if failure := self.failures.get(model):
            return f"no version of {model} serves: {failure.reason}"
        return (
            f"no version of {model} serves yet: a trainer promotes the first one (`sx9 status`), or train one "
            "with `sx9 train`"
        )
