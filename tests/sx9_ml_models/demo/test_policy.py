"""The rules of the demo are valid, and the demo refuses to run on services that are not its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from schemas.models import MODELS
from streams.app.policy_file import load_policies
from sx9_ml_models.demo.policy import ENVIRONMENT, demo_settings
from trainers.settings import load_trainer_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo_settings` changes the environment; it is restored after the test."""
    for name in (*ENVIRONMENT, "SX9_STATE_DIR", "SX9_OUTPUT_DIR", "SX9_POLICY_FILE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


def test_the_demo_has_valid_rules_and_settings_for_every_model(tmp_path: Path) -> None:
    settings = demo_settings(tmp_path / "demo")
    policies = load_policies(settings.policy_file)
    assert set(policies) == set(MODELS)
    assert {policy.recipe["threads"] for policy in policies.values()} == {1}
    assert (settings.tick_interval_s, settings.fetch_interval_s) == (0, 0)
    assert load_trainer_settings().output_dir == (tmp_path / "demo" / "output").resolve()


def test_the_demo_refuses_a_configured_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_KAFKA_BOOTSTRAP", "broker:9092")
    with pytest.raises(BadConfiguration, match="unset SX9_KAFKA_BOOTSTRAP"):
        demo_settings(tmp_path)
