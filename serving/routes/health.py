"""Whether the server lives, whether it can answer, which versions it has, and its metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from schemas.errors import Corrupt
from schemas.versions import Manifest
from serving.context import CLASSIFIER, GRAPH, Serving
from serving.errors import NotReady
from serving.routes.common import Context, as_json
from transport.metrics_page import page

router = APIRouter(tags=["state"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process lives."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(serving: Context) -> dict[str, Any]:
    """Whether requests are answered: a version of the first model serves, or is loaded at the first request."""
    main = serving.served.models[0]
    if main not in _serving(serving):
        raise NotReady(serving.served.why_none_serves(main))
    return {"status": "ready", "serving": _serving(serving)}


@router.get("/v1/health")
async def health(serving: Context) -> dict[str, Any]:
    """The health as RFC-9021 has it. The embeddings of the graph model are the vector store."""
    serves = _serving(serving)
    loaded = {model: version for model, version in serves.items() if serving.served.current(model)}
    whole = len(serves) == len(serving.served.models) and not serving.served.failures and not serving.follower.fault
    graph = "ok" if GRAPH in serves else "away"
    return {
        "status": "healthy" if whole else "degraded" if CLASSIFIER in serves else "unhealthy",
        "models_loaded": [f"{model}@{version}" for model, version in loaded.items()],
        "vector_store": graph,
        "graph_store": graph,
        "missing": [model for model in serving.served.models if model not in serves],
    }


@router.get("/v1/models")
async def models(serving: Context) -> Response:
    """The models: which version serves and since when, why another does not, and all versions."""
    described = await asyncio.to_thread(lambda: [model_state(serving, model) for model in serving.served.models])
    return as_json({"models": described, "following": serving.follower.fault or "ok"})


@router.get("/metrics")
def metrics() -> Response:
    """The metrics, in the text format of Prometheus."""
    return Response(page(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _serving(serving: Serving) -> dict[str, str]:
    """Model -> the version that answers: it is in memory, or is loaded at the first request."""
    served = serving.served
    loaded = {model: now.version for model in served.models if (now := served.current(model))}
    noted = {model: served.to_load(model) for model in served.models if model not in served.failures}
    return loaded | {model: version for model, version in noted.items() if version}


def model_state(serving: Serving, model: str) -> dict[str, Any]:
    """One model: the version in memory, why another one can not serve, and all versions."""
    current, failure = serving.served.current(model), serving.served.failures.get(model)
    try:
        versions, fault = serving.served.registry.versions(model), ""
    except Corrupt as error:
        versions, fault = [], str(error)
    return {
        "model": model,
        "version": current.version if current else None,
        "precision": current.precision if current else None,
        "to_load": serving.served.to_load(model),
        "since_s": serving.served.since_s.get(model),
        "waiting": serving.served.batchers[model].waiting,
        "labels": list(current.manifest.labels) if current else [],
        "failed": {"version": failure.version, "reason": failure.reason, "at_s": failure.at_s} if failure else None,
        "versions": [_version(manifest) for manifest in versions],
        "fault": fault,
    }


def _event_to_model_s(manifest: Manifest) -> float | None:
    """Seconds from when the broker had the newest event that a version learnt from to the end of its run."""
    if not (manifest.newest_event_ms and manifest.created_ms):
        return None
    return (manifest.created_ms - manifest.newest_event_ms) / 1000


def _version(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "reason": manifest.reason,
        "promoted": manifest.promoted,
        "examples": manifest.examples_trained,
        "created_ms": manifest.created_ms,
        "event_to_model_s": _event_to_model_s(manifest),
        "scores": {
            f"{task}/{split}/{metric}": round(value, 4)
            for task, splits in manifest.evaluation.items()
            for split, scores in splits.items()
            for metric, value in scores.metrics.items()
        },
    }
