"""Roles of the app as processes, which tests kill and start again.

python -m tests.flow.roles ROLE SETTINGS     runs one role; the settings are a JSON object
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from streams.local.services import Endpoints, environment_of
from streams.settings import load_settings
from transport.logins import use_kafka_login

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 90.0


def until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The first true result of `condition`; fails with `what` if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)
    return found


@dataclasses.dataclass
class Role:
    """A role that was started; `log` is its output so far."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def live(self) -> None:
        """Wait until the backlog is processed and the agent starts."""
        self.until(lambda: f"{self.name}: live" in self.log, "live")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition; fails at once if the role has ended."""

        def still() -> Any:
            found = condition()
            assert found or self.process.poll() is None, (
                f"{self.name} ended waiting for {what}:\n{self.log[-3000:]}"
            )
            return found

        return until(still, f"{self.name}: {what}")

    def ended(self, why: str) -> None:
        """Wait until the process has ended by itself."""

        def code() -> bool:
            return self.process.poll() is not None

        try:
            until(code, f"{self.name} ends, {why}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log[-3000:]}") from None

    def metrics(self, model: str = "") -> dict[str, float]:
        """Samples of /metrics, summed over their labels; with `model`, those of other models left out."""
        address = self.until(lambda: re.search(r"metrics on (http\S+)", self.log), "the metrics port")
        with urllib.request.urlopen(address[1], timeout=10) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if model and sample.labels.get("model", model) != model:
                    continue
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()


def terminate(*roles: Role) -> list[int]:
    """Stop roles with SIGTERM; returns their exit codes."""
    for one in roles:
        one.process.terminate()
    return [one.process.wait(timeout=TIMEOUT_S) for one in roles]


@contextlib.contextmanager
def role(name: str, endpoints: Endpoints, state_dir: Path, **settings: Any) -> Iterator[Role]:
    """One role while the block lasts, without ticks, so that only the test writes to journals."""
    fields = {"state_dir": str(state_dir), "tick_interval_s": 0.0} | settings
    log_file = state_dir / f"{name}.{time.monotonic_ns()}.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __name__, name, json.dumps(fields)]
    env = os.environ | environment_of(endpoints.kafka_bootstrap, endpoints.neo4j_uri)
    with (
        log_file.open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            yield Role(name, process, log_file)
            process.terminate()  # so that it leaves its group: Kafka waits for a member that was killed
            process.wait(timeout=TIMEOUT_S)
        finally:
            process.kill()


if __name__ == "__main__":
    from streams.app import wiring

    wiring.LAG_INTERVAL_S = 0.2
    wiring.SESSION_TIMEOUT_S = 6.0  # the least that Kafka allows
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    _name, _fields = sys.argv[1:]
    _settings = load_settings(**json.loads(_fields))
    assert _settings.kafka_bootstrap
    use_kafka_login(_settings.kafka_bootstrap, _settings.kafka_login)
    _password = _settings.neo4j_password.get_secret_value()
    _endpoints = Endpoints(_settings.kafka_bootstrap, _settings.neo4j_uri or "", _settings.neo4j_user, _password)
    wiring.run_role(_name, _settings, _endpoints)  # type: ignore[arg-type]
