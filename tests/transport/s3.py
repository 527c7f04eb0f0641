"""A real S3 server of this process: `moto`, which speaks the protocol over HTTP and keeps objects in memory."""

from __future__ import annotations

import contextlib
import itertools
import urllib.request
from collections.abc import Iterator

import pytest

_numbers = itertools.count()


@contextlib.contextmanager
def s3_bucket() -> Iterator[str]:
    """The URL of an empty bucket; the variables of AWS name the server while the block runs."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        name = f"bucket-{next(_numbers)}"
        urllib.request.urlopen(
            urllib.request.Request(f"http://{host}:{port}/{name}", method="PUT"), timeout=60
        ).close()
        try:
            yield f"s3://{name}"
        finally:
            server.stop()
