"""All files of `deploy/prometheus` and `deploy/grafana`, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from schemas.models import MODELS
from tools.monitoring.alerts import ALERTS, RUNBOOK
from tools.monitoring.dashboards import dashboards
from tools.monitoring.panels import DATASOURCE
from tools.monitoring.recording import RECORDING

DEPLOY = Path(__file__).parents[2] / "deploy"
MADE = "# Made by `python -m tools.monitoring`; edit tools/monitoring/ instead.\n"
METRICS_PORT = 9464
"""The port of /metrics of each service in docker-compose.yml."""
ROLES = ("journal", "graph", "fold", "fetch")
OPTIONAL = ("archive",)
"""Services of docker-compose.yml that are not always there: a target that is away is an alert, a name is none."""
METRICS_CA = "/run/secrets/metrics-ca.crt"
SERVER_NAME = "sx9"
"""The name in the certificate of /metrics."""


def files() -> dict[Path, str]:
    """File -> its content."""
    prometheus, grafana = DEPLOY / "prometheus", DEPLOY / "grafana"
    provisioning = grafana / "provisioning"
    return {
        prometheus / "prometheus.yml": _yaml(_prometheus()),
        prometheus / "compose.yml": _yaml(_prometheus(compose=True)),
        prometheus / "compose-tls.yml": _yaml(_prometheus(compose=True, tls=True)),
        prometheus / "recording.rules.yml": _yaml(_recording()),
        prometheus / "alerts.rules.yml": _yaml(_alerts()),
        prometheus / "targets" / "compose.json": _json(_compose_targets()),
        provisioning / "datasources" / "prometheus.yml": _yaml(_datasource()),
        provisioning / "dashboards" / "sx9.yml": _yaml(_provider()),
        **{grafana / "dashboards" / f"{name}.json": _json(board) for name, board in dashboards().items()},
    }


def _yaml(content: Any) -> str:
    return MADE + yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _prometheus(*, compose: bool = False, tls: bool = False) -> Any:
    """The configuration of Prometheus.

    Args:
        compose: For docker-compose.yml, where the archive is found while it runs.
        tls: Whether processes serve their metrics over TLS; see deploy/docker/tls.yml.
    """
    job: dict[str, Any] = {"job_name": "sx9"}
    if tls:
        job |= {"scheme": "https", "tls_config": {"ca_file": METRICS_CA, "server_name": SERVER_NAME}}
    job["file_sd_configs"] = [{"files": ["targets/*.json"], "refresh_interval": "15s"}]
    if compose:
        names = {"names": list(OPTIONAL), "type": "A", "port": METRICS_PORT, "refresh_interval": "60s"}
        job["dns_sd_configs"] = [names]
        job["relabel_configs"] = [
            {"source_labels": ["__meta_dns_name"], "regex": "(.+)", "target_label": "process"}
        ]
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["*.rules.yml"],
        "scrape_configs": [job],
    }


def _recording() -> Any:
    rules = [{"record": name, "expr": expr} for name, expr in RECORDING.items()]
    return {"groups": [{"name": "sx9-recording", "rules": rules}]}


def _alerts() -> Any:
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": alert.hold,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook": f"{RUNBOOK}#{alert.name.lower()}"},
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "sx9-alerts", "rules": rules}]}


def _compose_targets() -> Sequence[Any]:
    names = [*ROLES, *(f"train-{model}" for model in MODELS)]
    return [{"targets": [f"{name}:{METRICS_PORT}"], "labels": {"process": name}} for name in names]


def _datasource() -> Any:
    source = {
        "name": "Prometheus",
        "type": DATASOURCE["type"],
        "uid": DATASOURCE["uid"],
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
        "editable": False,
        "jsonData": {"timeInterval": "15s"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def _provider() -> Any:
    provider = {
        "name": "sx9",
        "folder": "sx9",
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": "/etc/sx9/dashboards"},
    }
    return {"apiVersion": 1, "providers": [provider]}
