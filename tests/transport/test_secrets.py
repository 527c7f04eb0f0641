"""Secrets of the environment, and of addresses, are not in what is written."""

from __future__ import annotations

import pytest

from transport.secrets import without_secrets

ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": "http://mirror:p%40ss/w0rd@mlflow:5000",
    "SX9_NEO4J_PASSWORD": "graph-'secret'",
    "HF_TOKEN": "hf_0123456789",
    "TOKENIZERS_PARALLELISM": "false",
    "SX9_TRAINER_PHI3_LORA_MAX_TOKENS": "4096",
    "PWD": "/work/folder",
    "FEED": "https://token-of-a-feed@host/repository.git",
    "PACKAGE": "https://host/package@1.0",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("not at http://mirror:p%40ss/w0rd@mlflow:5000 (refused)", "not at http://***@mlflow:5000 (refused)"),
        ("auth failed for 'p@ss/w0rd'", "auth failed for '***'"),
        ("Neo4j refuses graph-'secret'", "Neo4j refuses ***"),
        ("header Bearer hf_0123456789", "header Bearer ***"),
        ("no answer from token-of-a-feed", "no answer from ***"),
        ("https://host/package@1.0 in /work/folder", "https://host/package@1.0 in /work/folder"),
        ("false, 4096", "false, 4096"),
        ("never seen: bolt://me:other@db:7687?x=a@b", "never seen: bolt://***@db:7687?x=a@b"),
        ("git clone https://key@git.example/x", "git clone https://***@git.example/x"),
    ],
)  # fmt: skip
def test_secrets_are_masked_and_the_rest_is_kept(text: str, shown: str) -> None:
    assert without_secrets(text, ENVIRONMENT) == shown


def test_a_long_text_is_bounded() -> None:
    assert len(without_secrets("a://" * 1_000_000, {})) < 101_000
