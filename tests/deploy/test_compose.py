"""docker-compose.yml and the Dockerfile agree with the code: commands, ports, files and variables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from schemas.models import MODELS
from streams import settings as streams_settings
from streams.settings import load_settings
from sx9_ml_models.roles import NAMES
from tools.monitoring.files import DEPLOY, METRICS_PORT
from tools.monitoring.panels import DATASOURCE
from trainers import settings as trainers_settings
from trainers.settings import load_trainer_settings
from transport.health import Health
from transport.metrics import serve_metrics, use_certificate

ROOT = DEPLOY.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("sx9-ml-models:")}
DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text(encoding="utf-8")
PROFILES = {"core", "gpu", "archive", "monitoring"}


def interpolated(value: str, **environment: str) -> str:
    """A value as compose makes it: `${NAME:-default}` has the default unless the environment says otherwise."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], value)


def test_each_profile_has_every_process_once() -> None:
    for profile in ("core", "gpu"):
        commands = [service["command"] for service in OURS.values() if profile in service["profiles"]]
        trainers = [["run", "train", "--model", model] for model in MODELS]
        # Whoever classifies a topic or archives names where to, and a server on a network needs keys, so these
        # processes are not there by default.
        others = [["run", name] for name in NAMES if name not in ("train", "archive", "classify", "serve")]
        assert sorted(commands) == sorted(others + trainers)


def test_profiles_are_known_and_kafka_and_neo4j_have_none() -> None:
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", ())} == PROFILES
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"kafka", "neo4j"}


@pytest.mark.parametrize("name", OURS)
def test_the_environment_of_a_process_is_one_that_its_code_accepts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, interpolated(value))
    settings = load_settings()
    assert settings.metrics_port == load_trainer_settings().metrics_port == METRICS_PORT
    assert f"127.0.0.1:{METRICS_PORT}/healthz" in OURS[name]["healthcheck"]["test"][-1]
    host, port = str(settings.kafka_bootstrap).split(":")
    assert f"INTERNAL://{host}:{port}" in SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert str(settings.neo4j_uri) == "bolt://neo4j:7687"


