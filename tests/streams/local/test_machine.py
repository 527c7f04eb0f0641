"""The limits for disk and memory, each with a number that passes and one that does not; and ports."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from streams.local.machine import check_disk, check_memory, free_port, is_free


def test_a_full_disk_is_named_with_its_limit_and_remedy(tmp_path: Path) -> None:
    check_disk(tmp_path, 300, "SX9_STATE_DIR", free_mb=300)
    with pytest.raises(BadConfiguration, match=r"299 MB are free at .*300 MB are needed.*SX9_STATE_DIR"):
        check_disk(tmp_path, 300, "SX9_STATE_DIR", free_mb=299)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfiguration, match=r"can't use .*file/state.*SX9_STATE_DIR"):
        check_disk(tmp_path / "file" / "state", 1, "SX9_STATE_DIR")


def test_too_little_memory_is_named_with_its_parts_and_remedies() -> None:
    check_memory({"kafka": 400, "neo4j": 800}, available_mb=1200)
    message = r"1199 MB of memory are available, 1200 MB are needed .kafka 400 MB, neo4j 800 MB.*SX9_KAFKA_HEAP_MB"
    with pytest.raises(BadConfiguration, match=message):
        check_memory({"kafka": 400, "neo4j": 800}, available_mb=1199)


def test_nothing_to_start_needs_no_memory() -> None:
    check_memory({}, available_mb=0)


def test_a_port_with_a_server_is_not_free() -> None:
    port = free_port(set())
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
