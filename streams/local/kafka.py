"""The local Kafka: one node in KRaft mode, broker and controller in one process."""

from __future__ import annotations

import base64
import logging
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import deploy.local
from schemas.errors import BadConfiguration, RetryLater
from streams.local.local_service import LocalService
from streams.local.machine import LOOPBACK
from streams.local.passwords import KAFKA_USER, make_password, read_password
from streams.local.probe import kafka_answers
from transport.files import write_private
from transport.logins import KafkaLogin, kafka_login, use_kafka_login

log = logging.getLogger(__name__)

OVERHEAD_MB = 150
"""Memory outside the heap, MB: 360 MB in total were measured with a heap of 256 MB."""
FORMAT_TIMEOUT_S = 120
TIMEOUT_MS = 5_000
LISTENERS = ("CLIENTS", "CONTROLLER")
LOG_CONFIGURATION = Path(deploy.local.__path__[0]) / "kafka.log4j2.xml"
OPTIONS = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


@dataclass(frozen=True)
class LocalKafka(LocalService):
    """Settings of a local Kafka; see `LocalService`.

    Args:
        scram: Users that it has from the beginning, as `StorageTool format --add-scram` takes them.
        cluster_id: Of the cluster that it is a node of, which `more` describes; empty: it is alone.
    """

    scram: Sequence[str] = field(default=(), repr=False, kw_only=True)
    cluster_id: str = field(default="", kw_only=True)
    name = "kafka"
    title = "Kafka"
    port_count = 2
    overhead_mb = OVERHEAD_MB

    def prepare(self, ports: Sequence[int], java: Sequence[str]) -> list[str]:
        """Write the configuration, and at the first start create the data folder.

        Args:
            ports: Ports of the broker and of the controller.
            java: The Java command with the class path, without a main class.

        Returns:
            The rest of the command line, after the class path.
        """
        data = self.home / "data"
        options = [*OPTIONS, f"-Dlog4j2.configurationFile={LOG_CONFIGURATION.as_uri()}"]
        if not data.exists():
            more = self.more if self.cluster_id else {}
            format_data(data, ports, [*java, *options], self.scram, more, self.cluster_id or new_cluster_id())
        configuration = self.home / "server.properties"
        password = make_password(self.home) if self.has_password else ""
        write_private(configuration, properties(data, ports, self.more, password))
        return [*options, "kafka.Kafka", str(configuration)]

    def is_ready(self, port: int) -> bool:
        """Whether the broker has registered and answers a client."""
        address = self.log_in(port)
        return kafka_answers(address) and broker_count(address) > 0

    def log_in(self, port: int) -> str:
        """Its address, at which every client of this process logs in from now on."""
        address = f"{LOOPBACK}:{port}"
        if self.has_password and (password := read_password(self.home)):
            use_kafka_login(address, KafkaLogin("SASL_PLAINTEXT", "PLAIN", KAFKA_USER, password))
        return address


def properties(data: Path, ports: Sequence[int], more: Mapping[str, str] = {}, password: str = "") -> str:
    """The text of `server.properties`, the broker on the first port and the controller on the second.

    Args:
        data: The data folder.
        ports: The two ports.
        more: Further settings, which override ours; `{broker}` in them is the address of the broker, and
            `{controller}` that of the controller.
        password: That both ask for; empty: none.
    """
    broker, controller = (f"{LOOPBACK}:{port}" for port in ports)
    protocol = "SASL_PLAINTEXT" if password else "PLAINTEXT"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name in LISTENERS),
        "listeners": f"CLIENTS://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"CLIENTS://{broker}",
        "inter.broker.listener.name": "CLIENTS",
        "log.dirs": data,
        # Messages and committed offsets are kept for ever.
        "log.retention.ms": -1,
        "log.retention.bytes": -1,
        "offsets.retention.minutes": 5_256_000,
        "auto.create.topics.enable": "false",
        # One node, a small heap, quick rebalances, a quick shutdown.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "controlled.shutdown.enable": "false",
        # A broker that was killed is let in again when the session of its last start is over.
        "broker.session.timeout.ms": 6_000,
        "broker.heartbeat.interval.ms": 1_000,
    }
    settings |= _sasl(password) if password else {}
    for name, value in more.items():
        settings[name] = value.replace("{broker}", broker).replace("{controller}", controller)
    return "".join(f"{name}={escaped(value)}\n" for name, value in settings.items())


