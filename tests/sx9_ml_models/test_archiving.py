"""The commands and the archive on a real Kafka: what retention deleted is explained and exported from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Corrupt
from schemas.journal import Tick
from schemas.topics import JOURNAL, TOPICS, TRIGGERS, partition_of
from streams.settings import load_settings
from streams.telemetry import ARCHIVED_AT
from sx9_ml_models import queries
from sx9_ml_models.archiving import archive_repeatedly
from sx9_ml_models.connections import topic_reader
from sx9_ml_models.explain.command import of_version
from sx9_ml_models.exports import events_from_topics
from sx9_ml_models.journals import export_journal
from tests.sx9_ml_models.explain.test_on_kafka import MODEL, filled
from tests.trainers.conftest import fresh_kafka, trainer_kafka
from tests.transport.s3 import s3_bucket
from trainers.settings import load_trainer_settings
from transport.admin import admin_client
from transport.archive.checking import check_archive
from transport.kafka import RecordProducer, consumer, end_offset, producer
from transport.storage import storage_at
from transport.topics import partitions_of

__all__ = ["filled", "fresh_kafka", "trainer_kafka"]


def retention_deletes_all(bootstrap: str) -> int:
    """Delete every record of every topic, as retention would; returns how many there were."""
    with contextlib.closing(admin_client(bootstrap)) as admin, contextlib.closing(consumer(bootstrap)) as reader:
        ends = {partition: end_offset(reader, *partition) for partition in partitions_of(reader, TOPICS)}
        admin.delete_records({partition: end for partition, end in ends.items() if end})
    return sum(ends.values())


def sx9(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sx9_ml_models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | env, check=False)


def seen(tmp_path: Path, name: str) -> list[Any]:
    """What commands make of the topics."""
    settings = load_settings()
    with topic_reader(settings) as reader:
        events = sorted(event.id for event in events_from_topics(reader, Counter()))
    export_journal(MODEL, tmp_path / name, settings)
    return [events, of_version(f"{MODEL}@v0001", None, last=10), (tmp_path / name).read_bytes()]


def test_commands_say_the_same_after_retention_deleted_everything(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen(tmp_path, "before")
    trainer = load_trainer_settings()
    assert queries.rebuildable_until_ms(load_settings(), trainer, MODEL) == {"v0001": math.inf}
    with s3_bucket() as bucket:
        done = sx9("archive", "--to", f"{bucket}/sx9", "--json")
        assert done.returncode == 0, done.stderr
        archived = {
            (each["topic"], each["partition"]): each["records"] for each in json.loads(done.stdout)["archived"]
        }
        assert archived[JOURNAL.name, partition_of(MODEL)] == 4
        assert archived[TRIGGERS.name, partition_of(MODEL)] == 1
        assert sum(archived.values()) == retention_deletes_all(filled) == 8
        with pytest.raises(Corrupt, match="older records were deleted"):
            seen(tmp_path, "without")
        assert queries.rebuildable_until_ms(load_settings(), trainer, MODEL) == {"v0001": 0.0}
        monkeypatch.setenv("SX9_ARCHIVE_URL", f"{bucket}/sx9")
        assert seen(tmp_path, "after") == before
        assert queries.rebuildable_until_ms(load_settings(), trainer, MODEL) == {"v0001": math.inf}

        gone = load_settings(kafka_bootstrap="127.0.0.1:9", state_dir=tmp_path / "none")
        export_journal(MODEL, tmp_path / "alone", gone, from_archive=True)
        assert (tmp_path / "alone").read_bytes() == before[2]

        storage = storage_at(f"{bucket}/sx9")
        assert sx9("archive", "--verify").returncode == 0
        journal = next(each for each in check_archive(storage) if each[0] == JOURNAL.name and each.records)
        folder = f"{journal.topic}/{journal.topic_id}/{journal.partition}"
        (name,) = (each for each in storage.names(folder) if each.endswith(".parquet"))
        data = bytearray(storage.read(f"{folder}/{name}"))
        data[len(data) // 2] ^= 1
        storage.write(f"{folder}/{name}", bytes(data))
        checked = sx9("archive", "--verify")
        assert checked.returncode == 1
        assert f"{folder}/{name} has sha256 {hashlib.sha256(data).hexdigest()}" in checked.stderr
        with pytest.raises(Corrupt, match=name):
            seen(tmp_path, "damaged")


def test_the_archive_process_repeats_its_run_and_ends_when_it_is_told_to(fresh_kafka: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    settings = load_settings(state_dir=tmp_path / "state", archive_url=str(archive))
    writer = producer(fresh_kafka)
    outbox, stop = RecordProducer(writer), threading.Event()

    def send(time_ms: int) -> None:
        outbox.send(JOURNAL.name, Tick(time_ms), key=MODEL, partition=partition_of(MODEL))
        outbox.flush()

    def archived() -> list[str]:
        return [path.name[:41] for path in sorted((archive / JOURNAL.name).rglob("*.parquet"))]

    send(1)
    ARCHIVED_AT.set(0)
    repeating = threading.Thread(target=archive_repeatedly, args=(settings, fresh_kafka, 0.1, stop))
    repeating.start()
    try:
        for wanted in (1, 2):
            while len(archived()) < wanted:
                assert repeating.is_alive()
                time.sleep(0.05)
            send(wanted + 1)
    finally:
        stop.set()
        repeating.join()
        writer.close()
    assert archived()[:2] == [f"{start:020d}-{start + 1:020d}" for start in (0, 1)]
    assert ARCHIVED_AT._value.get() > 0
