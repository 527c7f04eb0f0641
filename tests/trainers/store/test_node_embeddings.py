"""Node embeddings in Neo4j: queries use the version that serves, older ones are dropped, writes are idempotent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from neo4j import Driver, GraphDatabase
from safetensors.numpy import save_file

from schemas.codec import decode
from schemas.errors import BadConfiguration, RetryLater
from schemas.policy import GateLimits
from schemas.recipes.base import recipe_values
from schemas.topics import JOURNAL, VERSIONS
from schemas.versions import VersionEvent
from streams.local.services import Endpoints
from streams.settings import Settings
from tests.trainers.journals import CONFIGS, graph
from tests.trainers.samples import MemoryLog, MemoryProducer, trigger
from trainers import telemetry
from trainers.core import gate
from trainers.core.progress import no_progress
from trainers.runs import embeddings as embeddings_writer
from trainers.runs.embeddings import EmbeddingsWriter
from trainers.runs.execute_run import execute
from trainers.runs.trigger_handler import TriggerHandler
from trainers.settings import load_trainer_settings
from trainers.store.journal_copy import JournalCopy
from trainers.store.node_embeddings import property_of, similar, write_embeddings
from trainers.store.registry import NODES as NODES_FILE
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog
from transport.neo4j import neo4j_driver

NODES = ["T1059", "T1059.001", "T1003", "group--1"]
VECTORS = [[1.0, 0.0, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.9, 0.3]]


@pytest.fixture
def driver(service_settings: Settings, neo4j_endpoint: Endpoints) -> Iterator[Driver]:
    if service_settings.neo4j_uri:
        pytest.skip("deletes everything: not in a configured Neo4j")
    with neo4j_driver(neo4j_endpoint.neo4j_uri) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n")
        yield driver


def indexes(driver: Driver) -> list[str]:
    found = driver.execute_query("SHOW VECTOR INDEXES YIELD name RETURN name").records
    return sorted(row["name"] for row in found)


def properties(driver: Driver) -> set[str]:
    found = driver.execute_query("MATCH (n:Entity) UNWIND keys(n) AS key RETURN DISTINCT key").records
    return {row["key"] for row in found if row["key"].startswith("gnn_threat_")}


@pytest.mark.services
def test_the_nearest_node_comes_first_and_the_node_itself_is_left_out(driver: Driver) -> None:
    driver.execute_query("CREATE (:Entity:Technique {id: 'T1059.001', name: 'PowerShell'})")
    write_embeddings(driver, "v0001", NODES, VECTORS)
    write_embeddings(driver, "v0001", NODES, VECTORS)
    rows = similar(driver, "T1059", 2)
    assert rows[0]["id"] == "T1059.001"
    assert (rows[0]["name"], rows[0]["kind"]) == ("PowerShell", "Technique")
    assert rows[0]["score"] > rows[1]["score"]
    assert len(driver.execute_query("MATCH (n:Entity) RETURN n").records) == len(NODES)


@pytest.mark.services
def test_a_later_version_replaces_the_older_one(driver: Driver) -> None:
    write_embeddings(driver, "v0001", NODES, VECTORS)
    turned = [vector[::-1] for vector in VECTORS]
    turned[2], turned[1] = turned[1], turned[2]
    write_embeddings(driver, "v0002", NODES, turned)
    assert indexes(driver) == ["gnn_threat_v0002"]
    assert properties(driver) == {"gnn_threat_v0002"}
    assert similar(driver, "T1059", 1)[0]["id"] == "T1003"


@pytest.mark.services
def test_the_error_names_what_is_missing(driver: Driver) -> None:
    with pytest.raises(BadConfiguration, match="no embeddings yet"):
        similar(driver, "T1059")
    write_embeddings(driver, "v0001", NODES, VECTORS)
    with pytest.raises(BadConfiguration, match="'T9999' has no embedding in gnn_threat_v0001"):
        similar(driver, "T9999")
    with pytest.raises(BadConfiguration, match="2 nodes and 1 vectors"):
        write_embeddings(driver, "v0001", ["a", "b"], [[1.0]])


def test_a_neo4j_that_does_not_answer_can_be_tried_again_later() -> None:
    with (
        GraphDatabase.driver("bolt://127.0.0.1:1", max_transaction_retry_time=0) as driver,
        pytest.raises(RetryLater, match="sx9 status"),
    ):
        similar(driver, "T1059")


def test_a_version_that_cannot_be_a_name_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="cannot be part of the name of an index"):
        property_of("v1` DETACH DELETE n //")


@pytest.mark.services
def test_queries_use_a_promoted_version_and_not_a_refused_one(
    driver: Driver, neo4j_endpoint: Endpoints, models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, journal = "gnn-threat", graph(240)
    settings = load_trainer_settings(output_dir=tmp_path, state_dir=tmp_path, cache_dir=models_cache)
    before = indexes(driver)  # of other tests
    for gain, answered in ((2.0, "refused"), (-1.0, "promoted")):
        monkeypatch.setattr(gate, "FIRST_GAIN", gain)
        logs = {JOURNAL.name: MemoryLog(journal), VERSIONS.name: MemoryLog([])}
        copy = JournalCopy(tmp_path / answered / "journal.sqlite", logs[JOURNAL.name])
        registry, version_log = Registry(tmp_path / answered), VersionLog(logs[VERSIONS.name])
        producer: Any = MemoryProducer(logs)
        embeddings = EmbeddingsWriter(model, settings, registry, lambda: neo4j_endpoint.neo4j_uri)
        handler = TriggerHandler(model, settings, {}, registry, copy, version_log, producer, embeddings, execute)
        asked = msgspec.structs.replace(
            trigger(journal, 0, len(journal)),
            model=model, recipe=recipe_values(CONFIGS[model]), gate=GateLimits(min_examples=5),
        )  # fmt: skip
        handler.handle(asked, no_progress)
        copy.close()
        assert decode(logs[VERSIONS.name].messages[-1].value, VersionEvent).outcome == answered
        assert indexes(driver) == (["gnn_threat_v0001"] if answered == "promoted" else before)
    rows = similar(driver, "T1000", 3)
    assert len(rows) == 3
    assert "T1000" not in {row["id"] for row in rows}


@pytest.mark.services
def test_a_neo4j_that_is_away_at_first_gets_the_embeddings_later(
    driver: Driver, neo4j_endpoint: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings_writer, "RETRY_S", 0.0)
    registry = Registry(tmp_path)
    folder = registry.folder("gnn-threat", "v0001")
    folder.mkdir(parents=True)
    (folder / NODES_FILE).write_bytes(msgspec.json.encode([{"id": node} for node in NODES]))
    save_file({"embeddings": np.array(VECTORS, dtype=np.float32)}, folder / "embeddings.safetensors")
    addresses = iter(["", "bolt://127.0.0.1:1", neo4j_endpoint.neo4j_uri])
    writer = EmbeddingsWriter("gnn-threat", load_trainer_settings(), registry, lambda: next(addresses))
    pending = telemetry.EMBEDDINGS_PENDING.labels(model="gnn-threat")
    registry.promote("gnn-threat", "v0001")
    writer.write_champion()  # no Neo4j
    assert pending._value.get() == 1
    writer.retry()  # one that does not answer
    assert pending._value.get() == 1
    writer.retry()
    assert pending._value.get() == 0
    writer.retry()  # asks no more
    assert [row["id"] for row in similar(driver, "T1059", 1)]
