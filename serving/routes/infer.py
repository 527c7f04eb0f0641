"""`POST /v1/infer`: RFC-9021's question and answer, by simple stated rules over the classifier."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter

from schemas.ids import ID_IN_TEXT
from serving import inference, threat_graph
from serving.answers.ask import MAX_QUESTION_CHARS, Answer
from serving.context import CLASSIFIER, EXPLAINER, GRAPH, Serving
from serving.errors import NotReady
from serving.messages import InferAnswer, InferMetadata, InferRequest
from serving.routes.classify import classified
from serving.routes.common import Context

router = APIRouter(tags=["answers"])
NEIGHBOURS = 3


@router.post("/v1/infer")
async def infer(request: InferRequest, serving: Context) -> InferAnswer:
    """Answer a question as RFC-9021 has it. `serving/inference.py` states the rules of gate and pathway."""
    started_s = time.perf_counter()
    version = await serving.version(CLASSIFIER)
    answers, layers_s = await classified(serving, version, [request.query], False)
    labels = answers[0]
    gate = inference.gate(request.query)
    versions, sources, missing = (
        {version.model: version.version},
        [f"{version.model}@{version.version}"],
        list[str](),
    )
    facts = [_labels(labels)]
    if gate == "full_processing":
        graph_s = time.perf_counter()
        if serving.system is not None:
            answer = await _facts(serving, request.query)
            facts += [sentence.text for sentence in answer.sentences]
            sources += dict.fromkeys(source for sentence in answer.sentences for source in sentence.sources)
            missing += [layer for layer in answer.away if layer != "generator"]
        try:
            found, graph_version = await _graph(serving, request.query)
            versions[GRAPH] = graph_version
            facts += found
            sources += [f"{GRAPH}@{graph_version}"] if found else []
        except NotReady:
            missing.append(GRAPH)
        layers_s["graph"] = time.perf_counter() - graph_s
    return InferAnswer(
        response=_cut(" ".join(facts), request.max_tokens),
        metadata=InferMetadata(
            thalamic_gate=gate,
            pathway=inference.pathway(request.query, request.inference_type),
            priority=inference.priority(labels["severity"]),
            latency_ms=round((time.perf_counter() - started_s) * 1000, 2),
            sources_used=sources,
            model_versions=versions,
            layers_ms={layer: round(seconds * 1000, 2) for layer, seconds in layers_s.items()},
            missing=missing,
        ),
    )


def _labels(labels: dict[str, Any]) -> str:
    tactics = [f"{tactic} ({labels['probabilities'][tactic]:.2f})" for tactic in labels["tactics"]]
    said = f"Tactics: {', '.join(tactics)}." if tactics else "No tactic is probable enough to be named."
    if labels["severity"]:
        said += f" Predicted severity: {labels['severity']} ({labels['severity_probability']:.2f})."
    return said


async def _facts(serving: Serving, query: str) -> Answer:
    assert serving.system is not None
    question = query.strip()[:MAX_QUESTION_CHARS] or "?"
    return await asyncio.to_thread(serving.system.answer, question, None, EXPLAINER, "`/v1/explain` has it")


async def _graph(serving: Serving, query: str) -> tuple[list[str], str]:
    """What the graph says of the ids in a query: the names, and what is nearest."""
    version = await serving.version(GRAPH)
    names = {node.id: node.name for node in version.predictor.view.graph.nodes}  # type: ignore[attr-defined]
    facts = []
    for name in dict.fromkeys(match.upper() for match in ID_IN_TEXT.findall(query)):
        if name not in names:
            facts.append(f"{name} is not in the graph.")
            continue
        near = threat_graph.similar(version, name, NEIGHBOURS)
        listed = ", ".join(f"{one['name'] or one['id']} ({one['id']})" for one in near)
        facts.append(f"{name} is {names[name] or 'without a name'}; nearest in the graph: {listed}.")
    return facts, version.version


def _cut(text: str, max_tokens: int) -> str:
    """The first words of an answer; a word counts as one token."""
    words = text.split(" ")
    return text if len(words) <= max_tokens else " ".join(words[:max_tokens])
