"""Settings of the streaming side: the only module under `streams` that reads the environment.

Each field is an environment variable with the prefix `SX9_` (`SX9_KAFKA_BOOTSTRAP=broker:9092`).
Unknown `SX9_` names are refused, so that a misspelled one is not silently ignored.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import BadConfiguration
from transport.logins import KafkaLogin, Mechanism, Protocol
from transport.secrets import keep_secret

PREFIX = "SX9_"
SECRETS_DIR = Path("/run/secrets")
"""Where containers have secrets as files. A file named like a variable, in lower case, holds its value."""
TRAINER_PREFIX = "SX9_TRAINER_"
"""Prefix of the names that trainers/settings.py reads and checks."""
SERVE_PREFIX = "SX9_SERVE_"
"""Prefix of the names that serving/settings.py reads and checks."""


class Settings(BaseSettings):
    """Settings of one process: frozen, and never passed to a core module."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    kafka_bootstrap: str | None = Field(
        None, description="host:port of your own Kafka; empty: `sx9 up` starts one on this machine"
    )
    kafka_security_protocol: Protocol = Field(
        "PLAINTEXT", description="of your own Kafka: with SSL there is TLS, with SASL a user and password"
    )
    kafka_sasl_mechanism: Mechanism = Field("SCRAM-SHA-512", description="how to log in to your own Kafka")
    kafka_user: str = Field("", description="user of your own Kafka; with OAUTHBEARER the id of the client")
    kafka_password: SecretStr = Field(
        SecretStr(""), description="password of your own Kafka; with OAUTHBEARER the secret of the client"
    )
    kafka_token_url: str = Field("", description="token endpoint of OAUTHBEARER, `client_credentials`")
    kafka_ca_file: Path | None = Field(
        None, description="PEM file of the certificates to trust for Kafka; empty: those of the system"
    )
    kafka_cert_file: Path | None = Field(None, description="PEM file of our certificate, if Kafka asks for one")
    kafka_key_file: Path | None = Field(None, description="PEM file of its key")
    neo4j_uri: str | None = Field(
        None, description="bolt://host:port of your own Neo4j; empty: `sx9 up` starts one on this machine"
    )
    neo4j_user: str = Field("neo4j", description="user of your own Neo4j")
    neo4j_password: SecretStr = Field(
        SecretStr(""), description="password of your own Neo4j; empty: no authentication"
    )
    neo4j_ca_file: Path | None = Field(
        None, description="PEM file of the certificates to trust for Neo4j; empty: those of the system"
    )
    replication_factor: int = Field(1, ge=1, le=9, description="replicas of each topic, on your own Kafka")
    state_dir: Path = Field(Path(".sx9"), description="data of the local services, cursors, snapshots, logs")
    output_dir: Path = Field(Path("output"), description="models and exports")
    cache_dir: Path = Field(
        Path(platformdirs.user_cache_dir("sx9")),
        description="jars, base models and mirrors, shared by checkouts",
    )
    kafka_heap_mb: int = Field(256, ge=128, description="heap of the local Kafka, MB")
    neo4j_heap_mb: int = Field(512, ge=256, description="heap of the local Neo4j, MB")
    kafka_port: int = Field(
        0, ge=0, le=65535, description="port of the local Kafka; 0: a free one, kept for later starts"
    )
    neo4j_port: int = Field(
        0, ge=0, le=65535, description="port of the local Neo4j; 0: a free one, kept for later starts"
    )
    start_timeout_s: float = Field(120.0, gt=0, description="longest time until a local service answers")
    maven_repository: str | None = Field(
        None, description="Maven repository of the jars; empty: the mirror in ~/.m2/settings.xml, or Maven Central"
    )
    bind: str = Field("127.0.0.1", description="address that the metrics and web servers listen on")
    web_port: int = Field(
        0,
        ge=0,
        le=65533,
        description="first of three ports of Faust's web servers, one per role; 0: no web servers",
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0: a free one, printed at start")
    metrics_cert_file: Path | None = Field(
        None, description="PEM file of the certificate with which /metrics is served over TLS; empty: without TLS"
    )
    metrics_key_file: Path | None = Field(None, description="PEM file of its key; empty: in the same file")
    metrics_ca_file: Path | None = Field(
        None, description="PEM file of the certificates that the Prometheus of `sx9 up --monitoring` trusts"
    )
    prometheus_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port of the Prometheus of `sx9 up --monitoring`; 0: a free one, printed at start",
    )
    feeds: str = Field(
        "attack-enterprise attack-ics attack-mobile nuclei-templates",
        description="feeds that `sx9 up` fetches, separated by spaces; name=URL-or-path names a source of yours",
    )
    feed_keys: SecretStr = Field(
        SecretStr(""),
        description="keys of feeds, separated by spaces: `otx=KEY taxii-NAME=TOKEN stix-NAME=user:password`",
    )
    fetch_interval_s: float = Field(
        3_600.0, ge=0, description="seconds between two fetches of a feed under `sx9 up`; 0: no fetches"
    )
    fetch_jobs: int = Field(4, ge=1, le=32, description="feeds that `sx9 up` fetches side by side, at most")
    models_url: str | None = Field(
        None, description="folder or fsspec URL where several machines share the versions; empty: models/ alone"
    )
    archive_url: str | None = Field(
        None, description="folder or fsspec URL of the archive of the topics; empty: they are not archived"
    )
    archive_interval_s: float = Field(
        3_600.0, ge=60, description="seconds between two runs of the archive under `sx9 up`"
    )
    ontogpt_model: str = Field(
        "",
        description="language model that OntoGPT asks about reports in free text, as LiteLLM names it; empty: none",
    )
    ontogpt_command: str = Field("ontogpt", description="program of OntoGPT; `make ontogpt` installs one")
    ontogpt_api_base: str = Field(
        "", description="URL where the model answers, if it speaks OpenAI's protocol at a place of its own"
    )
    ontogpt_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the language model's statements that are right; measure it on reports of yours",
    )
    serve: bool = Field(True, description="whether `sx9 up` starts the server with its page, too")
    policy_file: Path | None = Field(
        None, description="TOML file with retraining policies; empty: the policies in the journals"
    )
    tick_interval_s: float = Field(
        60.0, ge=0, description="seconds between the clock ticks sent to every journal; 0: no ticks (demo, replay)"
    )

    @property
    def models_dir(self) -> Path:
        """The folder of the registry."""
        return self.output_dir / "models"

    @property
    def snapshots_dir(self) -> Path:
        """Folder of the snapshots of the fold."""
        return self.state_dir / "snapshots"

    @property
    def feed_sources(self) -> dict[str, str | None]:
        """Feed -> URL or path of its source; None: the default source of the feed."""
        pairs = (word.partition("=") for word in self.feeds.split())
        return {name: source or None for name, _, source in pairs}

    @property
    def kafka_login(self) -> KafkaLogin:
        """How to log in to the configured Kafka."""
        return KafkaLogin(
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            user=self.kafka_user,
            password=self.kafka_password.get_secret_value(),
            ca_file=self.kafka_ca_file,
            cert_file=self.kafka_cert_file,
            key_file=self.kafka_key_file,
            token_url=self.kafka_token_url,
        )

    def feed_key(self, feed: str) -> str:
        """The key of a feed; empty: it has none."""
        pairs = (word.partition("=") for word in self.feed_keys.get_secret_value().split())
        return next((key for name, _, key in pairs if name == feed), "")

    @property
    def logs_dir(self) -> Path:
        """Folder of the log files of child processes."""
        return self.state_dir / "logs"

    @property
    def feeds_dir(self) -> Path:
        """Folder of the status files of the feeds."""
        return self.state_dir / "feeds"

    @property
    def cursors_dir(self) -> Path:
        """Folder of the feed cursors."""
        return self.state_dir / "cursors"


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment.

    Args:
        overrides: Field values that override the environment (command-line options).

    Returns:
        The frozen settings.

    Raises:
        BadConfiguration: A name is unknown or a value is invalid; the message names it and the remedy.
    """
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in os.environ
        if name.upper().startswith(PREFIX)
        and not name.upper().startswith((TRAINER_PREFIX, SERVE_PREFIX))
        and name.upper() not in known
    )
    if unknown:
        raise BadConfiguration(
            f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}: correct or unset it"
        )
    try:
        secrets = SECRETS_DIR if SECRETS_DIR.is_dir() else None
        settings = Settings(_secrets_dir=secrets, **overrides)  # type: ignore[arg-type,call-arg]
    except ValidationError as error:
        lines = [f"{PREFIX}{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise BadConfiguration("bad setting " + "; ".join(lines)) from error
    _keep_secrets(settings)
    return settings


def _keep_secrets(settings: Settings) -> None:
    """Have the secrets masked in every log and message, wherever they come from."""
    keep_secret(settings.neo4j_password.get_secret_value())
    keep_secret(settings.kafka_password.get_secret_value())
    for number, word in enumerate(settings.feed_keys.get_secret_value().split(), 1):
        name, is_pair, key = word.partition("=")
        if not (name and is_pair and key):
            raise BadConfiguration(f"SX9_FEED_KEYS: word {number} is not FEED=KEY, such as otx=KEY: correct it")
        keep_secret(key)
        keep_secret(key.partition(":")[2])
