"""`POST /v1/feedback`: this label was wrong, this one is right."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Request

from schemas.taxonomy import is_severity
from schemas.topics import REPORTS
from serving.context import CLASSIFIER
from serving.errors import Invalid, NotReady
from serving.feedback import feedback_event
from serving.messages import FeedbackAnswer, FeedbackRequest
from serving.routes.common import Context

router = APIRouter(tags=["answers"])


@router.post("/v1/feedback", status_code=202)
async def feedback(body: FeedbackRequest, request: Request, serving: Context) -> FeedbackAnswer:
    """Say which tactics a text really has. The answer comes when the event is in the log."""
    if serving.system is None:
        raise NotReady("feedback is an event, and no Kafka runs: start the system with `sx9 up`")
    current = serving.served.current(CLASSIFIER)
    known = [label for label in current.manifest.labels if not is_severity(label)] if current else []
    if known and (unknown := sorted(set(body.tactics) - set(known))):
        raise Invalid(f"body.tactics: no tactics are {', '.join(unknown)}; known are {', '.join(known)}")
    by = getattr(request.state, "key_name", "") or body.by
    event = feedback_event(body.text, body.tactics, body.techniques, by, time.time_ns() // 1_000_000)
    await asyncio.to_thread(serving.system.send, event)
    return FeedbackAnswer(id=event.id, feed=event.feed, topic=REPORTS.name)
