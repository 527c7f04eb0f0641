"""Addresses, closed ports, and servers with another protocol."""

from __future__ import annotations

import socket
import threading

import pytest

from schemas.errors import BadConfiguration
from streams.local.machine import free_port
from streams.local.probe import address, kafka_answers, neo4j_answers


def test_a_closed_port_does_not_answer() -> None:
    port = free_port(set())
    assert not kafka_answers(f"127.0.0.1:{port}")
    assert not neo4j_answers(f"bolt://127.0.0.1:{port}")


def test_another_program_on_the_port_is_not_mistaken_for_kafka_or_neo4j() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not kafka_answers(f"127.0.0.1:{port}")
        assert not neo4j_answers(f"bolt://127.0.0.1:{port}")
        thread.join()


@pytest.mark.parametrize(
    ("text", "host_port"),
    [
        ("broker", ("broker", 9092)),
        ("broker:1", ("broker", 1)),
        (" 10.0.0.1:2 ", ("10.0.0.1", 2)),
        ("[::1]:3", ("::1", 3)),
    ],
)
def test_an_address_is_split_into_host_and_port(text: str, host_port: tuple[str, int]) -> None:
    assert address(text, 9092) == host_port


@pytest.mark.parametrize("text", ["broker:port", "broker:99999", ":9092", ""])
def test_an_invalid_address_is_named_in_the_error(text: str) -> None:
    with pytest.raises(BadConfiguration, match=r"is not an address .* write host:port"):
        address(text, 9092)
