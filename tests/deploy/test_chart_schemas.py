"""What the chart makes is valid for Kubernetes, strictly: no field that it does not know. See `make schemas`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.test_helm import EVERYTHING, VALUES, rendered

PYTHON = Path(__file__).parents[2] / ".tools" / "schemas" / "bin" / "python"
OTHERS = {
    "image": VALUES["image"] | {"repository": "registry.example/team/sx9", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "kafka": {"bootstrap": "a:9093,b:9093", "replicationFactor": 1, "authenticationRef": "kafka-login"},
    "storageClassName": "fast",
    "nodeSelector": {"disk": "ssd"},
    "roles": {
        name: spec | {"replicas": 3, "autoscaling": spec["autoscaling"] | {"enabled": True}}
        for name, spec in VALUES["roles"].items()
    },
    "fetchers": {"mine": {"schedule": "@hourly", "feeds": ["sigma"]}},
    "networkPolicy": {"enabled": False, "metricsFrom": []},
    "podDisruptionBudget": {"enabled": False},
    "metricsTls": {"secretName": "metrics", "serverName": "sx9"},
    "serviceMonitor": VALUES["serviceMonitor"] | {"enabled": True},
    "archive": VALUES["archive"] | {"enabled": True, "url": "s3://bucket/sx9"},
    "storeSecret": "store",
}
WRONG: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wrong"}, "spec": {"prots": []}},
    {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "wrong", "labels": {}},
        "spec": {"prots": []},
    },
]


@pytest.mark.skipif(not PYTHON.is_file(), reason="the schemas of Kubernetes are not installed: make schemas")
@pytest.mark.parametrize(
    ("values", "version"),
    [({}, "1.30"), (EVERYTHING, "1.37"), (OTHERS, "1.30")],
    ids=["defaults", "everything", "others"],
)
def test_every_object_is_valid(values: dict[str, Any], version: str, tmp_path: Path) -> None:
    objects = rendered(values, tmp_path)
    script = Path(__file__).with_name("kubernetes_schemas.py")
    done = subprocess.run(
        [PYTHON, script, version], input=json.dumps([*objects, *WRONG]), capture_output=True, text=True, check=True
    )
    *lines, of_service, of_scaled = done.stdout.splitlines()
    assert "prots" in of_service, "a field that does not exist is seen"
    assert "prots" in of_scaled
    assert len(lines) == len(objects)
    assert [line for line in lines if not line.endswith(" valid")] == []
