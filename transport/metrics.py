"""The HTTP server of a process: /metrics, /healthz and /readyz; and the metrics that every process has."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Gauge

from schemas.errors import BadConfiguration
from transport.health import Health
from transport.metrics_page import metrics_app

log = logging.getLogger(__name__)

_certificate: list[ssl.SSLContext] = []
"""The context of TLS of this process; empty: there is none."""
DISK_FREE = Gauge("sx9_disk_free_bytes", "Free space of the disk that has a folder", ["folder"])
DISK_SIZE = Gauge("sx9_disk_size_bytes", "Size of the disk that has a folder", ["folder"])


def use_certificate(cert_file: Path | None, key_file: Path | None) -> None:
    """Serve metrics over TLS in this process from now on; without files, as they are.

    Args:
        cert_file: PEM file of the certificate, with those that signed it behind it.
        key_file: PEM file of its key; None: it is in the same file.

    Raises:
        BadConfiguration: The files can't be used.
    """
    _certificate.clear()
    if cert_file is None and key_file is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file or "", key_file)
    except (OSError, ssl.SSLError) as error:
        raise BadConfiguration(
            f"SX9_METRICS_CERT_FILE={cert_file or ''} and SX9_METRICS_KEY_FILE={key_file or ''} can't be used "
            f"({error}): give PEM files of a certificate and its key, or unset both"
        ) from error
    _certificate.append(context)


def serve_metrics(
    process: str,
    port: int,
    bind: str,
    folders: Mapping[str, Path] | None = None,
    health: Health | None = None,
) -> tuple[WSGIServer, Thread]:
    """Serve /metrics, /healthz and /readyz in a thread, and log where.

    Args:
        process: Its name, for the log.
        port: 0: a free one.
        bind: Address to listen on.
        folders: Name, which is a metric label, such as `state` -> a folder whose disk is shown at each scrape.
        health: What /healthz and /readyz say: 200, or 503 with a reason. None: always 200.

    Returns:
        The server and its thread. Call `shutdown` and `server_close` of the server to end both.
    """
    for name, folder in (folders or {}).items():
        DISK_FREE.labels(folder=name).set_function(partial(_disk, folder, "free"))
        DISK_SIZE.labels(folder=name).set_function(partial(_disk, folder, "total"))
    family = socket.getaddrinfo(bind, port, flags=socket.AI_PASSIVE)[0][0]
    server_class = type("_Server", (_Server,), {"address_family": family})
    server: WSGIServer = make_server(bind, port, _app(health or Health()), server_class, _QuietHandler)
    if _certificate:  # the handshake is made in the thread of the request, so that a slow client holds up no other
        server.socket = _certificate[0].wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    scheme = "https" if _certificate else "http"
    log.info("%s: metrics on %s://%s:%d/metrics", process, scheme, bind, server.server_port)
    return server, thread


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request, so that a slow client holds up no other."""

    daemon_threads = True

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """A client that is cut off, or that does not speak TLS, is no error of ours."""
        log.debug("a request of %s failed", client_address, exc_info=True)


class _QuietHandler(WSGIRequestHandler):
    timeout = 30  # seconds; a connection that says nothing does not keep its thread

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape is no news."""


def _app(health: Health) -> Callable[..., Iterable[bytes]]:
    checks = {"/healthz": health.trouble, "/readyz": health.not_ready}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        check = checks.get(environ.get("PATH_INFO", ""))
        if check is None:
            return metrics_app(environ, start_response)
        reason = check()
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        start_response("503 Service Unavailable" if reason else "200 OK", headers)
        return [f"{reason or 'ok'}\n".encode()]

    return app


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
