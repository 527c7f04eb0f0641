"""Secrets are in no help, no message, no log, no representation and no process list."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from streams.settings import load_settings
from sx9_ml_models.acls import ROLES, all_acls
from sx9_ml_models.cli.app import COMMANDS, app
from sx9_ml_models.logs import RecordWithoutSecrets
from transport.logins import kafka_login, use_kafka_login
from transport.secrets import without_secrets

SECRETS = {
    "SX9_NEO4J_PASSWORD": "graph-Pa55word",
    "SX9_KAFKA_PASSWORD": "kafka-Pa55word",
    "SX9_FEED_KEYS": "otx=otx-Pa55word taxii-mine=me:taxii-Pa55word",
}


@pytest.fixture
def with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_shows_a_secret(command: str, with_secrets: None) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert "Usage" in result.output
    assert "Pa55word" not in result.output


def test_settings_and_logins_are_shown_without_secrets(with_secrets: None) -> None:
    settings = load_settings(
        kafka_bootstrap="broker:9092", kafka_security_protocol="SASL_PLAINTEXT", kafka_user="me"
    )
    use_kafka_login("broker:9092", settings.kafka_login)
    shown = f"{settings!r} {settings.model_dump_json()} {settings.kafka_login!r} {kafka_login('broker:9092')!r}"
    assert "Pa55word" not in shown


def test_secrets_that_are_in_no_variable_of_their_own_are_masked_wherever_they_turn_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_settings(kafka_password="from-a-file", feed_keys="otx=key-of-a-file taxii-mine=me:word-of-a-file")
    text = "from-a-file, key-of-a-file, me:word-of-a-file, word-of-a-file"
    assert without_secrets(text, {}) == "***, ***, ***, ***"


def test_no_log_line_has_a_secret(with_secrets: None) -> None:
    load_settings()
    said = tuple(SECRETS.values())[:2]
    record = RecordWithoutSecrets("x", logging.INFO, "x", 1, "said %s and %s", said, None)
    assert logging.Formatter().format(record) == "said *** and ***"


def test_a_wrong_setting_is_said_without_the_secrets(with_secrets: None) -> None:
    """In the output of a real process, whose command line has none either."""
    command = [sys.executable, "-m", "sx9_ml_models", "status"]
    env = os.environ | SECRETS | {"SX9_KAFKA_PORT": "no port", "SX9_KAFKA_TOKEN_URL": "http://me:url-Pa55word@x"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "SX9_KAFKA_PORT" in ran.stderr
    assert "Pa55word" not in ran.stdout + ran.stderr


def test_acls_prints_a_line_for_every_operation_of_every_role() -> None:
    result = CliRunner().invoke(app, ["acls", "--json"])
    rows = json.loads(result.output)
    assert len(rows) == len(all_acls())
    assert {row["principal"] for row in rows} == {f"User:sx9-{role}" for role in ROLES}


@pytest.mark.parametrize(
    ("role", "topic"),
    [("fetch", "retrain.journal.v1"), ("graph", "retrain.journal.v1"), ("train", "threat.techniques.v1")],
)
def test_no_role_may_write_what_is_not_its_own(role: str, topic: str) -> None:
    allowed = {(each.principal, each.name) for each in all_acls() if each.operation == "Write"}
    assert (f"User:sx9-{role}", topic) not in allowed
    assert allowed
