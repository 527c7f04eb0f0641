"""`POST /v1/techniques/predict` and `/v1/similar`: what `gnn-threat` knows. `GET /v1/neighbours`: the graph."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import APIRouter, Query, Response

from serving import threat_graph
from serving.context import GRAPH
from serving.errors import NotFound, NotReady
from serving.messages import NeighboursAnswer, PredictAnswer, PredictRequest, SimilarAnswer, SimilarRequest
from serving.routes.common import Context, as_json, source

if TYPE_CHECKING:
    from trainers.models.gnn.predict import LinkPredictor

router = APIRouter(tags=["answers"])


@router.post("/v1/techniques/predict", response_model=PredictAnswer)
async def predict(request: PredictRequest, serving: Context) -> Response:
    """Rank the techniques that probably come next, of a source that was seen to use some."""
    started_s = time.perf_counter()
    version = await serving.version(GRAPH, request.version)
    predictor = cast("LinkPredictor", version.predictor)
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


@router.get("/v1/neighbours", response_model=NeighboursAnswer)
async def neighbours(
    serving: Context,
    of: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="id or name of a node",
            openapi_examples={"T1055": {"value": "T1055"}},
        ),
    ],
) -> Response:
    """Show what is beside a node in the threat graph: tactics, mitigations, detections, rules, who uses it."""
    if serving.system is None:
        raise NotReady("the threat graph is in Neo4j, and no system runs: start it with `sx9 up`")
    found = await asyncio.to_thread(serving.system.neighbours, of)
    if found is None:
        raise NotFound(f"the graph has no {of!r}: give an id such as T1055, G0016 or CVE-2021-44228, or a name")
    return as_json(found)
