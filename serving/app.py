"""The HTTP interface as an ASGI application."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from schemas.errors import BadConfiguration, RetryLater, Sx9Error
from serving.context import Serving
from serving.errors import NotReady, Refused
from serving.middleware import Guarded, Measured, error_body
from serving.routes import admin, classify, explain, feedback, graph, health, infer, live
from transport.secrets import without_secrets

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]", "testserver"]
"""Names of this machine in `Host`. On loopback no other is answered, so that no web page can reach the server by a
name of its own that it lets point here."""


def create_app(serving: Serving) -> FastAPI:
    """The application of a server. It starts the follower, and ends it with the threads of the models."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving.follower.start()
        yield
        serving.hub.close()
        serving.follower.close()
        serving.served.close()

    app = FastAPI(
        title="sx9-ml-models",
        description="Ask the models. Every answer names model and version; a request may pin one.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.serving = serving
    for module in (classify, explain, graph, infer, feedback, health, live, admin):
        app.include_router(module.router)
    _add_page(app)
    _add_errors(app)
    settings = serving.settings
    app.add_middleware(
        Guarded,
        keys=serving.keys,
        open_to_all=settings.on_loopback,
        max_body_bytes=settings.max_body_bytes,
    )
    if origins := settings.cors_origins.split():
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "last-event-id"],
        )
    if settings.on_loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES)
    app.add_middleware(Measured)
    return app


def _add_page(app: FastAPI) -> None:
    if (PAGE / "index.html").is_file():
        app.mount("/page", StaticFiles(directory=PAGE), name="page")

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


def _add_errors(app: FastAPI) -> None:
    """Every error is JSON with a `detail` that names what, the value, the limit and the remedy."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return _error(error.status, str(error), error.retry_after_s)

    @app.exception_handler(Sx9Error)
    async def failed(_: Request, error: Sx9Error) -> Response:
        if isinstance(error, BadConfiguration):
            return _error(400, str(error))
        log.warning("a request failed: %s", error)
        return _error(503, str(error), NotReady.retry_after_s if isinstance(error, RetryLater) else 0)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:10]]
        return _error(422, "; ".join(faults))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        response = _error(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _error(500, f"an error of the server ({type(error).__name__}), which its log describes")


def _error(status: int, detail: str, retry_after_s: int = 0) -> Response:
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    body = error_body(without_secrets(detail).encode(errors="replace").decode())
    return Response(body, status, headers, media_type="application/json")
