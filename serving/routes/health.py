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
    """Whether requests are answered: the first model that is served has a version in memory."""
    main = serving.served.models[0]
    if serving.served.current(main) is None:
        serving.served.get(main)
        raise NotReady(f"no version of {main} serves yet")
    return {"status": "ready", "serving": _serving(serving)}


@router.get("/v1/health")
async def health(serving: Context) -> dict[str, Any]:
    """The health as RFC-9021 has it. The embeddings of the graph model are the vector store."""
    loaded = _serving(serving)
    whole = len(loaded) == len(serving.served.models) and not serving.served.failures and not serving.follower.fault
    graph = "ok" if GRAPH in loaded else "away"
    return {
        "status": "healthy" if whole else "degraded" if CLASSIFIER in loaded else "unhealthy",
        "models_loaded": [f"{model}@{version}" for model, version in loaded.items()],
        "vector_store": graph,
        "graph_store": graph,
        "missing": [model for model in serving.served.models if model not in loaded],
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
    found = {model: serving.served.current(model) for model in serving.served.models}
    return {model: version.version for model, version in found.items() if version}


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
        "since_s": serving.served.since_s.get(model),
        "waiting": serving.served.batchers[model].waiting,
        "labels": list(current.manifest.labels) if current else [],
        "failed": {"version": failure.version, "reason": failure.reason, "at_s": failure.at_s} if failure else None,
        "versions": [_version(manifest) for manifest in versions],
        "fault": fault,
    }


def _version(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "reason": manifest.reason,
        "promoted": manifest.promoted,
        "examples": manifest.examples_trained,
        "created_ms": manifest.created_ms,
        "scores": {
            f"{task}/{split}/{metric}": round(value, 4)
            for task, splits in manifest.evaluation.items()
            for split, scores in splits.items()
            for metric, value in scores.metrics.items()
        },
    }
