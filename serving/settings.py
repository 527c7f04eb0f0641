"""Settings of the server: the only module under `serving` that reads the environment.

Each field is an environment variable with the prefix `SX9_SERVE_` (`SX9_SERVE_PORT=8080`). The folders are shared
with the other processes (`SX9_OUTPUT_DIR`). An unknown `SX9_SERVE_` variable is an error.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import BadConfiguration
from serving.predictors import Precision

PREFIX = "SX9_SERVE_"
SHARED = {name: f"SX9_{name}".upper() for name in ("output_dir", "state_dir", "models_url")}
"""Field -> its variable, which the other processes read too."""


class ServeSettings(BaseSettings):
    """The settings of the server."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    output_dir: Path = Field(
        Path("output"),
        validation_alias=SHARED["output_dir"],
        description="folder of the output; models are in models/",
    )
    state_dir: Path = Field(
        Path(".sx9"), validation_alias=SHARED["state_dir"], description="folder of the state; keys are in serve/"
    )
    models_url: str | None = Field(
        None, validation_alias=SHARED["models_url"], description="where several machines share the versions"
    )
    host: str = Field("127.0.0.1", description="address to listen on; any but loopback needs keys")
    port: int = Field(18114, ge=0, le=65535, description="port of the server; 0: a free one, which is logged")
    cors_origins: str = Field(
        "", description="web pages that may call the server, with a space between; empty: none"
    )
    max_body_bytes: int = Field(4_194_304, ge=1_024, description="longest body of a request, bytes")
    max_texts: int = Field(256, ge=1, le=10_000, description="most texts in a request")
    max_text_chars: int = Field(200_000, ge=100, description="longest text, characters")
    max_parts: int = Field(
        8_192, ge=1, description="most sentences and passages of all texts of a request together"
    )
    queue_texts: int = Field(16_384, ge=1, description="most texts and sentences that wait for an answer")
    batch_texts: int = Field(128, ge=1, le=4_096, description="most texts and sentences in a batch")
    timeout_s: float = Field(60.0, gt=0, description="longest time until the answer to a request, seconds")
    pinned_versions: int = Field(
        2, ge=1, description="most versions in memory that do not serve and that requests have named"
    )
    follow_s: float = Field(1.0, gt=0, description="seconds between two looks at which version should serve")
    threads: int = Field(0, ge=0, description="threads that compute; 0: one for each processor")
    load: Literal["start", "asked"] = Field(
        "start", description="when a model is loaded: at the start, or when somebody asks it for the first time"
    )
    precision: Precision = Field(
        "float32", description="what the layers of `distilbert-mitre` compute in; int8 is faster, and less exact"
    )
    models: str = Field("", description="models that are served, with a space between; empty: all")

    shadow: bool = Field(
        False, description="whether the newest version after the one that serves answers too, unseen"
    )
    classify_from: str = Field("", description="topic whose texts `sx9 run classify` answers")
    classify_to: str = Field("", description="topic of its answers")

    @property
    def models_dir(self) -> Path:
        """The folder of the registry."""
        return self.output_dir / "models"

    @property
    def keys_file(self) -> Path:
        """The file of the API keys."""
        return self.state_dir / "serve" / "keys.json"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_serve_settings(**overrides: object) -> ServeSettings:
    """Read the settings from the environment.

    Args:
        overrides: Field values that take precedence over the environment (command-line options).

    Raises:
        BadConfiguration: There is an unknown `SX9_SERVE_` variable or an invalid value; the message names it.
    """
    known = {f"{PREFIX}{name}".upper() for name in ServeSettings.model_fields if name not in SHARED}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise BadConfiguration(
            f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}: correct or unset it"
        )
    try:
        return ServeSettings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{_variable(str(e['loc'][0]))}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise BadConfiguration("bad setting " + "; ".join(lines)) from error


def _variable(location: str) -> str:
    return location if location in SHARED.values() else SHARED.get(location, f"{PREFIX}{location}".upper())
