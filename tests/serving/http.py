"""A server that really listens, in a thread, and a client of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from serving.app import create_app
from serving.context import Serving
from serving.server import Server

WAIT_S = 120


@contextmanager
def listening(serving: Serving) -> Iterator[httpx.Client]:
    """Run a server on a free port, until it has looked once which versions should serve."""
    config = uvicorn.Config(
        create_app(serving), host=serving.settings.host, port=0, log_config=None, access_log=False
    )
    server = Server(config, serving)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        port = socket.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
            assert serving.follower.looked.wait(WAIT_S)
            yield client
    finally:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        server.should_exit = True
        thread.join()
        socket.close()
