"""A person promotes and rolls back on a real Kafka: the journal decides, and what was cut off is completed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode
from schemas.errors import BadConfiguration
from schemas.journal import ChampionChange, Record
from schemas.topics import JOURNAL, VERSIONS, partition_of
from schemas.versions import Manifest, VersionEvent
from streams.local.services import environment_of
from trainers.runs.champion import change_champion
from trainers.settings import load_trainer_settings
from trainers.store import manifest as manifests
from trainers.store.registry import Registry
from transport.kafka import consumer, read_range

MODEL = "distilbert-mitre"


def read(bootstrap: str, topic: str, partition: int, kind: Any) -> list[Any]:
    reader = consumer(bootstrap)
    messages = [message for some in read_range(reader, topic, partition, 0) for message in some]
    reader.close()
    return [decode(message.value, kind) for message in messages]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    """A registry with two versions without weights."""
    registry = Registry(tmp_path / "output" / "models")
    for version in ("v0001", "v0002"):
        folder = registry.folder(MODEL, version)
        folder.mkdir(parents=True)
        manifests.write(folder, Manifest(model=MODEL, version=version, trigger=f"{MODEL}@9", reason="volume"))
    return {"output_dir": tmp_path / "output", "state_dir": tmp_path / "state"}


def test_promoted_rolled_back_and_completed_after_a_kill(fresh_kafka: str, folders: dict[str, Any]) -> None:
    settings = load_trainer_settings(**folders)
    registry = Registry(settings.models_dir)

    def change(version: str, action: Any, why: str = "seen") -> str:
        return change_champion(settings, fresh_kafka, MODEL, version, action, by="ada", why=why)

    assert change("v0002", "promoted") == ""
    with pytest.raises(BadConfiguration, match="v0001 is earlier than the champion v0002: roll back to it"):
        change("v0001", "promoted")
    with pytest.raises(BadConfiguration, match="why is empty"):
        change("v0001", "rolled-back", " ")
    with pytest.raises(BadConfiguration, match=r"has no version 'v0007'.* there are: v0001, v0002"):
        change("v0007", "promoted")
    code = f"""
import os, signal
from pathlib import Path
from streams.settings import load_settings
from trainers.runs import champion
from trainers.settings import load_trainer_settings
from trainers.store.registry import Registry
from transport.logins import use_kafka_login
Registry.promote = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
settings = load_trainer_settings(output_dir={str(folders["output_dir"])!r}, state_dir={str(folders["state_dir"])!r})
use_kafka_login({fresh_kafka!r}, load_settings().kafka_login)
champion.change_champion(settings, {fresh_kafka!r}, {MODEL!r}, "v0001", "rolled-back", by="ada", why="poisoned")
"""
    env = os.environ | environment_of(fresh_kafka)
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False, env=env)
    assert (killed.returncode, registry.champion(MODEL)) == (-signal.SIGKILL, "v0002")
    assert change("v0001", "rolled-back", "poisoned") == "v0001"
    assert registry.champion(MODEL) == "v0001"
    records = read(fresh_kafka, JOURNAL.name, partition_of(MODEL), Record)
    assert [(r.version, r.action, r.by, r.why) for r in records if isinstance(r, ChampionChange)] == [
        ("v0002", "promoted", "ada", "seen"), ("v0001", "rolled-back", "ada", "poisoned"),
    ]  # fmt: skip
    events = read(fresh_kafka, VERSIONS.name, 0, VersionEvent)
    assert [(event.version, event.outcome, event.by, event.detail) for event in events] == [
        ("v0002", "promoted", "ada", "seen"), ("v0001", "rolled-back", "ada", "poisoned"),
    ]  # fmt: skip
