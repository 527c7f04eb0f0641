"""Prometheus beside the system: the targets that it scrapes, and Prometheus itself as a child process.

.sx9/monitoring/targets/sx9.json     the processes of `sx9 up`, always kept current
.sx9/monitoring/targets/serve.json   the server, while it runs
.sx9/monitoring/*.yml, data/         configuration, rules and samples of the Prometheus that `sx9 up` starts
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import deploy.prometheus
from schemas.errors import BadConfiguration
from streams.local import supervisor
from streams.settings import Settings
from sx9_ml_models.processes import GRACE_S, Child
from transport.files import write_atomically
from transport.metrics import serve_metrics, use_certificate

CONFIGURATION = Path(deploy.prometheus.__path__[0])
NAME = "prometheus"
SERVER = "serve"
RETENTION = "90d"
"""How long Prometheus keeps samples: long enough to see several retrains of each model."""
HOW_TO_GET_IT = (
    "there is no `prometheus` on the path: on Debian and Ubuntu `apt-get install prometheus`, elsewhere take the "
    "binary from prometheus.io; or run your own with the rules and targets that docs/operations.md names; or start "
    "without --monitoring"
)


def write_targets(settings: Settings, children: Sequence[Child]) -> Path:
    """Write the addresses of processes for the file discovery of Prometheus.

    Args:
        settings: Give the folder, and the address that the processes listen on.
        children: The processes.

    Returns:
        The file.
    """
    ports = {child.name: child.metrics_port for child in children if child.name not in (NAME, SERVER)}
    return _write(settings, "sx9", ports)


@contextlib.contextmanager
def scraped_server(settings: Settings) -> Iterator[None]:
    """Serve the metrics of this process, the server, at `metrics_port` while the block runs, as a target.

    The port of the server asks for a key where there are keys, and Prometheus has none.
    """
    use_certificate(settings.metrics_cert_file, settings.metrics_key_file)
    server, thread = serve_metrics(SERVER, settings.metrics_port, settings.bind)
    path = _write(settings, SERVER, {SERVER: server.server_port})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.shutdown()
        server.server_close()
        thread.join()


def _write(settings: Settings, name: str, ports: Mapping[str, int]) -> Path:
    """Write a file with the ports of some processes, by their names."""
    path = _folder(settings) / "targets" / f"{name}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    host = "127.0.0.1" if settings.bind in ("", "0.0.0.0") else settings.bind
    scheme = {"__scheme__": "https"} if settings.metrics_cert_file else {}
    groups = [
        {"targets": [f"{host}:{port}"], "labels": {"process": process, **scheme}} for process, port in ports.items()
    ]
    write_atomically(path, json.dumps(groups, indent=1).encode())
    return path


def prometheus_child(settings: Settings, port: int, lock_fd: int) -> Child:
    """Prometheus, not started yet, with the configuration and rules of this project.

    Args:
        settings: Give the folder of its configuration and samples.
        port: Of its web pages and its own metrics.
        lock_fd: File descriptor that stays open until it has ended.

    Raises:
        BadConfiguration: It is not on the path; the message says how to get it.
    """
    program = shutil.which(NAME)
    if program is None:
        raise BadConfiguration(HOW_TO_GET_IT)
    folder = _folder(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in CONFIGURATION.glob("*.yml"):
        write_atomically(folder / file.name, file.read_bytes())
    if settings.metrics_ca_file:
        path = folder / "prometheus.yml"
        trusted = f"  tls_config:\n    ca_file: {json.dumps(str(settings.metrics_ca_file.absolute()))}\n"
        write_atomically(path, path.read_bytes() + trusted.encode())  # the scrape job is the last of the file
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address={settings.bind}:{port}",
    ]
    log = settings.logs_dir / f"{NAME}.log"
    launch = partial(supervisor.launch, command, log, grace_s=GRACE_S, pass_fds=(lock_fd,))
    return Child(NAME, launch, log, port)


def _folder(settings: Settings) -> Path:
    return settings.state_dir.absolute() / "monitoring"
