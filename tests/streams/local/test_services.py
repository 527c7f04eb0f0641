"""The real Kafka and Neo4j: data survives, nothing is left behind, running services are found."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka.admin import NewTopic

from schemas.errors import BadConfiguration, RetryLater
from streams.local.jars import read_lock
from streams.local.kafka import LocalKafka
from streams.local.machine import free_port
from streams.local.neo4j import FIRST_START, LocalNeo4j
from streams.local.services import Endpoints, running, services, settings_of
from streams.settings import Settings, load_settings
from tests.streams.local.test_process import is_running, wait_gone
from transport.admin import admin_client
from transport.kafka import consumer, producer, read_range
from transport.neo4j import neo4j_driver

TOPIC = "test.survival"
ROOT = Path(__file__).parents[3]


def write(endpoints: Endpoints, number: int) -> None:
    """Write one record and one node; the first call creates the topic and the constraint."""
    if number == 0:
        admin = admin_client(endpoints.kafka_bootstrap)
        admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
        admin.close()
    with contextlib.closing(producer(endpoints.kafka_bootstrap)) as writer:
        writer.send(TOPIC, str(number).encode()).get(30)
    write_node(endpoints, number)


def write_node(endpoints: Endpoints, number: int) -> None:
    with neo4j_driver(endpoints.neo4j_uri) as driver:
        driver.execute_query("CREATE CONSTRAINT one IF NOT EXISTS FOR (n:Number) REQUIRE n.value IS UNIQUE")
        driver.execute_query("CREATE (:Number {value: $value})", value=number)


def records(endpoints: Endpoints) -> list[int]:
    with contextlib.closing(consumer(endpoints.kafka_bootstrap)) as reader:
        return [int(record.value) for part in read_range(reader, TOPIC, 0, 0) for record in part]


def nodes(endpoints: Endpoints) -> list[int]:
    with neo4j_driver(endpoints.neo4j_uri) as driver:
        rows = driver.execute_query("MATCH (n:Number) RETURN n.value AS value ORDER BY value").records
        return [row["value"] for row in rows]


def cluster_id(endpoints: Endpoints) -> str:
    admin = admin_client(endpoints.kafka_bootstrap)
    found = str(admin.describe_cluster()["cluster_id"])
    admin.close()
    return found


def process_ids(state: Path, *roles: str) -> list[int]:
    entries = [json.loads(path.read_text()) for path in (state / "run").glob("*.json")]
    return [entry[role] for entry in entries for role in roles]


LISTENERS = ((0, 1), (1, 2))
"""Index of the port of Kafka's broker and of its controller, each with its number in DescribeCluster."""


def answers_anyone(state: Path, index: int, kind: int) -> bool:
    """Whether a listener of Kafka describes its cluster (DescribeCluster, version 1) to who does not log in."""
    port = json.loads((state / "run/kafka.port").read_text())[index]
    request = bytes.fromhex(f"0000000e 003c 0001 00000007 ffff 00 00 {kind:02x} 00")
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(request)
        return connection.recv(8, socket.MSG_WAITALL)[4:] == request[8:12]


def addresses(endpoints: Endpoints) -> tuple[str, str]:
    return endpoints.kafka_bootstrap, endpoints.neo4j_uri


