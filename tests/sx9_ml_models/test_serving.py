"""`sx9 serve` beside a real Kafka: every example of its routes, promotions from the log, feedback, events."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import strategies as st
from kafka.admin import NewTopic

from schemas.codec import decode
from schemas.events import Report
from schemas.models import MODELS
from schemas.topics import REPORTS, TECHNIQUES
from serving.context import Serving
from serving.keys import Keys
from serving.settings import ServeSettings
from streams.local.machine import free_port
from streams.local.services import running, services
from streams.settings import Settings, load_settings
from sx9_ml_models.classify_topic import Output, TopicClassifier
from sx9_ml_models.serving import server
from tests.serving.http import WAIT_S, listening
from tests.serving.techniques.test_techniques import technique
from tests.serving.versions import DISTILBERT, make, train
from trainers.store.registry import Registry
from transport.admin import admin_client
from transport.kafka import RecordProducer, consumer, producer, read_range
from transport.topics import create_topics, partitions_of


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A Kafka of these tests' own, since they promote versions; and a trained version of every model."""
    root = tmp_path_factory.mktemp("serve")
    chosen = load_settings(state_dir=root / "state", output_dir=root / "output", kafka_bootstrap=None)
    registry = Registry(chosen.output_dir / "models")
    for model in MODELS:
        train(registry, model, root / "cache")
    make(registry, root / "cache", "v0002", {"impact": 0.9})
    with services(chosen, neo4j=False) as endpoints:
        create_topics(endpoints.kafka_bootstrap)
        yield chosen


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[tuple[httpx.Client, Serving]]:
    serve_settings = ServeSettings(output_dir=settings.output_dir, state_dir=settings.state_dir, follow_s=0.05)
    with server(settings, serve_settings) as serving, listening(serving) as client:
        yield client, serving


