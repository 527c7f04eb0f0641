"""The versions in memory: of each model the one that serves, and a few that requests have pinned.

    swap(model, version):  load beside the old one ──> self-test ──> replace the reference ──> the old one is freed
                             └── fails: the old one stays, and the reason is kept and shown

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
    """

    def __init__(
        self,
        registry: Registry,
        batcher: Callable[[str], Batcher],
        models: tuple[str, ...] = MODELS,
        pinned: int = 2,
        load_version: Load = load,
    ) -> None:
        self.registry = registry
        self.models = models
        self.batchers: Mapping[str, Batcher] = {model: batcher(model) for model in models}
        self.failures: dict[str, Failure] = {}
        self.since_s: dict[str, float] = {}
        self._load = load_version
        self._current: dict[str, LoadedVersion] = {}
        self._pinned: OrderedDict[tuple[str, str], LoadedVersion] = OrderedDict()
        self._max_pinned = pinned
        self._loading = threading.Lock()

    def current(self, model: str) -> LoadedVersion | None:
        """The version that serves; None if none does."""
        return self._current.get(model)

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
            if serving is None:
                raise NotReady(self._why_none_serves(model))
            return serving
        if found := self._pinned.get((model, version)):
            return found
        return self._pin(model, version)

    def swap(self, model: str, version: str) -> bool:
        """Make a version serve. Idempotent.

        Returns:
            Whether it serves now. If not, what served before still does, and `failures` has the reason.
        """
        before = self._current.get(model)
        if before and before.version == version:
            self._note(model, None)
            return True
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

    def _loaded(self, model: str, version: str) -> LoadedVersion:
        with self._loading:
            found = self._pinned.get((model, version))
            if found is None:
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

    def _why_none_serves(self, model: str) -> str:
        if model not in self.models:
            return f"this server does not serve {model}; it serves {', '.join(self.models)}"
        if failure := self.failures.get(model):
            return f"no version of {model} serves: {failure.reason}"
        return (
            f"no version of {model} serves yet: a trainer promotes the first one (`sx9 status`), or train one "
            "with `sx9 train`"
        )
