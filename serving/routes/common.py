"""What several routes share: the context, answers as JSON, and times."""

from __future__ import annotations

import time
from typing import Annotated, Any, cast

import msgspec
from fastapi import Depends, Request, Response

from serving.context import Serving
from serving.predictors import LoadedVersion


def _context(request: Request) -> Serving:
    return cast(Serving, request.app.state.serving)


Context = Annotated[Serving, Depends(_context)]
"""The server, as an argument of a route."""


def as_json(content: Any) -> Response:
    """An answer, encoded by msgspec: an answer to 256 texts has megabytes."""
    return Response(msgspec.json.encode(content), media_type="application/json")


def source(version: LoadedVersion, started_s: float, layers_s: dict[str, float]) -> dict[str, Any]:
    """Which version answered, and how long each layer took.

    Args:
        version: The version.
        started_s: `time.perf_counter()` at the start of the request.
        layers_s: Layer -> seconds.
    """
    layers = layers_s | {"total": time.perf_counter() - started_s}
    return {
        "model": version.model,
        "version": version.version,
        "latency_ms": {layer: round(seconds * 1000, 2) for layer, seconds in layers.items()},
    }
