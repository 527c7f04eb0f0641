"""A real S3 server of this process: `moto`, which speaks the protocol over HTTP and keeps objects in memory."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import urllib.request
from collections.abc import Iterator

import pytest

_numbers = itertools.count()


@functools.cache
def _server() -> str:
    """The address of the server, which runs until the process ends: fsspec keeps its connections."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


@contextlib.contextmanager
def s3_bucket() -> Iterator[str]:
    """The URL of an empty bucket; the variables of AWS name the server while the block runs."""
    address, name = _server(), f"bucket-{next(_numbers)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT"), timeout=60).close()
        yield f"s3://{name}"
