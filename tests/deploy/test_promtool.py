"""The rules with the real `promtool`: they are valid, and each alert fires when it should and not otherwise.

Skipped where no `promtool` is on the path. Debian's package `prometheus` has it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.monitoring.files import DEPLOY

pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not on the path: install Prometheus to run this"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_its_rules_are_valid() -> None:
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")
    for name in ("compose.yml", "compose-tls.yml"):  # the files of their containers are not here
        promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / name)
    promtool("check", "rules", *sorted((DEPLOY / "prometheus").glob("*.rules.yml")))


def test_every_alert_fires_when_it_should_and_not_otherwise() -> None:
    promtool("test", "rules", Path(__file__).parent / "alerts.test.yml")