@pytest.mark.services
def test_data_survives_kill_9_of_the_owner_then_of_java_then_a_clean_stop(state_dir: Path) -> None:
    """It also survives the first start with a password: before, anyone on the machine is let in, then nobody."""
    settings = load_settings(state_dir=state_dir)
    command = [sys.executable, "-m", "tests.streams.local.owner", str(state_dir), "services-of-before"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        first = Endpoints(**json.loads(owner.stdout.readline()))
        assert running(settings) == first
        assert [answers_anyone(state_dir, *each) for each in LISTENERS] == [True, True]
        write(first, 0)
        identity = cluster_id(first)
        pids = process_ids(state_dir, "child", "watchdog")
        assert len(pids) == 4
        owner.kill()
    assert running(settings) is None
    wait_gone(*pids)

    with services(settings) as second:
        assert addresses(second) == addresses(first)  # the ports, too
        assert [answers_anyone(state_dir, *each) for each in LISTENERS] == [False, False]
        assert cluster_id(second) == identity
        write(second, 1)
        javas = process_ids(state_dir, "child")
        for java in javas:
            os.kill(java, signal.SIGKILL)
        wait_gone(*javas)
        assert running(settings) is None

    with services(settings) as third:
        write(third, 2)
        assert (records(third), nodes(third)) == ([0, 1, 2], [0, 1, 2])
        pids = process_ids(state_dir, "child", "watchdog")
    assert not any(is_running(pid) for pid in pids)
    assert running(settings) is None


@pytest.mark.services
def test_a_first_start_of_neo4j_that_was_cut_off_is_begun_again(state_dir: Path) -> None:
    """Killed at the wrong moment, it leaves a database without transaction logs, which Neo4j refuses for ever."""
    settings, home = load_settings(state_dir=state_dir), state_dir / "neo4j"
    with services(settings, kafka=False) as first:
        assert not (home / FIRST_START).exists()
        write_node(first, 0)
    shutil.rmtree(home / "data" / "transactions")
    (home / FIRST_START).touch()
    with services(settings, kafka=False) as second:
        assert nodes(second) == []


@pytest.mark.services
def test_a_second_start_finds_the_running_services_and_does_not_stop_them(
    service_settings: Settings, endpoints: Endpoints
) -> None:
    with services(service_settings) as found:
        assert found == endpoints
    assert running(service_settings) == endpoints


@pytest.mark.services
def test_finding_running_services_is_quick(service_settings: Settings, endpoints: Endpoints) -> None:
    began = time.monotonic()
    assert running(service_settings) == endpoints
    assert time.monotonic() - began < 0.5


@pytest.mark.services
def test_configured_services_are_used_and_nothing_is_started(state_dir: Path, endpoints: Endpoints) -> None:
    settings = load_settings(state_dir=state_dir, **settings_of(endpoints.kafka_bootstrap, endpoints.neo4j_uri))
    with services(settings) as found:
        assert found == endpoints
    assert running(settings) == endpoints
    assert not state_dir.exists()


@pytest.mark.services
def test_only_the_wanted_services_are_checked(service_settings: Settings, kafka_bootstrap: str) -> None:
    found = running(service_settings, neo4j=False)
    assert found is not None
    assert found.kafka_bootstrap == kafka_bootstrap


@pytest.mark.services
def test_vector_index_and_shortest_path_work(neo4j_endpoint: Endpoints) -> None:
    with neo4j_driver(neo4j_endpoint.neo4j_uri) as driver:
        driver.execute_query(
            "CREATE VECTOR INDEX v IF NOT EXISTS FOR (n:Vec) ON n.e "
            "OPTIONS {indexConfig: {`vector.dimensions`: 2, `vector.similarity_function`: 'cosine'}}"
        )
        driver.execute_query(
            "CREATE (:Vec {e: [1.0, 0.0]})-[:TO]->(:Vec {e: [0.0, 1.0]})-[:TO]->(:Vec {last: true})"
        )
        path = driver.execute_query(
            "MATCH p = shortestPath((:Vec {e: [1.0, 0.0]})-[*]->(:Vec {last: true})) RETURN length(p)"
        )
        driver.execute_query("DROP INDEX v")
        driver.execute_query("MATCH (n:Vec) DETACH DELETE n")
        assert [row[0] for row in path.records] == [2]


def test_a_configured_kafka_that_is_down_is_named(state_dir: Path) -> None:
    address = f"127.0.0.1:{free_port(set())}"
    settings = load_settings(state_dir=state_dir, kafka_bootstrap=address)
    message = f"no Kafka answers at SX9_KAFKA_BOOTSTRAP={address}.*unset it"
    with pytest.raises(RetryLater, match=message), services(settings, neo4j=False):
        pass
    assert running(settings, neo4j=False) is None


def test_a_configured_neo4j_that_is_down_is_named(state_dir: Path) -> None:
    uri = f"bolt://127.0.0.1:{free_port(set())}"
    settings = load_settings(state_dir=state_dir, neo4j_uri=uri)
    with (
        pytest.raises(RetryLater, match=f"no Neo4j answers at SX9_NEO4J_URI={uri}"),
        services(settings, kafka=False),
    ):
        pass


def test_a_neo4j_address_without_scheme_is_named(state_dir: Path) -> None:
    settings = load_settings(state_dir=state_dir, neo4j_uri="localhost:7687")
    message = "SX9_NEO4J_URI=localhost:7687 has none of the schemes"
    with pytest.raises(BadConfiguration, match=message), services(settings, kafka=False):
        pass


def test_too_little_memory_is_reported_before_anything_starts(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(state_dir=state_dir, kafka_heap_mb=10_000_000)
    with (
        pytest.raises(BadConfiguration, match=r"MB are needed .kafka 10000150 MB"),
        services(settings, neo4j=False),
    ):
        pass
    assert not state_dir.exists()


def test_status_needs_neither_torch_nor_faust_nor_a_client() -> None:
    heavy = ["torch", "faust", "kafka", "neo4j", "jgo", "requests"]
    code = f"import sys, streams.local.services; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n"


def test_the_versions_of_kafka_and_neo4j_are_the_same_everywhere(tmp_path: Path) -> None:
    kafka = {jar.artifact: jar.version for jar in read_lock(LocalKafka(tmp_path, 0, 256).lock)}["kafka_2.13"]
    neo4j = {jar.artifact: jar.version for jar in read_lock(LocalNeo4j(tmp_path, 0, 512).lock)}["neo4j"]
    compose = (ROOT / "docker-compose.yml").read_text()
    assert {f"apache/kafka:{kafka}", f"neo4j:{neo4j}"} <= set(re.findall(r"image: (\S+)", compose))
    for name, version in (("kafka", kafka), ("neo4j", neo4j)):
        assert f"<version>{version}</version>" in (ROOT / "deploy" / "local" / f"{name}.pom.xml").read_text()
