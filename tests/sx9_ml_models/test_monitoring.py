"""Prometheus beside the system: the targets are those of its processes, and a real Prometheus scrapes them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from schemas.errors import BadConfiguration
from streams.local.machine import free_port
from streams.settings import Settings
from sx9_ml_models.monitoring import prometheus_child, scraped_server, write_targets
from sx9_ml_models.processes import Child, Children, role_child, running
from tests.deploy.queries import all_queries
from tests.flow.roles import until
from tools.monitoring.dashboards import dashboards
from tools.monitoring.pictures import Prometheus, draw
from transport.metrics import serve_metrics, use_certificate


def settings(path: Path, **more: Any) -> Settings:
    return Settings(state_dir=path / "state", **more)


def child(name: str, port: int) -> Child:
    return role_child(name, [], Path("unused.log"), port, {}, None)


def test_the_targets_are_the_processes_with_their_ports(tmp_path: Path) -> None:
    file = write_targets(settings(tmp_path, bind="0.0.0.0"), [child("fold", 9001), child("prometheus", 9002)])
    assert json.loads(file.read_text()) == [{"targets": ["127.0.0.1:9001"], "labels": {"process": "fold"}}]


def test_the_server_is_a_target_as_long_as_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "state/monitoring/targets/serve.json"
    with scraped_server(settings(tmp_path)):
        ((address,),) = [group["targets"] for group in json.loads(file.read_text())]
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            assert b"sx9_disk_free_bytes" in answer.read()
    assert not file.exists()


def test_without_a_prometheus_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadConfiguration, match=r"apt-get install prometheus.*without --monitoring"):
        prometheus_child(settings(tmp_path), 9090, 0)


class Certificates:
    """Files of an authority, of a certificate that it signed, and of its key."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.ca, self.cert, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)


@pytest.fixture
def certificates(tmp_path: Path) -> Iterator[Certificates]:
    """Certificates with which this process serves its metrics."""
    made = Certificates(tmp_path)
    use_certificate(made.cert, made.key)
    yield made
    use_certificate(None, None)


def test_metrics_are_served_over_tls_to_those_who_trust_the_certificate_and_not_otherwise(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Certificates(tmp_path / "other")
    server, thread = serve_metrics("test", 0, "127.0.0.1")
    address = f"127.0.0.1:{server.server_port}/metrics"
    try:
        context = ssl.create_default_context(cafile=certificates.ca)
        with urllib.request.urlopen(f"https://{address}", context=context) as answer:
            assert b"sx9_disk_free_bytes" in answer.read()
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"https://{address}", context=ssl.create_default_context(cafile=other.ca))
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://{address}", timeout=60)
        with urllib.request.urlopen(f"https://{address}", context=context) as answer:
            assert answer.status == 200, "it serves on"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_certificate_without_its_key_is_refused_with_the_names_of_both_settings(
    certificates: Certificates, tmp_path: Path
) -> None:
    with pytest.raises(BadConfiguration, match=r"SX9_METRICS_CERT_FILE=.*cert.pem and SX9_METRICS_KEY_FILE= can't"):
        use_certificate(certificates.cert, None)
    with pytest.raises(BadConfiguration, match="give PEM files of a certificate and its key, or unset both"):
        use_certificate(None, certificates.key)


@pytest.fixture
def prometheus(tmp_path: Path, certificates: Certificates) -> Iterator[str]:
    """The address of a Prometheus that scrapes this process over TLS; it has the metrics of every process."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not on the path: install it to run this")
    server, thread = serve_metrics("test", 0, "127.0.0.1", {"state": tmp_path})
    port = free_port(set())
    reader, writer = os.pipe()
    own = settings(tmp_path, metrics_cert_file=certificates.cert, metrics_ca_file=certificates.ca)
    write_targets(own, [child("fold", server.server_port)])
    try:
        with running(Children([prometheus_child(own, port, reader)])):
            yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        for descriptor in (reader, writer):
            os.close(descriptor)
        server.shutdown()
        server.server_close()
        thread.join()


def asked(address: str, **parameters: str) -> Any:
    """The answer of Prometheus; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


def values(address: str, query: str) -> list[Any]:
    return (asked(f"{address}/query", query=query) or {"result": []})["result"]


def test_a_real_prometheus_scrapes_the_targets_loads_the_rules_answers_every_query_and_a_dashboard_is_drawn(
    prometheus: str, tmp_path: Path
) -> None:
    until(lambda: values(prometheus, 'up{job="sx9", process="fold"} == 1'), "the first scrape")
    (free,) = values(prometheus, 'sx9_disk_free_bytes{folder="state", process="fold"}')
    assert float(free["value"][1]) > 0
    groups = asked(f"{prometheus}/rules")["groups"]
    rules = {rule["name"] for group in groups for rule in group["rules"]}
    queries = all_queries()
    assert rules <= queries.keys()
    assert len(rules) > 20
    for where, query in queries.items():
        answer = asked(f"{prometheus}/query", query=query)
        assert answer is not None, where
    path = tmp_path / "overview.png"
    end = time.time()
    draw(dashboards()["overview"], Prometheus(prometheus.removesuffix("/api/v1"), end - 60, end), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 150_000
