"""Checks whether a Kafka or a Neo4j answers at an address, by the first bytes of its protocol.

This takes a few milliseconds and imports no client library, so that `sx9 status` is quick.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from schemas.errors import BadConfiguration
from transport.logins import kafka_login

TIMEOUT_S = 1.0
"""Longest wait for an answer, seconds. It takes 10 ms on a machine that is not busy."""
API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
"""Kafka's first request: length, ApiVersions, version 0, correlation 1, no client id."""
BOLT_HELLO = bytes.fromhex("6060b017 00080805 00000004 00000000 00000000")
"""Neo4j's handshake: a magic number, then four offered versions: 5.8 to 5.0, 4.0, none, none."""
NO_VERSION = bytes(4)


def kafka_answers(bootstrap: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether one of the brokers in `host:port,host:port` speaks Kafka's protocol; with TLS, can be reached."""
    ask = _can_be_reached if kafka_login(bootstrap).has_tls else _kafka_answers
    return any(ask(*address(broker, 9092), timeout_s) for broker in bootstrap.split(","))


def neo4j_answers(uri: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the server at a `bolt:` or `neo4j:` address speaks Bolt; with TLS, whether it can be reached."""
    parts = urlsplit(uri)
    host, port = address(parts.netloc.rpartition("@")[2], 7687)
    if "+" in parts.scheme:
        return _exchange(host, port, b"", 0, timeout_s) is not None
    agreed = _exchange(host, port, BOLT_HELLO, 4, timeout_s)
    return agreed is not None and len(agreed) == 4 and agreed.startswith(bytes(2)) and agreed != NO_VERSION


def address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host:port`.

    >>> address("broker", 9092), address("[::1]:9093", 9092)
    (('broker', 9092), ('::1', 9093))

    Raises:
        BadConfiguration: The port is not a number up to 65535, or the host is missing.
    """
    parts = urlsplit(f"//{text.strip()}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadConfiguration(f"{text!r} is not an address ({error}): write host:port") from error
    if not host:
        raise BadConfiguration(f"{text!r} is not an address (no host): write host:port")
    return host, port or default_port


def _can_be_reached(host: str, port: int, timeout_s: float) -> bool:
    return _exchange(host, port, b"", 0, timeout_s) is not None


def _kafka_answers(host: str, port: int, timeout_s: float) -> bool:
    """The answer must repeat the correlation id after its length."""
    answer = _exchange(host, port, API_VERSIONS, 8, timeout_s)
    return answer is not None and answer[4:] == API_VERSIONS[8:12]


def _exchange(host: str, port: int, request: bytes, length: int, timeout_s: float) -> bytes | None:
    """Send bytes and return the first `length` bytes of the answer.

    Fewer bytes are returned if the server closes the connection, and None if it can't be reached or is silent.
    """
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(request)
            return connection.recv(length, socket.MSG_WAITALL) if length else b""
    except OSError:
        return None
