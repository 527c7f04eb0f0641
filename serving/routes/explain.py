"""`POST /v1/explain`: an answer with its evidence, sentence by sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from schemas.journal import Instruction
from serving import telemetry
from serving.answers.ask import Answer, Generator
from serving.context import EXPLAINER, AnswerQuestion, Serving
from serving.errors import NotReady, Refused
from serving.messages import ExplainAnswer, ExplainRequest
from serving.predictors import LoadedVersion
from serving.routes.common import Context, as_json

router = APIRouter(tags=["answers"])
_HEARTBEAT_S = 10.0


class BatchedGenerator:
    """The version that serves, asked through its batches from a thread.

    Args:
        serving: The server.
        version: Of the explainer.
        loop: Of the server.
    """

    def __init__(self, serving: Serving, version: LoadedVersion, loop: asyncio.AbstractEventLoop) -> None:
        self._serving, self._version, self._loop = serving, version, loop

    def predict(self, instructions: Sequence[Instruction], /) -> Sequence[str]:
        """One answer for each instruction."""
        asked = self._serving.ask(self._version, list(instructions))
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result().predictions


@router.post("/v1/explain", response_model=ExplainAnswer)
async def explain(request: ExplainRequest, serving: Context) -> Response:
    """Answer a question about a technique, actor, software or CVE, each sentence with its sources.

    With `stream` the answer is a stream of server-sent events: `sentence` for each, and `end` with everything.
    """
    if serving.system is None:
        raise NotReady("questions are answered from the threat graph, and no system runs: start it with `sx9 up`")
    generator, name, reason = None, EXPLAINER, "not asked for: `generate` lets it write the answer"
    if request.generate:
        try:
            version = await serving.version(EXPLAINER, request.version)
            generator = BatchedGenerator(serving, version, asyncio.get_running_loop())
            name = f"{version.model} {version.version}"
        except Refused as error:
            if request.version is not None:
                raise
            reason = str(error)
    asked = asyncio.to_thread(counted_answer, serving.system.answer, request.question, generator, name, reason)
    answering = asyncio.ensure_future(asked)
    if request.stream:
        return StreamingResponse(_events(answering), media_type="text/event-stream")
    return as_json(_described(await answering))


def counted_answer(
    ask: AnswerQuestion, question: str, generator: Generator | None, name: str, reason: str
) -> Answer:
    """Answer a question, and count the sentences that the generator wrote; see `serving.answers.ask.ask`."""
    answer = ask(question, generator, name, reason)
    if generator is not None:
        kept = len(answer.sentences) if answer.by == name else 0
        telemetry.SENTENCES.labels(outcome="kept").inc(kept)
        telemetry.SENTENCES.labels(outcome="left out").inc(len(answer.left_out))
    return answer


async def _events(answering: asyncio.Future[Answer]) -> AsyncIterator[bytes]:
    while not answering.done():
        await asyncio.wait([answering], timeout=_HEARTBEAT_S)
        if not answering.done():
            yield b": still here\n\n"
    try:
        answer = answering.result()
    except Exception as error:  # noqa: BLE001  the stream has begun: its status can't say it any more
        yield _event("error", {"detail": str(error)})
        return
    for sentence in answer.sentences:
        yield _event("sentence", msgspec.to_builtins(sentence))
    yield _event("end", _described(answer))


def _event(kind: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(data))


def _described(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(answer)
    found["left_out"] = [{"sentence": sentence, "reason": reason} for sentence, reason in answer.left_out]
    return found
