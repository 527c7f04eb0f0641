"""A server that loads a model when somebody asks it: nothing before, what was promoted last then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from serving.server import build
from serving.settings import ServeSettings
from tests.serving.http import listening
from tests.serving.test_server import wait_for
from tests.serving.versions import DISTILBERT, make
from trainers.store.registry import Registry

FIELDS = {"models": DISTILBERT, "follow_s": 0.01, "load": "asked"}


def described(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/models").json()["models"][0]
    return found


def asked(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/classify", json={"texts": ["x"]})


def test_a_model_is_loaded_at_its_first_request_and_follows_promotions_from_then_on(
    tmp_path: Path, serving_cache: Path
) -> None:
    registry = Registry(tmp_path / "models")
    for version in ("v0001", "v0002", "v0003"):
        make(registry, serving_cache, version)
    registry.promote(DISTILBERT, "v0001")
    serving = build(ServeSettings(output_dir=tmp_path, state_dir=tmp_path / ".sx9", **FIELDS))
    with listening(serving) as client:
        registry.promote(DISTILBERT, "v0002")
        wait_for(lambda: described(client)["to_load"] == "v0002")
        assert client.get("/readyz").json()["serving"] == {DISTILBERT: "v0002"}
        health = client.get("/v1/health").json()
        assert (health["status"], health["models_loaded"], health["missing"]) == ("healthy", [], [])
        assert described(client)["version"] is None
        assert asked(client).json()["version"] == "v0002"
        assert (described(client)["version"], described(client)["to_load"]) == ("v0002", None)
        registry.promote(DISTILBERT, "v0003")
        wait_for(lambda: described(client)["version"] == "v0003")


def test_a_version_that_can_not_be_loaded_when_it_is_asked_says_why_and_the_next_one_serves(
    tmp_path: Path, serving_cache: Path
) -> None:
    registry = Registry(tmp_path / "models")
    damaged = make(registry, serving_cache, "v0001") / "model.safetensors"
    make(registry, serving_cache, "v0002")
    damaged.write_bytes(damaged.read_bytes()[:-8])
    registry.promote(DISTILBERT, "v0001")
    serving = build(ServeSettings(output_dir=tmp_path, state_dir=tmp_path / ".sx9", **FIELDS))
    with listening(serving) as client:
        assert asked(client).status_code == 503
        assert "sha256" in asked(client).json()["detail"]
        assert client.get("/readyz").status_code == 503
        registry.promote(DISTILBERT, "v0002")
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert asked(client).json()["version"] == "v0002"