def _sasl(password: str) -> dict[str, str]:
    """The settings by which both listeners let one user in; the broker is that user for the controller."""
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    user = f'username="{KAFKA_USER}" password="{password}" user_{KAFKA_USER}="{password}"'
    found = {"sasl.mechanism.inter.broker.protocol": "PLAIN", "sasl.mechanism.controller.protocol": "PLAIN"}
    for name in LISTENERS:
        listener = f"listener.name.{name.lower()}"
        found |= {
            f"{listener}.sasl.enabled.mechanisms": "PLAIN",
            f"{listener}.plain.sasl.jaas.config": f"{module} {user};",
        }
    return found


def escaped(value: object) -> str:
    r"""A value as a Java properties file writes it.

    >>> print(escaped("C:\\data"), escaped("/home/José"))
    C:\\data /home/Jos\u00e9
    """
    text = str(value).replace("\\", "\\\\")
    return "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in text)


def new_cluster_id() -> str:
    """A random cluster id. It begins with no "-", which would look like an option."""
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def format_data(
    data: Path,
    ports: Sequence[int],
    java: Sequence[str],
    scram: Sequence[str],
    more: Mapping[str, str],
    cluster_id: str,
) -> None:
    """Create an empty data folder, atomically.

    Args:
        data: The folder.
        ports: Of the broker and of the controller.
        java: The Java command with the class path, without a main class.
        scram: See `LocalKafka`.
        more: What makes it a node of a cluster, as for `properties`.
        cluster_id: 22 characters, the same for all nodes of a cluster.

    Raises:
        BadConfiguration: Kafka's tool failed; the message has its output.
        RetryLater: It took too long.
    """
    for left_over in data.parent.glob("format-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="format-", dir=data.parent))
    configuration = work / "server.properties"
    write_private(configuration, properties(work / "data", ports, more))
    command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(configuration)]
    command += [word for user in scram for word in ("--add-scram", user)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RetryLater(f"Kafka did not format {data} within {FORMAT_TIMEOUT_S} s: try again") from error
    if ran.returncode != 0:
        raise BadConfiguration(
            f"Kafka can't format {data} (exit code {ran.returncode}); remove what is in its way:\n"
            f"{ran.stdout}{ran.stderr}"
        )
    (work / "data").rename(data)
    shutil.rmtree(work)


def broker_count(bootstrap: str) -> int:
    """Number of brokers that a client sees; 0 if Kafka does not answer an admin request."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    from transport.kafka_login import client_settings

    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            bootstrap_timeout_ms=TIMEOUT_MS,
            request_timeout_ms=TIMEOUT_MS,
            **client_settings(bootstrap),
        )
    except KafkaError:
        return 0
    try:
        return len(client.describe_cluster()["brokers"])
    except KafkaError:
        return 0
    finally:
        client.close()


def check_kafka(bootstrap: str) -> None:
    """Check that a configured Kafka answers.

    Raises:
        RetryLater: It doesn't.
        BadConfiguration: Its certificate is not trusted, or it refuses the user and password.
    """
    login = kafka_login(bootstrap)
    if not kafka_answers(bootstrap, TIMEOUT_MS / 1000):
        raise RetryLater(
            f"no Kafka answers at SX9_KAFKA_BOOTSTRAP={bootstrap} (within {TIMEOUT_MS / 1000:.0f} s, with "
            f"SX9_KAFKA_SECURITY_PROTOCOL={login.protocol}): start it or correct the address; unset it to have one "
            "started on this machine"
        )
    if (login.protocol, login.mechanism) == ("SASL_PLAINTEXT", "PLAIN"):
        log.warning("SX9_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT sends the password as it is: use SASL_SSL or SCRAM")
    if login.protocol != "PLAINTEXT":
        from transport.kafka_login import check_login

        check_login(bootstrap, TIMEOUT_MS)
    if broker_count(bootstrap) == 0:
        raise RetryLater(
            f"the Kafka at SX9_KAFKA_BOOTSTRAP={bootstrap} answers, but not at the address that it gives to "
            "clients: set its advertised.listeners to one that this machine can reach"
        )
