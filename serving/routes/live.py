"""`/v1/events` and `/v1/state`: what the page shows."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from serving.routes.common import Context, as_json
from serving.routes.health import model_state

router = APIRouter(tags=["state"])


@router.get("/v1/events", response_class=StreamingResponse)
async def events(serving: Context, last_event_id: str = Header("")) -> StreamingResponse:
    """What happens, as server-sent events: `window`, `trigger`, `version`, and `swap` of this server."""
    last = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 16 else 0
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(serving.hub.listen(last), media_type="text/event-stream", headers=headers)


@router.get("/v1/state")
async def state(serving: Context) -> Response:
    """The state of the system: feeds, windows, drift, triggers, runs and versions; and what this server serves."""
    system = dict(await asyncio.to_thread(serving.system.state)) if serving.system else {"running": False}
    serves = await asyncio.to_thread(lambda: [model_state(serving, model) for model in serving.served.models])
    return as_json({**system, "serving": serves})
