"""The passwords of the local Kafka and Neo4j: who has none gets nothing, and nobody else can read them."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from schemas.errors import BadConfiguration
from streams.local.neo4j import LocalNeo4j, check_neo4j
from streams.local.services import Endpoints
from streams.settings import Settings
from transport.kafka_login import check_login
from transport.logins import KafkaLogin, use_kafka_login

MAX_BYTES = 1_000_000


@pytest.fixture
def passwords(service_settings: Settings, endpoints: Endpoints) -> dict[str, str]:
    """Service -> its password."""
    if service_settings.kafka_bootstrap or service_settings.neo4j_uri:
        pytest.skip("configured services have passwords of their own")
    return {
        name: (service_settings.state_dir / name / "password").read_text().strip() for name in ("kafka", "neo4j")
    }


@pytest.mark.parametrize(("user", "password"), [("sx9", "wrong"), ("admin", "admin")])
def test_a_wrong_password_is_refused_by_kafka(
    passwords: dict[str, str], endpoints: Endpoints, user: str, password: str
) -> None:
    address = endpoints.kafka_bootstrap.replace("127.0.0.1", "localhost")  # logins are kept by address
    use_kafka_login(address, KafkaLogin("SASL_PLAINTEXT", "PLAIN", user, password))
    with pytest.raises(BadConfiguration, match=f"refuses the user '{user}' with PLAIN"):
        check_login(address, 60_000)


@pytest.mark.parametrize("password", ["", "wrong", "neo4j"])
def test_none_or_a_wrong_password_is_refused_by_neo4j_again_and_again_and_the_right_one_is_let_in(
    passwords: dict[str, str], endpoints: Endpoints, password: str
) -> None:
    for _ in range(4):
        with pytest.raises(BadConfiguration, match="refuses the user"):
            check_neo4j(endpoints.neo4j_uri, "neo4j", password)
    check_neo4j(endpoints.neo4j_uri, "neo4j", passwords["neo4j"])


def test_passwords_are_in_no_command_line_and_only_in_files_of_their_owner(
    passwords: dict[str, str], service_settings: Settings
) -> None:
    assert len({*passwords.values()}) == 2
    assert all(len(password) == 43 for password in passwords.values()), "32 random bytes"
    found = set()
    for path in service_settings.state_dir.rglob("*"):
        if path.is_file() and path.stat().st_size < MAX_BYTES:
            content = path.read_bytes()
            for password in passwords.values():
                if password.encode() in content:
                    assert path.stat().st_mode & 0o077 == 0, path
                    found.add(str(path.relative_to(service_settings.state_dir)))
    assert found == {"kafka/password", "kafka/server.properties", "neo4j/password"}
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        assert not any(password in line for password in passwords.values())


def test_a_password_that_was_lost_is_named_with_the_remedy(tmp_path: Path) -> None:
    home = tmp_path / "neo4j"
    home.mkdir()
    LocalNeo4j(home, 0, 512).prepare([1], [])
    (home / "password").unlink()
    with pytest.raises(BadConfiguration, match=re.escape(f"{home / 'password'}, is missing: put the file back")):
        LocalNeo4j(home, 0, 512).prepare([1], [])
