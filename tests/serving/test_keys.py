"""API keys: hashed at rest, found, revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadConfiguration, Corrupt
from serving.keys import Keys


def test_a_key_is_found_until_it_is_revoked_and_the_file_does_not_have_it(tmp_path: Path) -> None:
    path = tmp_path / "serve" / "keys.json"
    command, server = Keys(path), Keys(path)
    key, other = command.add("page", "read", 1), command.add("boss", "admin", 2)
    found = server.find(key)
    assert found is not None
    assert (found.name, found.scope) == ("page", "read")
    assert server.find(key[:-1] + ("a" if key[-1] != "a" else "b")) is None
    assert server.find(other.replace("boss", "page")) is None
    assert key not in path.read_text()
    assert key.partition(".")[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    command.revoke("page")
    assert server.find(key) is None
    assert server.find(other) is not None


def test_a_wrong_name_is_refused_and_a_damaged_file_named(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    keys.add("page", "read", 1)
    with pytest.raises(BadConfiguration, match="there is a key 'page'"):
        keys.add("page", "admin", 2)
    with pytest.raises(BadConfiguration, match="no name of a key"):
        keys.add("a b", "read", 2)
    with pytest.raises(BadConfiguration, match=r"no key 'x'; there are: page"):
        keys.revoke("x")
    keys.path.write_text("{")
    with pytest.raises(Corrupt, match="holds no keys"):
        keys.find("sx9_page.x")
