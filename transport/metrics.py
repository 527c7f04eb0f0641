"""The server of /metrics, and the metrics that every process has."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import Gauge, start_http_server

log = logging.getLogger(__name__)

DISK_FREE = Gauge("sx9_disk_free_bytes", "Free space of the disk that has a folder", ["folder"])
DISK_SIZE = Gauge("sx9_disk_size_bytes", "Size of the disk that has a folder", ["folder"])


def serve_metrics(
    process: str, port: int, bind: str, folders: Mapping[str, Path] | None = None
) -> tuple[WSGIServer, Thread]:
    """Serve /metrics in a thread, and log where.

    Args:
        process: Its name, for the log.
        port: 0: a free one.
        bind: Address to listen on.
        folders: Name, which is a metric label, such as `state` -> a folder whose disk is shown at each scrape.

    Returns:
        The server and its thread. Call `shutdown` and `server_close` of the server to end both.
    """
    for name, folder in (folders or {}).items():
        DISK_FREE.labels(folder=name).set_function(partial(_disk, folder, "free"))
        DISK_SIZE.labels(folder=name).set_function(partial(_disk, folder, "total"))
    server, thread = start_http_server(port, addr=bind)
    log.info("%s: metrics on http://%s:%d/metrics", process, bind, server.server_port)
    return server, thread


def _disk(folder: Path, what: str) -> float:
    """The `free` or `total` bytes of the disk of a folder, which may not exist yet; NaN if it can't be read."""
    folder = folder.absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        return float(getattr(shutil.disk_usage(there), what))
    except OSError as error:
        log.warning("the disk of %s can't be read: %s", folder, error)
        return float("nan")


def forget(gauge: Gauge, **labels: str) -> None:
    """Remove the series of a gauge that have these labels."""
    for sample in next(iter(gauge.collect())).samples:
        if labels.items() <= sample.labels.items():
            gauge.remove(*(sample.labels[name] for name in gauge._labelnames))