def test_prometheus_finds_every_process_by_its_name_on_the_network() -> None:
    groups = json.loads((DEPLOY / "prometheus/targets/compose.json").read_text(encoding="utf-8"))
    targets = {target for group in groups for target in group["targets"]}
    for profile in ("core", "gpu"):
        names = {
            alias
            for name, service in OURS.items()
            if profile in service["profiles"]
            for alias in service.get("networks", {}).get("default", {}).get("aliases", [name])
        }
        assert {f"{name}:{METRICS_PORT}" for name in names} == targets


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_healthy_or_not_limited_pinned_and_not_root(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0].startswith("CMD")
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert re.fullmatch(r"[\w./-]+:(v?\d+(\.\d+)+|cpu|cuda)", service["image"])
    assert int(service["user"].split(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("read_only", False) == (name not in ("kafka", "neo4j"))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_files_volumes_secrets_and_services_that_are_named_exist(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    if "build" in service:
        assert (ROOT / service["build"]["dockerfile"]).exists()
        assert re.search(rf"^FROM runtime AS {service['build']['target']}$", DOCKERFILE, re.MULTILINE)


def test_the_health_check_asks_the_process_with_and_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very program of the containers, once healthy, once stuck."""
    name, *others = OURS
    assert all(OURS[other]["healthcheck"] == OURS[name]["healthcheck"] for other in others)
    issued = trustme.CA().issue_cert("sx9")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    clock = iter([0.0])
    stuck = Health(stuck_after_s=1.0, clock=lambda: next(clock, 9.0))
    stuck.beat()
    for certificate in (None, tmp_path / "both.pem"):
        monkeypatch.setenv("SX9_METRICS_CERT_FILE", str(certificate or ""))
        use_certificate(certificate, None)
        assert [health_check(name, health) for health in (Health(), stuck)] == [0, 1]
    use_certificate(None, None)


def health_check(name: str, health: Health) -> int:
    """The exit code of the health check of a container whose process says this of itself."""
    server, thread = serve_metrics(name, 0, "127.0.0.1", health=health)
    kind, python, *words = OURS[name]["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "python")
    command = [sys.executable, *(word.replace(str(METRICS_PORT), str(server.server_port)) for word in words)]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_with_tls_every_process_serves_its_metrics_over_it_and_prometheus_asks_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    override = yaml.safe_load((DEPLOY / "docker/tls.yml").read_text(encoding="utf-8"))
    assert set(override["services"]) == set(OURS) | {"prometheus"}
    for name in OURS:
        for variable, value in override["services"][name]["environment"].items():
            monkeypatch.setenv(variable, value)
    loaded = load_settings()
    files = {Path(str(path)).name for path in (loaded.metrics_cert_file, loaded.metrics_key_file)}
    assert all(set(override["services"][name]["secrets"]) == files for name in OURS)
    prometheus = override["services"]["prometheus"]
    config, *others = prometheus["command"]
    assert others == SERVICES["prometheus"]["command"][1:]
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / Path(config).name).read_text(encoding="utf-8"))[
        "scrape_configs"
    ]
    assert job["scheme"] == "https"
    assert [Path(job["tls_config"]["ca_file"]).name] == prometheus["secrets"]
    assert {*files, *prometheus["secrets"]} == set(override["secrets"])


def test_the_archive_is_a_folder_of_its_own_or_the_url_that_every_process_reads_from() -> None:
    (name,) = [name for name, service in OURS.items() if "archive" in service["profiles"]]
    assert OURS[name]["command"] == ["run", "archive"]
    mine = OURS[name]["environment"]["SX9_ARCHIVE_URL"]
    assert f"archive:{interpolated(mine)}" in OURS[name]["volumes"]
    for service in OURS.values():
        url = interpolated(service["environment"]["SX9_ARCHIVE_URL"], SX9_ARCHIVE_URL="s3://bucket/sx9")
        assert url == "s3://bucket/sx9"
    for config in ("compose.yml", "compose-tls.yml"):
        (job,) = yaml.safe_load((DEPLOY / "prometheus" / config).read_text(encoding="utf-8"))["scrape_configs"]
        assert job["dns_sd_configs"][0]["names"] == [name]


def test_passwords_are_in_files_only_and_make_writes_these_files(tmp_path: Path) -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable.upper() or str(value).startswith("/run/secrets/")
    command = ["make", "--silent", "-f", str(ROOT / "Makefile"), "secrets", f"SECRETS={tmp_path}/secrets"]
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
        written = {path.name: path.read_text().strip() for path in (tmp_path / "secrets").iterdir()}
        assert written.keys() == COMPOSE["secrets"].keys()
        assert written["neo4j_auth"] == f"neo4j/{written['sx9_neo4j_password']}"
        assert written == {path.name: path.read_text().strip() for path in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_a_process_reads_the_password_of_neo4j_from_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secret,) = {secret for service in OURS.values() for secret in service["secrets"]}
    (tmp_path / secret).write_text("from-a-file\n")
    for module in (streams_settings, trainers_settings):
        monkeypatch.setattr(module, "SECRETS_DIR", tmp_path)
    for loaded in (load_settings(), load_trainer_settings()):
        assert loaded.neo4j_password.get_secret_value() == "from-a-file"
    monkeypatch.setenv("SX9_NEO4J_PASSWORD", "from-the-environment")
    assert load_settings().neo4j_password.get_secret_value() == "from-the-environment"


def test_grafana_gets_the_data_source_that_the_dashboards_name() -> None:
    (source,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )["datasources"]
    assert source["uid"] == DATASOURCE["uid"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/sx9.yml").read_text(encoding="utf-8"))[
        "providers"
    ]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    assert mounted[provider["options"]["path"]] == "./deploy/grafana/dashboards"


def test_the_image_has_the_folders_of_the_volumes_and_the_packages() -> None:
    for volume in next(iter(OURS.values()))["volumes"]:
        assert volume.split(":")[1] in DOCKERFILE
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*") for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert {f"!{name}" for name in (*packages, "requirements", "pyproject.toml", "README.md", "LICENSE")} <= set(
        ignored
    )
    for line in ignored:
        assert not line.startswith("!") or (ROOT / line[1:]).exists()


def test_the_lock_of_the_image_has_the_versions_of_the_development_lock_and_on_a_cpu_nothing_of_cuda() -> None:
    def pinned(text: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^\s;]+)", text, re.MULTILINE))

    run = (ROOT / "requirements/run.txt").read_text(encoding="utf-8")
    assert pinned(run) < pinned((ROOT / "requirements/dev.txt").read_text(encoding="utf-8"))
    (program,) = re.findall(r"^RUN awk '(.*)' requirements/run.txt", DOCKERFILE, re.MULTILINE)
    command = ["awk", program, "requirements/run.txt"]
    kept = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    dropped = {name.partition("==")[0] for name in pinned(run) - pinned(kept)}
    assert {name.partition("-")[0] for name in dropped} == {"nvidia", "cuda", "triton"}
    assert len(re.findall(r"^torch==", kept, re.MULTILINE)) == 1
    assert kept.count("--hash=") > len(pinned(kept))
