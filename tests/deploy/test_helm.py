"""The Helm chart agrees with the code, and what it renders is what the cluster's strictest profile accepts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.models import MODELS
from streams.app.wiring import ROLES, group_of
from streams.fetchers.feeds.registry import feed_named
from streams.settings import Settings
from tools.monitoring.files import DEPLOY, METRICS_PORT
from trainers.settings import TrainerSettings

CHART = DEPLOY / "helm/sx9"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
TEMPLATES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").iterdir()))
REQUIRED = {"kafka": {"bootstrap": "kafka:9092"}, "neo4j": {"uri": "bolt://neo4j:7687"}}
EVERYTHING = {
    "existingSecret": "sx9",
    "policy": "[gnn-threat]\nseed = 1\n",
    "env": {"SX9_FEED_KEYS": "otx=none"},
    "roles": {
        name: {"replicas": 2, "resources": {}, "autoscaling": {"enabled": name == "graph", "minReplicas": 1,
        "maxReplicas": 4, "lagThreshold": 10}} for name in ROLES
    },
    "trainers": {MODELS[1]: VALUES["trainers"][MODELS[1]] | {"gpu": True}},
    "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}]},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "archive": VALUES["archive"] | {"enabled": True, "url": "s3://bucket/sx9"},
    "storeSecret": "store",
    "metricsTls": {"secretName": "metrics", "serverName": "sx9"},
}  # fmt: skip


def test_the_chart_has_every_role_and_a_trainer_for_every_model() -> None:
    assert set(VALUES["roles"]) == set(ROLES)
    assert set(VALUES["trainers"]) == set(MODELS)


def test_the_feeds_of_the_chart_exist() -> None:
    for fetcher in VALUES["fetchers"].values():
        for feed in fetcher["feeds"]:
            assert feed_named(feed)


def test_the_chart_sets_only_variables_that_the_code_reads() -> None:
    set_by_chart = set(re.findall(r"SX9_[A-Z0-9_]+", TEMPLATES))
    ours = {f"SX9_{name}".upper() for name in Settings.model_fields}
    trainers = {f"SX9_TRAINER_{name}".upper() for name in TrainerSettings.model_fields}
    assert "SX9_KAFKA_BOOTSTRAP" in set_by_chart
    assert set_by_chart <= ours | trainers


def test_the_schema_names_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(VALUES) <= set(schema["properties"])


def helm(*words: str, values: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """The result of a helm command with these values."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on the path: install it to render the chart")
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [program, *words, str(CHART), "--values", str(file), "--kube-version", "1.30.0"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(values: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The objects that the chart makes of these values."""
    done = helm("template", "blue", values=REQUIRED | values, folder=folder)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The specs of all pods."""
    specs = []
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            specs.append(each["spec"]["template"]["spec"])
        elif each["kind"] == "CronJob":
            specs.append(each["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    return specs


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_every_pod_is_restricted_and_mounts_only_what_it_has(values: dict[str, Any], tmp_path: Path) -> None:
    specs = pods(rendered(values, tmp_path))
    archives = int("archive" in values)
    assert len(specs) == len(ROLES) + len(MODELS) + len(VALUES["fetchers"]) + archives
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claimed = {"data"} if container["args"][:2] == ["run", "train"] else set()
        assert mounted <= {volume["name"] for volume in spec["volumes"]} | claimed
        assert "password" not in json.dumps(container["env"]).lower()


@pytest.mark.parametrize(
    ("values", "scheme"), [({}, "HTTP"), (EVERYTHING, "HTTPS")], ids=["defaults", "everything"]
)
def test_probes_ask_the_port_that_the_process_serves_with_tls_where_it_has_a_certificate(
    values: dict[str, Any], scheme: str, tmp_path: Path
) -> None:
    for spec in pods(rendered(values, tmp_path)):
        (container,) = spec["containers"]
        if container["args"][0] == "run":
            assert {port["containerPort"] for port in container["ports"]} == {METRICS_PORT}
            paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
            for probe, path in paths.items():
                assert container[probe]["httpGet"] == {"path": path, "port": "metrics", "scheme": scheme}
            variables = {each["name"]: each["value"] for each in container["env"]}
            mounts = {each["mountPath"] for each in container["volumeMounts"]}
            certificate = Path(variables.get("SX9_METRICS_CERT_FILE", "/"))
            assert (str(certificate.parent) in mounts) == (scheme == "HTTPS")


def test_prometheus_checks_the_certificate_of_the_metrics(tmp_path: Path) -> None:
    (monitor,) = [each for each in rendered(EVERYTHING, tmp_path) if each["kind"] == "ServiceMonitor"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {"ca": {"secret": {"name": "metrics", "key": "ca.crt"}}, "serverName": "sx9"}


def test_the_archive_is_a_cronjob_and_every_process_reads_from_where_it_writes(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING, tmp_path)
    (job,) = [each for each in objects if each["metadata"]["name"] == "blue-archive"]
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    containers = [spec["containers"][0] for spec in pods(objects)]
    assert ["archive"] in [container["args"] for container in containers]
    for container in containers:
        assert {"name": "SX9_ARCHIVE_URL", "value": "s3://bucket/sx9"} in container["env"]
        assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert not [each for each in rendered({}, tmp_path) if "archive" in each["metadata"]["name"]]


def test_a_scaled_role_is_scaled_by_the_lag_of_its_own_group(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING, tmp_path)
    (scaled,) = [each for each in objects if each["kind"] == "ScaledObject"]
    assert scaled["spec"]["triggers"][0]["metadata"]["consumerGroup"] == group_of("graph")
    deployments = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Deployment"}
    graph = deployments["blue-graph"]
    assert "replicas" not in graph["spec"]


def test_the_policy_arrives_as_it_was_written(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING, tmp_path)
    (config,) = [each for each in objects if each["kind"] == "ConfigMap"]
    assert config["data"]["policy.toml"] == EVERYTHING["policy"]


def test_a_gpu_is_asked_for_only_by_the_trainer_that_wants_one(tmp_path: Path) -> None:
    limits = {
        spec["containers"][0]["args"][-1]: spec["containers"][0]["resources"]["limits"]
        for spec in pods(rendered(EVERYTHING, tmp_path))
        if spec["containers"][0]["args"][:2] == ["run", "train"]
    }
    assert [model for model, limit in limits.items() if "nvidia.com/gpu" in limit] == [MODELS[1]]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kafka": {"bootstrap": "kafka"}}, "bootstrap"),
        ({"rolls": {}}, "rolls"),
        ({"archive": VALUES["archive"] | {"enabled": True}}, "url"),
        ({"archive": VALUES["archive"] | {"url": "/a/folder"}}, "url"),
        ({"metricsTls": {"secretName": "metrics", "serverName": ""}}, "serverName"),
        ({"roles": VALUES["roles"] | {"fold": {"replicas": -1, "resources": {}}}}, "replicas"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(values: dict[str, Any], told: str, tmp_path: Path) -> None:
    done = helm("template", "blue", values=REQUIRED | values, folder=tmp_path)
    assert done.returncode != 0
    assert told in done.stderr
