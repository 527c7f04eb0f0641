"""The password of a local service: made at its first start, and kept beside its data for its owner only.

    <state folder>/kafka/password, neo4j/password     mode 0600, in folders that only the owner can open

Every command of the same user that is given the state folder finds it there. Other users of the machine can
connect to the port, and get nothing.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from schemas.errors import BadConfiguration
from transport.files import write_private

KAFKA_USER = "sx9"
NEO4J_USER = "neo4j"
"""The only user that Neo4j has when it is new."""
BYTES = 32
"""Random bytes of a password."""


def password_file(home: Path) -> Path:
    """The file with the password of the service whose data is in a folder."""
    return home / "password"


def read_password(home: Path) -> str:
    """The password; empty if there is none: the service was started by a release that made none.

    Raises:
        BadConfiguration: It can't be read.
    """
    path = password_file(home)
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadConfiguration(
            f"the password {path} can't be read ({error.strerror}): only the user who runs `sx9 up` there may use "
            "its services; take a folder of your own (--state-dir)"
        ) from error


def make_password(home: Path) -> str:
    """The password, which is made if there is none. Only the owner of the service calls this."""
    found = read_password(home)
    if not found:
        found = secrets.token_urlsafe(BYTES)
        partial = password_file(home).with_suffix(".part")
        write_private(partial, found + "\n")
        partial.replace(password_file(home))
    return found
