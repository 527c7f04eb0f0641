"""`POST /v1/admin/promote` and `/v1/admin/rollback`, as `sx9 models` does it; both need an admin key."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from serving.context import Change, Serving
from serving.errors import NotReady
from serving.messages import ChangeAnswer, ChangeRequest
from serving.routes.common import Context

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.post("/promote")
async def promote(body: ChangeRequest, request: Request, serving: Context) -> ChangeAnswer:
    """Make a version serve that the gate refused, or that was rolled back."""
    return await _change(body, request, serving, "promoted")


@router.post("/rollback")
async def rollback(body: ChangeRequest, request: Request, serving: Context) -> ChangeAnswer:
    """Go back to an earlier version."""
    return await _change(body, request, serving, "rolled-back")


async def _change(body: ChangeRequest, request: Request, serving: Serving, action: Change) -> ChangeAnswer:
    if serving.system is None:
        raise NotReady("a promotion is written to the log, and no Kafka runs: start the system with `sx9 up`")
    by = str(getattr(request.state, "key_name", ""))
    before = await asyncio.to_thread(serving.system.change, body.model, body.version, action, by, body.why)
    return ChangeAnswer(model=body.model, version=body.version, before=before)
