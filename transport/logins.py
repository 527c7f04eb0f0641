"""How to log in to a Kafka or a Neo4j: kept by address for a process, as in a `.netrc` file.

    settings, or the password file of a local service ──use_kafka_login, use_neo4j_login, ...──> by address
    every client of ours ──kafka_login, neo4j_login, neo4j_ca──> what is needed for the address that it is given

So an address is all that is passed around in a process, and no code but this and the clients knows of passwords.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from schemas.errors import BadConfiguration
from transport.secrets import keep_secret

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
"""The `security.protocol` of Kafka."""
Mechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"]
"""The `sasl.mechanism` of Kafka."""


@dataclass(frozen=True)
class KafkaLogin:
    """How to log in to a Kafka.

    Attributes:
        protocol: Whether there is TLS, and SASL.
        mechanism: Of SASL.
        user, password: Of SASL; with `OAUTHBEARER` the id and the secret of the OAuth client.
        ca_file: PEM file with the certificates that are trusted; None: those of the system.
        cert_file, key_file: PEM files with a certificate of ours and its key, for brokers that ask for one.
        token_url: Where `OAUTHBEARER` gets its tokens, by the grant `client_credentials`.
    """

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    token_url: str = ""

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def has_sasl(self) -> bool:
        """Whether there is a user."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def checked(self) -> KafkaLogin:
        """The login itself.

        Raises:
            BadConfiguration: Something is missing for its protocol, or a file can't be used.
        """
        if self.has_sasl and not (self.user and self.password):
            raise BadConfiguration(
                f"SX9_KAFKA_SECURITY_PROTOCOL={self.protocol} needs a user: set SX9_KAFKA_USER and "
                "SX9_KAFKA_PASSWORD"
            )
        if self.has_sasl and self.mechanism == "OAUTHBEARER" and not self.token_url.startswith("http"):
            raise BadConfiguration(
                "SX9_KAFKA_SASL_MECHANISM=OAUTHBEARER needs the address of the token endpoint: set "
                "SX9_KAFKA_TOKEN_URL"
            )
        self.ssl_context()
        return self

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context of TLS: the name and the certificate of the server are checked; None: there is no TLS.

        Raises:
            BadConfiguration: A file can't be read, or is no PEM file.
        """
        if not self.has_tls:
            return None
        context = tls_context(self.ca_file, "SX9_KAFKA_CA_FILE")
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise BadConfiguration(
                    f"SX9_KAFKA_CERT_FILE={self.cert_file} and SX9_KAFKA_KEY_FILE={self.key_file} can't be used "
                    f"({error}): give PEM files of a certificate and its key"
                ) from error
        return context


def tls_context(ca_file: Path | None, setting: str) -> ssl.SSLContext:
    """A context that trusts the certificates of a file.

    Args:
        ca_file: PEM; None: the certificates of the system.
        setting: That names it, for the message.

    Raises:
        BadConfiguration: The file can't be read, or is no PEM file.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadConfiguration(
            f"{setting}={ca_file} can't be used ({error}): give a PEM file with the certificates that you trust"
        ) from error


_kafka: dict[str, KafkaLogin] = {}
_neo4j: dict[str, tuple[str, str]] = {}
_neo4j_ca: dict[str, Path] = {}


def use_kafka_login(bootstrap: str, login: KafkaLogin) -> None:
    """Log in so from now on to the Kafka at an address.

    Raises:
        BadConfiguration: See `KafkaLogin.checked`.
    """
    keep_secret(login.password)
    _kafka[bootstrap] = login.checked()


def kafka_login(bootstrap: str) -> KafkaLogin:
    """How to log in to the Kafka at an address; without anything if nothing was said of it."""
    return _kafka.get(bootstrap, KafkaLogin())


def use_neo4j_ca(uri: str, ca_file: Path) -> None:
    """Trust the certificates in a file for the Neo4j at an address.

    Raises:
        BadConfiguration: The file can't be used.
    """
    tls_context(ca_file, "SX9_NEO4J_CA_FILE")
    _neo4j_ca[uri] = ca_file


def neo4j_ca(uri: str) -> Path | None:
    """The file with the certificates that are trusted for a Neo4j; None: those of the system."""
    return _neo4j_ca.get(uri)


def use_neo4j_login(uri: str, user: str, password: str) -> None:
    """Log in so from now on to the Neo4j at an address, where no other password is given."""
    keep_secret(password)
    _neo4j[uri] = (user, password)


def neo4j_login(uri: str) -> tuple[str, str]:
    """User and password for the Neo4j at an address; empty if nothing was said of it."""
    return _neo4j.get(uri, ("", ""))
