"""The server: answers with their version, limits, keys, pins, and swaps under load."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.errors import BadConfiguration
from serving.context import Serving
from serving.server import build
from serving.settings import ServeSettings, load_serve_settings
from tests.serving.http import WAIT_S, listening
from tests.serving.versions import DISTILBERT, TACTICS, make
from trainers.store.registry import Registry

REPORT = "They sent phishing mail. The macro started a script.\n\nFiles were encrypted, e.g. backups. A note came."
SAID = {version: {tactic: 0.9} for version, tactic in zip(("v0001", "v0002", "v0003"), TACTICS, strict=False)}


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory: pytest.TempPathFactory, serving_cache: Path) -> Path:
    """Three versions, each with a favourite tactic; the first is the champion."""
    folder = tmp_path_factory.mktemp("output")
    registry = Registry(folder / "models")
    for version, said in SAID.items():
        make(registry, serving_cache, version, said)
    registry.promote(DISTILBERT, "v0001")
    return folder


def settings(output_dir: Path, **more: Any) -> ServeSettings:
    fields = {"output_dir": output_dir, "state_dir": output_dir / ".sx9", "models": DISTILBERT, "follow_s": 0.01}
    return ServeSettings(**fields | more)


@contextmanager
def running(chosen: ServeSettings) -> Iterator[tuple[httpx.Client, Serving]]:
    serving = build(chosen)
    with listening(serving) as client:
        yield client, serving


def described(client: httpx.Client) -> dict[str, Any]:
    return client.get("/v1/models").json()["models"][0]


def serves(client: httpx.Client) -> str:
    return str(described(client)["version"])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server(output_dir: Path) -> Iterator[tuple[httpx.Client, Serving]]:
    with running(settings(output_dir, max_texts=8, max_text_chars=5_000, max_parts=500)) as found:
        yield found


def test_a_report_is_answered_with_its_sentences_their_places_and_the_version(
    server: tuple[httpx.Client, Serving],
) -> None:
    client, serving = server
    answer = client.post("/v1/classify", json={"texts": [REPORT, ""]}).json()
    assert (answer["model"], answer["version"], answer["precision"]) == (DISTILBERT, "v0001", "float32")
    assert answer["latency_ms"].keys() == {"prepare", "queue", "model", "total"}
    report, empty = answer["answers"]
    assert [REPORT[s["start"] : s["end"]] for s in report["sentences"]] == [
        "They sent phishing mail.", "The macro started a script.", "Files were encrypted, e.g. backups.",
        "A note came.",
    ]  # fmt: skip
    bare = serving.served.get(DISTILBERT).predict(["A note came."])[0]
    last = report["sentences"][-1]
    assert last["probabilities"] == pytest.approx(bare.tactics, abs=1e-3)
    assert tuple(last["tactics"]) == bare.predicted_tactics == (TACTICS[0],)
    assert f"severity:{last['severity']}" == bare.severity
    assert empty["sentences"] == []
    models = client.get("/v1/models").json()["models"][0]
    assert (models["version"], [one["version"] for one in models["versions"]]) == ("v0001", list(SAID))
    assert client.get("/readyz").status_code == client.get("/healthz").status_code == 200
    health = client.get("/v1/health").json()
    assert health["models_loaded"] == [f"{DISTILBERT}@v0001"]
    assert 'sx9_serving_version_info{model="distilbert-mitre",version="v0001"} 1.0' in client.get("/metrics").text


def test_a_request_may_pin_a_version(server: tuple[httpx.Client, Serving]) -> None:
    client, _ = server
    for version, said in SAID.items():
        answer = client.post("/v1/classify", json={"texts": ["x"], "version": version}).json()
        assert answer["version"] == version
        assert answer["answers"][0]["tactics"] == [*said]
    for unknown in ("v0009", "../v0001", "champion"):
        refused = client.post("/v1/classify", json={"texts": ["x"], "version": unknown})
        assert refused.status_code == 404
        assert "there are: v0001, v0002, v0003" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"texts": ["x"] * 9}, 413, "9 texts; the limit is 8 (SX9_SERVE_MAX_TEXTS)"),
        ({"texts": ["x" * 5_001]}, 413, "5001 characters; the limit is 5000"),
        ({"texts": ["Ab. " * 501]}, 413, "the limit is 500 (SX9_SERVE_MAX_PARTS)"),
        ({"texts": []}, 422, "body.texts"),
        ({"texts": ["x"], "versoin": "v0001"}, 422, "body.versoin"),
        ({"texts": [3]}, 422, "body.texts.0"),
    ],
)
def test_what_is_over_a_limit_is_named_with_the_limit(
    server: tuple[httpx.Client, Serving], body: Any, status: int, detail: str
) -> None:
    answer = server[0].post("/v1/classify", json=body)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize("content", [b'{"texts": ["\\ud800"]}', b"\xff\xfe", b"[" * 50_000, b"null", b""])
def test_a_strange_body_is_an_error_of_the_client(server: tuple[httpx.Client, Serving], content: bytes) -> None:
    answer = server[0].post("/v1/classify", content=content, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["detail"]


def test_a_body_that_is_too_long_is_refused_told_or_not(output_dir: Path) -> None:
    with running(settings(output_dir, max_body_bytes=2_000)) as (client, _):
        whole = b'{"texts": ["' + b"x" * 3_000 + b'"]}'
        told = client.post("/v1/classify", content=whole)
        chunks = client.post("/v1/classify", content=iter([whole[:1500], whole[1500:]]))
        for answer in (told, chunks):
            assert answer.status_code == 413
            assert "the limit is 2000 (SX9_SERVE_MAX_BODY_BYTES)" in answer.json()["detail"]
        parts = iter([b'{"texts":', b' ["x"]}'])
        small = client.post("/v1/classify", content=parts, headers={"content-type": "application/json"})
        assert small.status_code == 200, small.text


def test_other_machines_need_a_key(output_dir: Path, tmp_path: Path) -> None:
    chosen = settings(output_dir, host="0.0.0.0", state_dir=tmp_path)
    with pytest.raises(BadConfiguration, match=r"there is no key.*sx9 keys add"):
        build(chosen)
    from serving.keys import Keys

    keys = Keys(chosen.keys_file)
    read, admin = keys.add("page", "read", 1), keys.add("boss", "admin", 2)
    with running(chosen) as (client, _):

        def ask(key: str, path: str = "/v1/models") -> int:
            return client.get(path, headers={"Authorization": f"Bearer {key}"} if key else {}).status_code

        assert [ask(""), ask("sx9_page.x"), ask(read), ask(admin)] == [401, 401, 200, 200]
        assert [ask("", "/metrics"), ask("", "/healthz"), ask("", "/readyz")] == [401, 200, 200]
        assert [ask("", "/v1/admin/x"), ask(read, "/v1/admin/x"), ask(admin, "/v1/admin/x")] == [401, 403, 404]
        assert client.get("/v1/models", headers={"X-API-Key": read}).status_code == 200
        keys.revoke("page")
        assert ask(read) == 401


def test_on_loopback_no_web_page_reaches_it_by_a_name_of_its_own(server: tuple[httpx.Client, Serving]) -> None:
    client, _ = server
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400
    other = client.get("/v1/models", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_swaps_under_load_give_no_failed_and_no_mixed_answer(output_dir: Path) -> None:
    registry = Registry(output_dir / "models")
    body = {"texts": ["one two three.", REPORT, "x"] * 3}
    stop, swaps = threading.Event(), 30

    def client_loop(client: httpx.Client) -> list[str]:
        seen = []
        while not stop.is_set():
            answered = client.post("/v1/classify", json=body)
            assert answered.status_code == 200, answered.text
            answer = answered.json()
            said = {tuple(one["tactics"]) for text in answer["answers"] for one in (text, *text["sentences"])}
            assert said == {tuple(SAID[answer["version"]])}, answer["version"]
            seen.append(answer["version"])
        return seen

    with running(settings(output_dir)) as (client, _), ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(client_loop, client) for _ in range(4)]
        try:
            for version in itertools.islice(itertools.cycle(SAID), swaps):
                registry.promote(DISTILBERT, version)
                wait_for(lambda wanted=version: serves(client) == wanted)
        finally:
            stop.set()
        seen = [version for loop in loops for version in loop.result()]
    assert len(set(seen)) > 1
    registry.promote(DISTILBERT, "v0001")


def test_a_version_that_does_not_load_or_fails_its_self_test_leaves_the_old_one_serving(
    tmp_path: Path, serving_cache: Path
) -> None:
    registry = Registry(tmp_path / "models")
    make(registry, serving_cache, "v0001", {"impact": 0.9})
    damaged = make(registry, serving_cache, "v0002")
    silent = make(registry, serving_cache, "v0003", {"impact": float("nan")})
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    registry.promote(DISTILBERT, "v0001")
    with running(settings(tmp_path)) as (client, _):
        for version, reason in ((damaged.name, "sha256"), (silent.name, "self-test")):
            registry.promote(DISTILBERT, version)
            wait_for(lambda failed=version: (described(client)["failed"] or {}).get("version") == failed)
            assert described(client)["version"] == "v0001"
            assert reason in described(client)["failed"]["reason"]
            assert client.get("/v1/health").json()["status"] == "degraded"
            assert client.post("/v1/classify", json={"texts": ["x"]}).json()["version"] == "v0001"
        registry.promote(DISTILBERT, "v0001")
        wait_for(lambda: described(client)["failed"] is None)


def test_a_server_in_int8_says_so_and_one_whose_processor_has_none_says_what_to_do(
    output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    Registry(output_dir / "models").promote(DISTILBERT, "v0001")
    with running(settings(output_dir, precision="int8")) as (client, serving):
        for version in (None, "v0002"):
            answer = client.post("/v1/classify", json={"texts": ["x"], "version": version}).json()
            assert (answer["version"], answer["precision"]) == (version or "v0001", "int8")
            assert answer["answers"][0]["tactics"] == [*SAID[answer["version"]]]
        assert described(client)["precision"] == "int8"
        assert serving.served.get(DISTILBERT).precision == "int8"

    def none(*_: Any) -> None:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr(torch.ops.onednn, "qlinear_prepack", none)
    with running(settings(output_dir, precision="int8")) as (client, _):
        wait_for(lambda: described(client)["failed"] is not None)
        refused = client.post("/v1/classify", json={"texts": ["x"]})
        assert refused.status_code == 503
        assert "use the precision float32" in refused.json()["detail"]


def test_an_unknown_precision_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_SERVE_PRECISION", "int4")
    with pytest.raises(BadConfiguration, match=r"SX9_SERVE_PRECISION='int4': .*'float32' or 'int8'"):
        load_serve_settings()
    assert load_serve_settings(precision="int8").precision == "int8"


def test_in_shadow_mode_the_candidate_answers_unseen_and_its_agreement_is_counted(output_dir: Path) -> None:
    Registry(output_dir / "models").promote(DISTILBERT, "v0001")

    def counted(client: httpx.Client, agreed: str) -> float:
        name = f'sx9_serving_shadow_answers_total{{agreed="{agreed}",model="{DISTILBERT}"}}'
        lines = (line for line in client.get("/metrics").text.splitlines() if line.startswith(name))
        return float(next(lines, "x 0").rpartition(" ")[2])

    with running(settings(output_dir, shadow=True)) as (client, _):
        answer = client.post("/v1/classify", json={"texts": ["one", "two"], "sentences": False}).json()
        assert answer["version"] == "v0001"
        wait_for(lambda: counted(client, "no") == 2)
        assert counted(client, "yes") == 0
