"""The local Neo4j: the community edition, embedded in a Groovy script."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

import deploy.local
from schemas.errors import BadConfiguration, RetryLater
from streams.local.local_service import LocalService
from streams.local.machine import LOOPBACK
from streams.local.passwords import NEO4J_USER, make_password, password_file, read_password
from streams.local.probe import neo4j_answers
from transport.files import write_private
from transport.logins import neo4j_login, use_neo4j_login
from transport.neo4j import neo4j_module, tls_settings

PAGE_CACHE_MB = 64
OVERHEAD_MB = 200
"""Memory outside the heap and the page cache, MB."""
TIMEOUT_S = 5.0
LAUNCHER = Path(deploy.local.__path__[0]) / "neo4j.groovy"
OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
OPTIONS = (
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
)
HASH_ITERATIONS = 1024
"""How often Neo4j hashes a password that it keeps."""
FIRST_START = "first-start"
"""Name of a file that is beside the data until Neo4j has answered for the first time."""
SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")


class LocalNeo4j(LocalService):
    """Settings of a local Neo4j; see `LocalService`."""

    name = "neo4j"
    title = "Neo4j"
    port_count = 1
    overhead_mb = PAGE_CACHE_MB + OVERHEAD_MB

    def prepare(self, ports: Sequence[int], _java: Sequence[str]) -> list[str]:
        """Write the configuration; Neo4j creates its data at the first start.

        Args:
            ports: The port of Bolt.

        Returns:
            The rest of the command line, after the class path.
        """
        if self.has_password:
            self._set_first_password()
        self._begin_first_start()
        configuration = self.home / "neo4j.conf"
        asks = {"dbms.security.auth_enabled": str(self.has_password).lower()}
        configuration.write_text(properties(ports[0], asks | dict(self.more)))
        return [*OPTIONS, "groovy.ui.GroovyMain", str(LAUNCHER), str(self.home), str(configuration)]

    def is_ready(self, port: int) -> bool:
        """Whether it answers a query over Bolt.

        Raises:
            BadConfiguration: It refuses the password that is kept beside its data.
        """
        uri = self.log_in(port)
        if not neo4j_answers(uri):
            return False
        try:
            check_neo4j(uri, *neo4j_login(uri))
        except RetryLater:
            return False
        except BadConfiguration as error:
            if self.has_password:
                raise BadConfiguration(self._without_password("another one than when it was new")) from error
            raise
        (self.home / FIRST_START).unlink(missing_ok=True)
        return True

    def log_in(self, port: int) -> str:
        """Its address, at which every driver of this process logs in from now on."""
        uri = f"bolt://{LOOPBACK}:{port}"
        if self.has_password and (password := read_password(self.home)):
            use_neo4j_login(uri, NEO4J_USER, password)
        return uri

    def _begin_first_start(self) -> None:
        """Remove what a first start that was cut off has left: it is empty, and Neo4j can't always recover it."""
        databases = self.home / "data" / "databases"
        first_start = self.home / FIRST_START
        if first_start.exists():
            for folder in (databases, self.home / "data" / "transactions"):
                if folder.exists():
                    shutil.rmtree(folder)
        elif not databases.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            first_start.touch()

    def _set_first_password(self) -> None:
        """Give our password to a Neo4j that has none yet: it reads a file at its first start with one."""
        first = self.home / "data" / "dbms" / "auth.ini"
        if first.exists() and not read_password(self.home):
            raise BadConfiguration(self._without_password("missing"))
        password = make_password(self.home)
        if not first.exists():
            first.parent.mkdir(parents=True, exist_ok=True)
            write_private(first, f"{NEO4J_USER}:{hashed(password, secrets.token_bytes(32))}:\n")

    def _without_password(self, what: str) -> str:
        return (
            f"the password of the local Neo4j, {password_file(self.home)}, is {what}: put the file back that was "
            f"there, or remove {self.home}; `sx9 up` then makes the graph again from the topics"
        )


def hashed(password: str, salt: bytes) -> str:
    """A password as Neo4j keeps it: SHA-256 of the salt and the password, hashed again and again."""
    digest = hashlib.sha256(salt + password.encode()).digest()
    for _ in range(HASH_ITERATIONS - 1):
        digest = hashlib.sha256(digest).digest()
    return f"SHA-256,{digest.hex()},{salt.hex()},{HASH_ITERATIONS}"


def properties(port: int, more: Mapping[str, str] = {}) -> str:
    """The text of `neo4j.conf`.

    Args:
        port: Of Bolt.
        more: Further settings, which override ours.
    """
    settings = {
        "server.bolt.enabled": "true",
        "server.bolt.listen_address": f"{LOOPBACK}:{port}",
        "server.bolt.advertised_address": f"{LOOPBACK}:{port}",
        # A password of 32 random bytes can't be guessed; a neighbour who tries must not lock us out.
        "dbms.security.auth_max_failed_attempts": "0",
        "dbms.usage_report.enabled": "false",
        "server.memory.pagecache.size": f"{PAGE_CACHE_MB}m",
        "server.config.strict_validation.enabled": "true",
        "db.tx_log.preallocate": "false",
        "db.tx_log.rotation.size": "32m",
        "db.tx_log.rotation.retention_policy": "keep_none",
        "db.logs.query.enabled": "OFF",
        # Otherwise its shutdown waits twice for 5 s.
        "internal.dbms.bolt.netty_server_shutdown_quiet_period_duration": "0s",
    }
    return "".join(f"{name}={value}\n" for name, value in (settings | dict(more)).items())


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The error of a certificate from which another error came."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def check_neo4j(uri: str, user: str, password: str) -> None:
    """Check that a Neo4j answers a query.

    Args:
        uri: Its address, `bolt://host:port` or with another scheme of `SCHEMES`.
        user: User name; not used if the password is empty.
        password: Empty: no authentication.

    Raises:
        RetryLater: It doesn't answer.
        BadConfiguration: The address is invalid, or user and password are refused.
    """
    neo4j = neo4j_module()
    exceptions = neo4j.exceptions
    if uri.partition("://")[0] not in SCHEMES:
        raise BadConfiguration(
            f"SX9_NEO4J_URI={uri} has none of the schemes {', '.join(SCHEMES)}: bolt://host:7687"
        )
    auth = (user, password) if password else None
    address, tls = tls_settings(uri)
    try:
        with (
            neo4j.GraphDatabase.driver(
                address, auth=auth, connection_timeout=TIMEOUT_S, connection_acquisition_timeout=TIMEOUT_S, **tls
            ) as driver,
            driver.session() as session,
        ):
            session.run("RETURN 1").consume()  # execute_query would retry for half a minute
    except exceptions.AuthError as error:
        raise BadConfiguration(
            f"the Neo4j at {uri} refuses the user {user!r} ({error.code}): set SX9_NEO4J_USER and "
            "SX9_NEO4J_PASSWORD"
        ) from error
    except (exceptions.ConfigurationError, ValueError) as error:
        raise BadConfiguration(f"SX9_NEO4J_URI={uri} can't be used ({error}): correct it") from error
    except (exceptions.DriverError, exceptions.Neo4jError, OSError) as error:
        if (refused := _certificate_error(error)) is not None:
            raise BadConfiguration(
                f"the certificate of the Neo4j at {uri} is not trusted ({refused.verify_message}): it must name "
                "the host, and SX9_NEO4J_CA_FILE the certificate that signed it"
            ) from error
        raise RetryLater(
            f"no Neo4j answers at SX9_NEO4J_URI={uri} ({type(error).__name__}): start it or correct the address; "
            "unset it to have one started on this machine"
        ) from error
