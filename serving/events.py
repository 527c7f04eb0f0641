"""What happens, to everybody who listens: server-sent events.

any thread ──publish──> Hub ──> a bounded queue for each listener ──> text/event-stream
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec

HEARTBEAT_S = 15.0
"""A comment is sent after so long without an event, so that nobody on the way closes the connection."""
KEPT = 200
"""Events that a listener gets who comes back with `Last-Event-ID`."""
_QUEUE = 1_000


class Hub:
    """Passes events on. A listener that does not read for 1,000 events is cut off, and comes back by itself."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._listeners: dict[asyncio.Queue[bytes | None], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()
        self._closed = False

    def publish(self, kind: str, data: Any) -> None:
        """Send an event to all listeners; from any thread.

        Args:
            kind: Its name, such as `version`.
            data: JSON can express it.
        """
        with self._lock:
            number = next(self._numbers)
            text = msgspec.json.encode(data)
            message = b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), text)
            self._kept.append((number, message))
            for queue, loop in self._listeners.items():
                try:
                    loop.call_soon_threadsafe(_put, queue, message)
                except RuntimeError:  # its loop has ended
                    continue

    def close(self) -> None:
        """End all streams; those that begin later end at once."""
        with self._lock:
            self._closed = True
            for queue, loop in self._listeners.items():
                loop.call_soon_threadsafe(_put, queue, None)

    async def listen(self, last_id: int = 0) -> AsyncIterator[bytes]:
        """The events from now on, and those that are kept after `last_id`, as a stream of server-sent events."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
        with self._lock:
            missed = [message for number, message in self._kept if last_id and number > last_id]
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield b"retry: 2000\n\n"
            for message in missed:
                yield message
            while not self._closed:
                try:
                    found = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    found = b": still here\n\n"
                if found is None:
                    return
                yield found
        finally:
            with self._lock:
                self._listeners.pop(queue, None)


def _put(queue: asyncio.Queue[bytes | None], message: bytes | None) -> None:
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        message = None
    queue.put_nowait(message)