def until(true: Callable[[], Any]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def requests_of(client: httpx.Client) -> dict[str, str]:
    """Path -> the name of the schema of its request, of all routes that take one."""
    found = {}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if content:
            found[path] = content["schema"]["$ref"].rpartition("/")[2]
    return found


def examples(client: httpx.Client) -> dict[str, Any]:
    """Path -> the examples of its request, of all routes that take one."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    return {path: schemas[name].get("examples") for path, name in requests_of(client).items()}


def test_every_route_answers_its_example_and_every_state_is_shown(served: tuple[httpx.Client, Serving]) -> None:
    client, _ = served
    found = examples(client)
    asked = {path: given[0] for path, given in found.items() if not path.startswith("/v1/admin/")}
    asked["/v1/similar"] = {"id": "T1000"}  # the graph of this test lacks that of the example
    assert all(found[path] for path in asked)
    for path, body in asked.items():
        answered = client.post(path, json=body)
        assert answered.status_code in (200, 202), (path, answered.text)
    for path in ("/v1/models", "/v1/health", "/v1/state", "/readyz", "/docs"):
        assert client.get(path).status_code == 200, path
    until(lambda: client.get("/v1/health").json()["status"] == "healthy")
    assert [one["model"] for one in client.get("/v1/state").json()["models"]] == [*MODELS]


def test_what_probably_comes_next_has_evidence_and_names_what_is_unknown(
    served: tuple[httpx.Client, Serving],
) -> None:
    client, _ = served
    answer = client.post("/v1/techniques/predict", json={"seen": ["T1000", "T1001", "T9999"], "k": 3}).json()
    assert (answer["model"], answer["version"]) == ("gnn-threat", "v0001")
    assert (answer["seen"], answer["unknown"]) == (["T1000", "T1001"], ["T9999"])
    assert len(answer["techniques"]) == 3
    assert not {"T1000", "T1001"} & {one["id"] for one in answer["techniques"]}
    actor = client.post("/v1/techniques/predict", json={"actor": "group 3"}).json()
    assert actor["seen"]
    assert client.post("/v1/techniques/predict", json={"actor": "nobody"}).status_code == 404
    nodes = client.post("/v1/similar", json={"id": "T1000", "k": 5}).json()["nodes"]
    assert [one["score"] for one in nodes] == sorted((one["score"] for one in nodes), reverse=True)
    assert len(nodes) == 5


def test_an_answer_comes_from_what_is_left_and_says_so(served: tuple[httpx.Client, Serving]) -> None:
    client, _ = served
    question = {"question": "How do I detect T1000?", "generate": True}
    answer = client.post("/v1/explain", json=question).json()
    assert "graph" in answer["away"], "no Neo4j runs"
    neighbours = client.get("/v1/neighbours", params={"of": "T1000"})
    assert (neighbours.status_code, "no Neo4j runs: start the system" in neighbours.text) == (503, True)
    with client.stream("POST", "/v1/explain", json={**question, "stream": True}) as stream:
        assert "event: end" in "".join(stream.iter_text())
    inferred = client.post("/v1/infer", json={"query": "How do I detect T1000?"}).json()
    assert inferred["metadata"]["thalamic_gate"] == "full_processing"
    assert inferred["metadata"]["pathway"] == "operational"
    assert inferred["metadata"]["missing"] == ["graph"]
    assert "T1000" in inferred["response"]


def test_a_promotion_by_an_admin_goes_through_the_log_swaps_and_is_an_event_and_a_rollback_the_same(
    served: tuple[httpx.Client, Serving],
) -> None:
    client, serving = served
    keys = Keys(serving.settings.keys_file)
    key = keys.add("boss", "admin", 1)
    client.headers["Authorization"] = f"Bearer {key}"
    try:
        with client.stream("GET", "/v1/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 2000"
            for action, version, before in (("promote", "v0002", ""), ("rollback", "v0001", "v0002")):
                change = {"model": DISTILBERT, "version": version, "why": "checked"}
                changed = client.post(f"/v1/admin/{action}", json=change)
                assert (changed.status_code, changed.json().get("before")) == (200, before), changed.text
                assert next(line for line in lines if line.startswith("event: ")) == "event: version"
                assert version in next(line for line in lines if line.startswith("data: "))
                deadline_s = time.monotonic() + WAIT_S
                body = {"texts": ["x"]}
                while client.post("/v1/classify", json=body).json()["version"] != version:
                    assert time.monotonic() < deadline_s
        refused = client.post("/v1/admin/promote", json={**change, "version": "v0009"})
        assert refused.status_code == 400
    finally:
        del client.headers["Authorization"]
        keys.revoke("boss")


def test_feedback_is_an_event_of_its_own_feed(served: tuple[httpx.Client, Serving], settings: Settings) -> None:
    client, serving = served
    current = serving.served.current(DISTILBERT)
    assert current is not None
    tactic = current.manifest.labels[0]
    body = {"text": "The macro ran.", "tactics": [tactic], "techniques": ["T1059.001"], "by": "ada"}
    said = client.post("/v1/feedback", json=body)
    assert said.status_code == 202, said.text
    wrong = client.post("/v1/feedback", json=body | {"tactics": ["no-such"]})
    assert wrong.status_code == 422
    assert "no-such" in wrong.json()["detail"]
    found = running(settings, neo4j=False)
    assert found is not None
    with contextlib.closing(consumer(found.kafka_bootstrap)) as reader:
        events = [
            decode(message.value, Report)
            for partition in partitions_of(reader, [REPORTS])
            for messages in read_range(reader, REPORTS.name, partition.partition, 0)
            for message in messages
        ]
    event = next(event for event in events if event.id == said.json()["id"])
    assert (event.feed, event.name, event.text) == ("feedback", "Feedback of ada", "The macro ran.")
    assert [(span.kind, span.id, span.tactics) for span in event.spans] == [
        ("tactic", "", (tactic,)), ("technique", "T1059.001", ()),
    ]  # fmt: skip


def test_the_texts_of_a_topic_are_answered_on_another_once_each(settings: Settings) -> None:
    found = running(settings, neo4j=False)
    assert found is not None
    names = {"classify_from": "my.texts", "classify_to": "my.answers"}
    chosen = ServeSettings(
        output_dir=settings.output_dir, state_dir=settings.state_dir, max_text_chars=100, **names
    )
    with contextlib.closing(admin_client(found.kafka_bootstrap)) as admin:
        admin.create_topics([NewTopic(name, 1, 1) for name in names.values()])
    values = [b'{"id": "a", "text": "Files were encrypted. A note came."}', b"plain text", b"\xff", b"x" * 101]
    with contextlib.closing(producer(found.kafka_bootstrap)) as writer:
        for value in values:
            writer.send("my.texts", value=value, key=b"k")
    for expected in (len(values), 0):  # the second one starts where the first one has committed
        with contextlib.closing(TopicClassifier(found.kafka_bootstrap, chosen)) as classifier:
            seen = 0
            for _ in range(20):
                seen += classifier.step()
                if seen >= len(values):
                    break
            assert seen == expected
    with contextlib.closing(consumer(found.kafka_bootstrap)) as reader:
        answers = [
            decode(message.value, Output)
            for messages in read_range(reader, "my.answers", 0, 0)
            for message in messages
        ]
    assert [(one.origin, one.id, one.version != "") for one in answers] == [
        ("my.texts/0/0", "a", True), ("my.texts/0/1", "", True), ("my.texts/0/2", "", False),
        ("my.texts/0/3", "", False),
    ]  # fmt: skip
    assert len(answers[0].sentences) == 2
    assert "not UTF-8" in answers[2].error
    assert "101 characters; the limit is 100" in answers[3].error


def test_techniques_of_what_came_into_the_topics_are_said_and_a_stated_severity_is_looked_up(
    served: tuple[httpx.Client, Serving], settings: Settings
) -> None:
    client, _ = served
    endpoints = running(settings, neo4j=False)
    assert endpoints is not None
    with contextlib.closing(producer(endpoints.kafka_bootstrap)) as writer:
        outbox = RecordProducer(writer)
        outbox.send(
            TECHNIQUES.name, technique("T1003", "OS Credential Dumping", "They dump credentials."), key="T1003"
        )
        outbox.flush()
    text = "They used T1003. The hole has CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H."

    def said() -> dict[str, Any]:
        (answer,) = client.post("/v1/classify", json={"texts": [text]}).json()["answers"]
        return dict(answer)

    # A stated technique is said at once, and has its name as soon as the server has read the topic.
    until(lambda: [found["name"] for found in said()["sentences"][0]["techniques"]] == ["OS Credential Dumping"])
    answer = said()
    (found,) = answer["sentences"][0]["techniques"]
    assert (found["id"], found["name"], found["by"]) == ("T1003", "OS Credential Dumping", "stated")
    assert (answer["severity"], answer["severity_by"]) == ("critical", "stated")


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
"""Any characters, halves of surrogate pairs too."""
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def test_no_body_like_an_example_but_for_any_of_its_values_fails_the_server(
    served: tuple[httpx.Client, Serving],
) -> None:
    client, serving = served
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    fields = {path: sorted(schemas[name]["properties"]) for path, name in requests_of(client).items()}
    bodies = {path: (given or [{}])[0] for path, given in examples(client).items()}
    headers = {
        "Authorization": f"Bearer {serving.keys.add('fuzz', 'admin', 1)}",
        "Content-Type": "application/json",
    }

    @hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @hypothesis.given(st.data())
    def answers(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(bodies)))
        changed = data.draw(st.dictionaries(st.sampled_from([*fields[path], "other"]), JSON, max_size=3))
        answered = client.post(path, content=json.dumps(bodies[path] | changed), headers=headers)
        assert answered.status_code != 500, answered.text

    try:
        answers()
    finally:
        serving.keys.revoke("fuzz")


def test_the_command_serves_in_the_precision_and_on_the_port_that_it_is_given(
    settings: Settings, tmp_path: Path
) -> None:
    port = free_port(set())
    command = [sys.executable, "-m", "sx9_ml_models", "serve", "--port", str(port), "--precision", "int8"]
    env = os.environ | {"SX9_OUTPUT_DIR": str(settings.output_dir), "SX9_STATE_DIR": str(tmp_path)}
    with (
        subprocess.Popen(command, env=env) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client,
    ):
        try:
            until(lambda: is_ready(client))
            answer = client.post("/v1/classify", json={"texts": ["It stops services."]}).json()
        finally:
            process.terminate()
    assert answer["precision"] == "int8"


def is_ready(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False


SCHEMATHESIS = Path(__file__).parents[2] / ".tools" / "schemathesis" / "bin" / "schemathesis"


@pytest.mark.skipif(not SCHEMATHESIS.is_file(), reason="schemathesis is not installed: make fuzz-api")
def test_schemathesis_finds_no_request_that_fails_the_server(
    served: tuple[httpx.Client, Serving], tmp_path: Path
) -> None:
    client, serving = served
    key = serving.keys.add("fuzz", "admin", 1)
    config = tmp_path / "schemathesis.toml"
    # No Neo4j runs here, so 503 is right for the graph.
    config.write_text('[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 503, 504]\n')
    command = [
        str(SCHEMATHESIS), "--config-file", str(config), "run", f"{client.base_url}/openapi.json",
        "--checks", "not_a_server_error", "--exclude-path", "/v1/events",
        "--header", f"Authorization: Bearer {key}", "--max-examples", os.environ.get("FUZZ_COUNT", "5"),
        "--seed", "17", "--request-timeout", "120",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    finally:
        serving.keys.revoke("fuzz")
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr
