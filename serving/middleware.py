"""Around every request: its size, its key, its time. Plain ASGI, so that streams stay streams.

request ──> Measured ──> Guarded ──> routes
            counts,      key, scope,
            times        body limit
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from schemas.errors import Sx9Error
from serving import telemetry
from serving.keys import Keys, StoredKey

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset(("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/favicon.ico"))
"""Paths that need no key: whether the server lives, and the page, which asks for one."""
OPEN_PREFIX = "/page/"
ADMIN_PREFIX = "/v1/admin/"
UNKNOWN_ROUTE = "other"


def error_body(detail: str) -> bytes:
    """The JSON body of every error."""
    return msgspec.json.encode({"detail": detail})


class Measured:
    """Counts and times the requests, by the path template of their route.

    Args:
        app: The next layer.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
            telemetry.REQUESTS.labels(route=route, status=str(status)).inc()
            telemetry.REQUEST_SECONDS.labels(route=route).observe(time.perf_counter() - started_s)


class Guarded:
    """Refuses requests without the key that they need, and bodies that are too long.

    Args:
        app: The next layer.
        keys: Of the server.
        open_to_all: Whether everything but the admin routes needs no key as long as there are none: true only if
            nobody but this machine can reach the server.
        max_body_bytes: Longest body.
    """

    def __init__(self, app: App, keys: Keys, open_to_all: bool, max_body_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._open_to_all = open_to_all
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            refusal = self._refusal(scope, headers)
        except Sx9Error as error:
            refusal = (503, str(error), ())
        if refusal is None and b"transfer-encoding" in headers:
            body = await self._read(receive)
            refusal = (413, self._too_long(f"over {self._max_body_bytes}"), ()) if body is None else None
            receive = _replayed(body or b"", receive)
        length = headers.get(b"content-length", b"0")
        if refusal is None and (not length.isdigit() or int(length) > self._max_body_bytes):
            refusal = (413, self._too_long(length.decode("latin-1")), ())
        if refusal is not None:
            await _respond(send, *refusal)
            return
        await self._app(scope, receive, send)

    def _refusal(
        self, scope: Scope, headers: dict[bytes, bytes]
    ) -> tuple[int, str, tuple[tuple[bytes, bytes], ...]] | None:
        path, method = scope["path"], scope["method"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX) or method == "OPTIONS":
            return None
        stored = self._key(headers)
        scope.setdefault("state", {})["key_name"] = stored.name if stored else ""
        if path.startswith(ADMIN_PREFIX):
            if stored is None:
                return _unauthorized(
                    "this route needs a key with the scope admin: `sx9 keys add NAME --scope admin`"
                )
            if stored.scope != "admin":
                return 403, f"key {stored.name} has the scope {stored.scope}; this route needs admin", ()
            return None
        if stored is None and not (self._open_to_all and not self._keys.all() and not _sent_key(headers)):
            return _unauthorized("send a key as `Authorization: Bearer KEY`; `sx9 keys add NAME` makes one")
        return None

    def _key(self, headers: dict[bytes, bytes]) -> StoredKey | None:
        sent = _sent_key(headers)
        return self._keys.find(sent) if sent else None

    async def _read(self, receive: Receive) -> bytes | None:
        """A body whose length was not told; None if it is too long."""
        parts, length = [], 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > self._max_body_bytes:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return b"".join(parts)

    def _too_long(self, length: str) -> str:
        return (
            f"the body has {length} bytes; the limit is {self._max_body_bytes} (SX9_SERVE_MAX_BODY_BYTES): send it "
            "in parts"
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _sent_key(headers: dict[bytes, bytes]) -> str:
    scheme, _, value = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return headers.get(b"x-api-key", b"").decode("latin-1").strip()


def _unauthorized(detail: str) -> tuple[int, str, tuple[tuple[bytes, bytes], ...]]:
    return 401, detail, ((b"www-authenticate", b"Bearer"),)


async def _respond(send: Send, status: int, detail: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    body = error_body(detail)
    content = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*content, *headers]})
    await send({"type": "http.response.body", "body": body})
