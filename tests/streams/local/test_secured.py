"""A real Kafka with SASL_SSL and a real Neo4j with TLS: our clients are let in, others are refused and told why."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import aiokafka
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from schemas.codec import decode
from schemas.errors import BadConfiguration, RetryLater, Sx9Error
from schemas.journal import LineageChange, Record, Refused, Tick
from schemas.models import MODELS
from schemas.topics import JOURNAL, TOPICS, TRIGGERS, VERSIONS, partition_of
from schemas.versions import VersionEvent
from serving.settings import ServeSettings
from streams.app.wiring import ROLES, TOPICS_OF, faust_app
from streams.fetchers.base.runner import fetch
from streams.local import process
from streams.local.kafka import LocalKafka
from streams.local.machine import LOOPBACK, free_port
from streams.local.neo4j import LocalNeo4j
from streams.local.services import Endpoints, environment_of, services
from streams.local.state import Folders
from streams.settings import Settings, load_settings
from sx9_ml_models.acls import ROLES as USERS
from sx9_ml_models.acls import all_acls
from sx9_ml_models.archiving import archive_topics
from sx9_ml_models.classify_topic import Output, TopicClassifier
from sx9_ml_models.retrain import request_retrain
from sx9_ml_models.serving import server
from tests.flow.roles import Role, role, until
from tests.serving.http import listening
from tests.serving.versions import DISTILBERT, make
from tests.streams.fetchers.feeds.samples import SAMPLES, put
from trainers.store.registry import Registry
from transport.admin import admin_client
from transport.kafka import RecordProducer, consumer, end_offset, producer, read_range
from transport.logins import KafkaLogin, use_kafka_login, use_neo4j_ca
from transport.neo4j import neo4j_driver
from transport.topics import create_topics, partitions_of

USER, PASSWORD = "sx9", "a-Pa55word-of-the-test"
_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")
JAAS = "org.apache.kafka.common.security"
LISTENER = "listener.name.clients"
CLASSIFIED = {"classify_from": "my.texts", "classify_to": "my.answers"}


class Certificates:
    """An authority of this test's own, and files of a certificate for this machine."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", LOOPBACK)
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        self.folder = folder
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        (folder / "private.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        (folder / "public.crt").write_bytes(chain)
        self.both = folder / "both.pem"
        self.both.write_bytes((folder / "private.key").read_bytes() + chain)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Certificates(tmp_path_factory.mktemp("others")).ca


@contextlib.contextmanager
def started(service: Any, root: Path, cache: Path) -> Iterator[process.Started]:
    one = process.start(service, Folders(root, cache), None, 120.0, None, threading.Event())
    try:
        yield one
    finally:
        process.stop([one])


@pytest.fixture(scope="module")
def kafka_address(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[str]:
    """A Kafka that asks for SASL over TLS: SCRAM with one user, or a token."""
    root, port = tmp_path_factory.mktemp("kafka"), free_port(set())
    address = f"{LOOPBACK}:{port}"
    more = {
        "listeners": "CLIENTS://{broker},CONTROLLER://{controller}",
        "advertised.listeners": "CLIENTS://{broker}",
        "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        f"{LISTENER}.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        f"{LISTENER}.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required "
        f'username="{USER}" password="{PASSWORD}";',
        f"{LISTENER}.oauthbearer.sasl.jaas.config": f"{JAAS}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{USER};User:ANONYMOUS",  # the second: the controller, over the loopback interface
    }
    scram = tuple(
        f"SCRAM-SHA-512=[name={user},password={PASSWORD}]" for user in (USER, *(f"sx9-{name}" for name in USERS))
    )
    use_kafka_login(address, KafkaLogin("SASL_SSL", "SCRAM-SHA-512", USER, PASSWORD, certificates.ca))
    service = LocalKafka(root / "kafka", port, 256, more=more, scram=scram, has_password=False)
    with started(service, root, load_settings().cache_dir):
        yield address


def settings_for(address: str, ca: Path, state: Path, **more: Any) -> Settings:
    """Settings of a user whose Kafka is at an address."""
    login = {"kafka_security_protocol": "SASL_SSL", "kafka_user": USER, "kafka_password": PASSWORD}
    return load_settings(**{"kafka_bootstrap": address, "kafka_ca_file": ca, "state_dir": state} | login | more)


def write(writer: RecordProducer) -> None:
    """Write a record to a journal."""
    writer.send(JOURNAL.name, Tick(int(time.time() * 1000)), key="gnn-threat", partition=2)
    writer.flush()


def written_and_read(bootstrap: str) -> int:
    """Records that come back after one was sent, by the clients that every process uses."""
    create_topics(bootstrap)
    with contextlib.closing(producer(bootstrap)) as client:
        write(RecordProducer(client))
    with contextlib.closing(consumer(bootstrap)) as reader, contextlib.closing(admin_client(bootstrap)) as admin:
        assert JOURNAL.name in admin.list_topics()
        return sum(len(messages) for messages in read_range(reader, JOURNAL.name, 2, 0))


async def seen_by_faust(settings: Settings, bootstrap: str) -> set[str]:
    """The topics that aiokafka sees with what a role gives to Faust."""
    app = faust_app("journal", settings, bootstrap)
    client = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap, **credentials_to_aiokafka_auth(app.conf.broker_credentials)
    )
    await client.start()
    try:
        return set(await client.topics())
    finally:
        await client.stop()


def test_every_client_is_let_in_over_tls_with_scram(
    kafka_address: str, certificates: Certificates, tmp_path: Path
) -> None:
    settings = settings_for(kafka_address, certificates.ca, tmp_path)
    with services(settings, neo4j=False) as endpoints:
        assert written_and_read(endpoints.kafka_bootstrap) >= 1
        assert JOURNAL.name in asyncio.run(seen_by_faust(settings, endpoints.kafka_bootstrap))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kafka_password": "wrong-Pa55word"}, "refuses the user 'sx9' with SCRAM-SHA-512"),
        ({"kafka_user": "nobody"}, "refuses the user 'nobody'"),
        ({"kafka_sasl_mechanism": "PLAIN"}, "refuses the user 'sx9' with PLAIN"),
        ({"kafka_ca_file": None}, r"certificate of the Kafka at .* is not trusted .*SX9_KAFKA_CA_FILE"),
        ({"kafka_security_protocol": "PLAINTEXT"}, "no Kafka answers .*SX9_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"kafka_user": ""}, "needs a user: set SX9_KAFKA_USER"),
        ({"kafka_ca_file": Path("missing.pem")}, r"SX9_KAFKA_CA_FILE=missing\.pem can't be used"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason_and_without_the_password(
    kafka_address: str, certificates: Certificates, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    settings = settings_for(kafka_address, certificates.ca, tmp_path, **wrong)
    with pytest.raises((BadConfiguration, RetryLater), match=message) as raised, services(settings, neo4j=False):
        pass
    assert "Pa55word" not in f"{raised.value} {raised.value.__cause__}"


def test_a_certificate_of_another_authority_is_refused(kafka_address: str, other_ca: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(BadConfiguration, match="is not trusted"),
        services(settings_for(kafka_address, other_ca, tmp_path), neo4j=False),
    ):
        pass


@pytest.fixture
def bootstrap_of_roles(kafka_address: str, certificates: Certificates) -> str:
    """An address at which each role has the ACLs of its table, and at which there are no topics."""
    use_kafka_login(kafka_address, KafkaLogin("SASL_SSL", "SCRAM-SHA-512", USER, PASSWORD, certificates.ca))
    with contextlib.closing(admin_client(kafka_address)) as admin:
        admin.create_acls([
            ACL(
                each.principal,
                "*",
                ACLOperation[_SNAKE.sub("_", each.operation).upper()],
                ACLPermissionType.ALLOW,
                ResourcePattern(
                    ResourceType[each.resource.upper()], each.name, ACLResourcePatternType[each.pattern.upper()]
                ),
            )
            for each in all_acls(*CLASSIFIED.values())
        ])  # fmt: skip
        names = {topic.name for topic in TOPICS}
        if there := names & set(admin.list_topics()):
            admin.delete_topics(list(there))
            until(lambda: not names & set(admin.list_topics()), "topics gone")
    return f"localhost:{kafka_address.rpartition(':')[2]}"


def test_each_process_does_its_work_with_the_acls_of_its_table_and_nothing_else(
    kafka_address: str, bootstrap_of_roles: str, certificates: Certificates, neo4j: Endpoints, tmp_path: Path
) -> None:
    """From a fetch to the answer of a trainer, each as a user of its own."""
    address, model, source = bootstrap_of_roles, MODELS[0], tmp_path / "attack"
    put(source, SAMPLES["attack-enterprise"].files)

    def log_in(name: str) -> None:
        use_kafka_login(address, KafkaLogin("SASL_SSL", "SCRAM-SHA-512", f"sx9-{name}", PASSWORD, certificates.ca))

    log_in("set-up")
    create_topics(address)
    with contextlib.ExitStack() as stack:
        endpoints = Endpoints(kafka_address, neo4j.neo4j_uri, neo4j.neo4j_user, neo4j.neo4j_password)
        ca = str(certificates.ca)
        roles = [
            stack.enter_context(role(name, endpoints, tmp_path / name, kafka_user=f"sx9-{name}", kafka_ca_file=ca))
            for name in ROLES
        ]
        for one in roles:
            one.live()
        fetching = settings_for(address, certificates.ca, tmp_path, kafka_user="sx9-fetch")
        with services(fetching, neo4j=False):
            assert fetch("attack-enterprise", str(source), fetching, address).published == 5
            with (
                contextlib.closing(producer(address)) as client,
                pytest.raises(Sx9Error, match="TopicAuthorization"),
            ):
                write(RecordProducer(client))
        log_in("read")
        reader = stack.enter_context(contextlib.closing(consumer(address)))

        def is_done(one: Role) -> bool:
            """Whether a role has processed all messages of its topics, by its metrics."""
            ends = [end_offset(reader, *each) for each in partitions_of(reader, TOPICS_OF[one.name])]
            metrics = one.metrics()
            return (metrics["sx9_messages_processed_total"], metrics.get("sx9_consumer_lag_messages")) == (
                sum(ends),
                0,
            )

        for one in roles:  # in this order: the journal role writes what the fold role reads
            one.until(lambda one=one: is_done(one), "all messages, and no lag")
        log_in("operate")
        request_retrain(address, model, "a-request", "to see it")
        roles[-1].until(lambda: end_offset(reader, TRIGGERS.name, partition_of(model)) == 1, "a trigger")
    _the_trainer_answers(address, model, kafka_address, certificates, tmp_path, log_in)
    log_in("archive")
    done = archive_topics(load_settings(archive_url=str(tmp_path / "archive"), state_dir=tmp_path / "a"), address)
    assert (done.faults, sum(each.records for each in done.archived) > 5) == ([], True)


def test_the_server_and_the_consumer_of_texts_do_their_work_with_the_acls_of_their_tables(
    kafka_address: str, bootstrap_of_roles: str, certificates: Certificates, tmp_path: Path
) -> None:
    """Feedback and a promotion through the server; then texts of a topic, by the version that was promoted."""
    address, folders = bootstrap_of_roles, {"output_dir": tmp_path / "output", "state_dir": tmp_path / "state"}
    registry = Registry(folders["output_dir"] / "models")
    for version in ("v0001", "v0002"):
        make(registry, tmp_path / "cache", version, {"impact": 0.9})
    registry.promote(DISTILBERT, "v0001")
    create_topics(kafka_address)
    with contextlib.closing(admin_client(kafka_address)) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1} for name in CLASSIFIED.values()})
        admin.wait_for_topics(list(CLASSIFIED.values()))
    with contextlib.closing(producer(kafka_address)) as writer:
        writer.send(CLASSIFIED["classify_from"], value=b"Files were encrypted.", key=b"k").get(30)
    chosen = ServeSettings(**folders, **CLASSIFIED, follow_s=0.05)
    own = {"kafka_user": "sx9-serve", "output_dir": folders["output_dir"]}
    serves = settings_for(address, certificates.ca, folders["state_dir"], **own)
    with server(serves, chosen) as serving, listening(serving) as client:
        said = {"text": "The macro ran.", "tactics": ["execution"], "by": "ada"}
        change = {"model": DISTILBERT, "version": "v0002", "why": "a test"}
        key = {"Authorization": f"Bearer {serving.keys.add('boss', 'admin', 1)}"}
        for path, body in {"/v1/feedback": said, "/v1/admin/promote": change}.items():
            answered = client.post(path, json=body, headers=key)
            assert answered.status_code in (200, 202), answered.text
        state = client.get("/v1/state", headers=key)
        assert state.status_code == 200, state.text
    use_kafka_login(address, KafkaLogin("SASL_SSL", "SCRAM-SHA-512", "sx9-classify", PASSWORD, certificates.ca))
    with contextlib.closing(TopicClassifier(address, chosen)) as classifier:
        until(lambda: classifier.step() == 1, "an answer")
        with contextlib.closing(producer(address)) as client, pytest.raises(Sx9Error, match="TopicAuthorization"):
            write(RecordProducer(client))
    with contextlib.closing(consumer(kafka_address)) as reader:
        ((answer,),) = read_range(reader, CLASSIFIED["classify_to"], 0, 0)
    assert decode(answer.value, Output).version == "v0002"


def _the_trainer_answers(
    address: str, model: str, kafka_address: str, certificates: Certificates, tmp_path: Path, log_in: Any
) -> None:
    """It refuses the trigger without a run, because a person put another lineage in place of it meanwhile."""
    log_in("operate")
    change = LineageChange(
        version="v1001", exclusions=(), end=0, numbered_from=1000, answers=(), by="me", why="a test", request="r",
        time_ms=0,
    )  # fmt: skip
    with contextlib.closing(producer(address)) as client:
        outbox = RecordProducer(client)
        outbox.send(JOURNAL.name, change, key=model, partition=partition_of(model))
        outbox.flush()
    log_in("read")
    command = [sys.executable, "-m", "sx9_ml_models", "run", "train", "--model", model]
    own = {"KAFKA_USER": "sx9-train", "KAFKA_CA_FILE": certificates.ca}
    own |= {"STATE_DIR": tmp_path / "train", "OUTPUT_DIR": tmp_path / "output"}
    env = os.environ | environment_of(kafka_address) | {f"SX9_{name}": str(value) for name, value in own.items()}
    with subprocess.Popen(command, env=env) as trainer, contextlib.closing(consumer(address)) as reader:
        try:
            until(lambda: trainer.poll() is not None or end_offset(reader, VERSIONS.name, 0) == 1, "an answer")
            assert trainer.poll() is None
            trainer.terminate()
            assert trainer.wait(timeout=60) == 0
        finally:
            trainer.kill()
        ((event,),) = read_range(reader, VERSIONS.name, 0, 0)
        answers = [each.value for each in next(read_range(reader, JOURNAL.name, partition_of(model), 0))]
    assert decode(event.value, VersionEvent).outcome == "refused"
    assert isinstance(decode(answers[-1], Record), Refused)


class TokenEndpoint(BaseHTTPRequestHandler):
    """Gives tokens that nobody signed, which this Kafka takes, to one client."""

    asked = 0

    def do_POST(self) -> None:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        TokenEndpoint.asked += 1
        if self.headers["Authorization"] != f"Basic {wanted}":
            self.send_error(401)
            return
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": USER, "iat": now, "exp": now + 600})
        token = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
        body = json.dumps({"access_token": f"{token}.", "expires_in": 600}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def token_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), TokenEndpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()


def test_every_client_is_let_in_with_a_token_and_a_wrong_secret_gets_none(
    kafka_address: str, certificates: Certificates, tmp_path: Path, token_url: str
) -> None:
    with_token = {"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_token_url": token_url}
    settings = settings_for(kafka_address, certificates.ca, tmp_path, **with_token)
    with services(settings, neo4j=False) as endpoints:
        assert written_and_read(endpoints.kafka_bootstrap) >= 1
        assert JOURNAL.name in asyncio.run(seen_by_faust(settings, endpoints.kafka_bootstrap))
    wrong = settings_for(kafka_address, certificates.ca, tmp_path, **with_token, kafka_password="wrong-Pa55word")
    with pytest.raises(RetryLater, match=r"gave no token .*401") as raised, services(wrong, neo4j=False):
        pass
    assert "Pa55word" not in str(raised.value)


def test_neo4j_is_reached_over_tls_and_a_certificate_of_another_authority_is_refused(
    certificates: Certificates, other_ca: Path, tmp_path: Path
) -> None:
    port = free_port(set())
    uri = f"bolt+s://{LOOPBACK}:{port}"
    more = {
        "server.bolt.tls_level": "OPTIONAL",  # so that the start can be waited for
        "dbms.ssl.policy.bolt.enabled": "true",
        "dbms.ssl.policy.bolt.base_directory": str(certificates.folder),
        "dbms.ssl.policy.bolt.private_key": "private.key",
        "dbms.ssl.policy.bolt.public_certificate": "public.crt",
        "dbms.ssl.policy.bolt.client_auth": "NONE",
    }
    with started(
        LocalNeo4j(tmp_path / "neo4j", port, 512, more=more, has_password=False),
        tmp_path,
        load_settings().cache_dir,
    ):
        mine = {"neo4j_uri": uri, "state_dir": tmp_path / "mine"}
        with services(load_settings(**mine, neo4j_ca_file=certificates.ca), kafka=False) as found:
            login = (found.neo4j_uri, found.neo4j_user, found.neo4j_password)
            with neo4j_driver(*login) as driver:
                assert driver.get_server_info().address is not None
                assert driver.execute_query("RETURN 1 AS one").records[0]["one"] == 1
        use_neo4j_ca(uri, other_ca)
        with (
            pytest.raises(BadConfiguration, match=r"certificate of the Neo4j at .* is not trusted.*SX9_NEO4J_CA"),
            services(load_settings(**mine, neo4j_ca_file=other_ca), kafka=False),
        ):
            pass
