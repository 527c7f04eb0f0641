"""`POST /v1/techniques/predict` and `/v1/similar`: what `gnn-threat` knows."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from fastapi import APIRouter, Response

from serving import threat_graph
from serving.context import GRAPH
from serving.messages import PredictAnswer, PredictRequest, SimilarAnswer, SimilarRequest
from serving.routes.common import Context, as_json, source
from trainers.models.gnn.predict import LinkPredictor

router = APIRouter(tags=["answers"])


@router.post("/v1/techniques/predict", response_model=PredictAnswer)
async def predict(request: PredictRequest, serving: Context) -> Response:
    """Rank the techniques that probably come next, of a source that was seen to use some."""
    started_s = time.perf_counter()
    version = await serving.version(GRAPH, request.version)
    predictor = cast(LinkPredictor, version.predictor)
    known = threat_graph.seen_of(predictor, request.seen, request.actor)
    query = threat_graph.source(predictor, request.kind, known.seen)
    answered = await serving.ask(version, [query])
    ranked = answered.predictions[0][: request.k]
    techniques = await asyncio.to_thread(threat_graph.described, predictor, ranked, known.seen)
    layers_s = {"queue": answered.waited_s, "model": answered.computed_s}
    return as_json(
        {
            **source(version, started_s, layers_s),
            "seen": known.seen,
            "unknown": known.unknown,
            "techniques": techniques,
        }
    )


@router.post("/v1/similar", response_model=SimilarAnswer)
async def similar(request: SimilarRequest, serving: Context) -> Response:
    """List the nodes of the graph that are most similar to a node, by their embeddings."""
    started_s = time.perf_counter()
    version = await serving.version(GRAPH, request.version)
    nodes = await asyncio.to_thread(threat_graph.similar, version, request.id, request.k)
    return as_json({**source(version, started_s, {}), "nodes": nodes})
