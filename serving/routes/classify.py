"""`POST /v1/classify`: tactics and severity of texts and of their sentences."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import msgspec
from fastapi import APIRouter, Response

from serving.classification import Plan, answer, plan, queries
from serving.classify import SaidTechnique
from serving.context import CLASSIFIER, Serving
from serving.errors import TooLarge
from serving.messages import ClassifyAnswer, ClassifyRequest
from serving.predictors import LoadedVersion
from serving.routes.common import Context, as_json, source

if TYPE_CHECKING:
    from trainers.models.distilbert.predict import TextClassifier

router = APIRouter()
_IN_THREAD_CHARS = 20_000
"""Longer requests are taken apart in a thread, so that others are not held up."""


@router.post("/v1/classify", response_model=ClassifyAnswer, tags=["answers"])
async def classify(request: ClassifyRequest, serving: Context) -> Response:
    """Classify texts, and each of their sentences: ATT&CK tactics, and a severity."""
    started_s = time.perf_counter()
    version = await serving.version(CLASSIFIER, request.version)
    answers, layers_s = await classified(serving, version, request.texts, request.sentences)
    right = await _add_techniques(serving, request.texts, answers, layers_s)
    answered = {"precision": version.precision, "answers": answers, "technique_precision": right}
    return as_json({**source(version, started_s, layers_s), **answered})


async def classified(
    serving: Serving, version: LoadedVersion, texts: list[str], with_sentences: bool
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Answers to texts, and layer -> seconds.

    Raises:
        TooLarge: There are too many texts, or they are too long.
    """
    started_s = time.perf_counter()
    _check(serving, texts)
    if sum(map(len, texts)) > _IN_THREAD_CHARS:
        plans, asked = await asyncio.to_thread(_parts, version, texts, with_sentences)
    else:
        plans, asked = _parts(version, texts, with_sentences)
    limit = serving.settings.max_parts
    if len(asked) > limit:
        raise TooLarge(
            f"the texts have {len(asked)} sentences and passages; the limit is {limit} (SX9_SERVE_MAX_PARTS): send "
            "them in several requests"
        )
    prepared_s = time.perf_counter() - started_s
    answered = await serving.ask(version, asked)
    if serving.shadow is not None:
        serving.shadow.look_at(version, asked, answered.predictions)
    layers_s = {"prepare": prepared_s, "queue": answered.waited_s, "model": answered.computed_s}
    predictions, answers = iter(answered.predictions), []
    for planned, size in plans:
        whole, of_sentences = answer(planned, [next(predictions) for _ in range(size)])
        placed = [
            {"start": span.start, "end": span.end, **msgspec.structs.asdict(labels)}
            for span, labels in zip(planned.sentences, of_sentences, strict=True)
        ]
        answers.append({**msgspec.structs.asdict(whole), "sentences": placed})
    return answers, layers_s


async def _add_techniques(
    serving: Serving, texts: list[str], answers: list[dict[str, Any]], layers_s: dict[str, float]
) -> float | None:
    """Add the techniques of the sentences, and the severities that are stated; what layer it is gets its seconds.

    Returns:
        The share of techniques that were right on held-out examples; None if none are said.
    """
    for each in answers:
        each["severity_by"] = "predicted" if each["severity"] else ""
    if serving.system is None:
        return None
    started_s = time.perf_counter()
    techniques = serving.system.techniques
    sentences = [s for each in answers for s in each["sentences"]]
    placed = [
        text[s["start"] : s["end"]] for text, each in zip(texts, answers, strict=True) for s in each["sentences"]
    ]
    said, severities = await asyncio.to_thread(
        lambda: (techniques.said(placed), [techniques.severity(text) for text in texts])
    )
    for sentence, found in zip(sentences, said, strict=True):
        sentence["techniques"] = [_technique(each) for each in found]
    for each, stated in zip(answers, severities, strict=True):
        if stated:
            source_text = f"{stated.by}: {stated.source}"
            each |= {"severity": stated.severity, "severity_by": "stated", "severity_source": source_text}
            each["severity_probability"] = None
    layers_s["techniques"] = time.perf_counter() - started_s
    threshold = techniques.threshold
    return threshold.precision or None if threshold else None


def _technique(said: SaidTechnique) -> dict[str, Any]:
    near = said.found.examples if said.found else ()
    examples = [
        {"text": each.text, "feed": each.feed, "release": each.release, "similarity": round(each.similarity, 4)}
        for each in near
    ]
    return {"id": said.id, "name": said.name, "by": said.by, "score": round(said.score, 4), "examples": examples}


def _check(serving: Serving, texts: list[str]) -> None:
    settings = serving.settings
    if len(texts) > settings.max_texts:
        raise TooLarge(
            f"{len(texts)} texts; the limit is {settings.max_texts} (SX9_SERVE_MAX_TEXTS): send several requests"
        )
    for number, text in enumerate(texts):
        if len(text) > settings.max_text_chars:
            raise TooLarge(
                f"text {number} has {len(text)} characters; the limit is {settings.max_text_chars} "
                "(SX9_SERVE_MAX_TEXT_CHARS): send it in parts"
            )


def _parts(
    version: LoadedVersion, texts: list[str], with_sentences: bool
) -> tuple[list[tuple[Plan, int]], list[str]]:
    """The plan of each text with its number of queries, and all queries."""
    predictor = cast("TextClassifier", version.predictor)
    plans, asked = [], list[str]()
    for text in texts:
        planned = plan(text, predictor.max_tokens, with_sentences)
        parts = queries(text, planned)
        plans.append((planned, len(parts)))
        asked += parts
    return plans, asked
