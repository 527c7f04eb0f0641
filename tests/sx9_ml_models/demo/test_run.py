"""The demo is killed with SIGKILL three times and continued: nothing is lost, and nothing happens twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.journal import Example, Promoted, Refused, Source, Tick
from schemas.models import MODELS
from schemas.topics import EVENT_TOPICS, JOURNAL, TRIGGERS, VERSIONS, WINDOWS
from schemas.windows import Trigger, Window
from streams.core.fold import fold, initial
from streams.core.projections.base import project
from streams.local.services import services
from streams.settings import load_settings
from sx9_ml_models.demo.history import load_history
from sx9_ml_models.queries import records
from trainers.store.registry import Registry
from transport.kafka import consumer, end_offset, read_ranges
from transport.topics import partitions_of

EVENTS = 3_000
"""Enough for a first version and windows after it."""
MODEL = MODELS[0]
"""The only model for which this number of events is enough for a version."""
KILLS = (9.0, 14.0, 22.0)
"""Seconds after which the demo is killed, each time further into its work."""
Topics = dict[str, list[tuple[int, Any]]]
"""Topic, or model and topic -> (offset, record)."""
QUICK = """
import sys
from sx9_ml_models.demo import policy
small = policy.POLICY_TOML.replace("run_examples = 2000", "run_examples = 300")
assert small != policy.POLICY_TOML
policy.POLICY_TOML = small
from sx9_ml_models.cli.app import main
main()
"""


def _start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", QUICK, "demo", "--folder", str(folder), "--templates", "none"]
    with _log(folder).open("wb") as out:
        return subprocess.Popen(
            [*command, "--events", str(EVENTS), *more],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _log(folder: Path) -> Path:
    return folder.with_suffix(".log")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that was killed three times and then ran to its end."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    rng = random.Random(17)
    for number, seconds in enumerate(KILLS):
        process = _start(folder, *(["--continue"] if number else []))
        time.sleep(seconds + rng.random() * 3)
        assert process.poll() is None, _log(folder).read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = _start(folder, "--continue")
    assert last.wait() == 0, _log(folder).read_text()
    assert "v0001" in _log(folder).read_text()
    return folder


@pytest.fixture(scope="module")
def topics(folder: Path) -> Topics:
    """The records of all topics after the demo, and under `ids` the `ce_id` headers of all events."""
    settings = load_settings(state_dir=folder / "state")
    with services(settings, neo4j=False) as endpoints:
        reader = consumer(endpoints.kafka_bootstrap)
        try:
            found = {
                f"{model} {topic.name}": list(records(reader, topic, model))
                for model in MODELS
                for topic in (JOURNAL, WINDOWS, TRIGGERS)
            }
            found[VERSIONS.name] = list(records(reader, VERSIONS))
            ranges = {
                partition: (0, end_offset(reader, *partition)) for partition in partitions_of(reader, EVENT_TOPICS)
            }
            ids = [
                (m.offset, dict(m.headers)["ce_id"]) for messages in read_ranges(reader, ranges) for m in messages
            ]
        finally:
            reader.close()
    return found | {"ids": ids}


def test_the_commands_that_the_demo_prints_at_its_end_work_and_its_pictures_are_there(folder: Path) -> None:
    printed = _log(folder).read_text()
    assert "\x1b" not in printed, "no control codes in a file"
    pictures, _, commands = printed.partition("pictures:")[2].partition("what to do next:")
    paths = [Path(line.strip()) for line in pictures.splitlines() if line.strip()]
    assert {path.name for path in paths} >= {"versions.png", "curves.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    lines = [line.strip() for line in commands.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, bool(done.stdout.strip())) == (0, True), f"{line}: {done.stderr}"


def test_every_event_is_on_its_topic_once(topics: Topics) -> None:
    times = Counter(identity for _, identity in topics["ids"])
    assert len(times) == EVENTS
    assert set(times.values()) == {1}


@pytest.mark.parametrize("model", MODELS)
def test_every_example_is_folded_once(folder: Path, topics: Topics, model: str) -> None:
    settings = load_settings(state_dir=folder / "state")
    wanted: Counter[str] = Counter()
    for chunk in load_history(settings, EVENTS):
        wanted.update(e.key for each in chunk.events if (e := project(model, each.event, Source("", 0, 0))))
    sources = {r.source: r.key for _, r in topics[f"{model} {JOURNAL.name}"] if isinstance(r, Example)}
    assert Counter(sources.values()) == wanted


@pytest.mark.parametrize("model", MODELS)
def test_windows_and_triggers_are_those_of_the_fold_and_once_each(topics: Topics, model: str) -> None:
    _, outputs = fold(initial(model), topics[f"{model} {JOURNAL.name}"])
    assert [w for _, w in topics[f"{model} {WINDOWS.name}"]] == [o for o in outputs if isinstance(o, Window)]
    assert [t for _, t in topics[f"{model} {TRIGGERS.name}"]] == [o for o in outputs if isinstance(o, Trigger)]
    assert bool(topics[f"{model} {TRIGGERS.name}"]) is (model == MODEL)


@pytest.mark.parametrize("model", MODELS)
def test_every_journal_gets_the_date_of_every_chunk_once(folder: Path, topics: Topics, model: str) -> None:
    settings = load_settings(state_dir=folder / "state")
    ticks = [record.time_ms for _, record in topics[f"{model} {JOURNAL.name}"] if isinstance(record, Tick)]
    assert ticks == [chunk.time_ms for chunk in load_history(settings, EVENTS)]


def test_every_trigger_is_answered_once_and_every_version_is_announced_once(folder: Path, topics: Topics) -> None:
    answers = [r.trigger for _, r in topics[f"{MODEL} {JOURNAL.name}"] if isinstance(r, Promoted | Refused)]
    assert answers == [t.id for _, t in topics[f"{MODEL} {TRIGGERS.name}"]]
    announced = [v.id for _, v in topics[VERSIONS.name]]
    assert len(announced) == len(set(announced))
    registry = Registry(folder / "output" / "models")
    for manifest in registry.versions(MODEL):
        assert registry.verified(MODEL, manifest.version).trigger in answers


def test_the_commands_show_what_the_demo_did(folder: Path, topics: Topics) -> None:
    def sx9(*arguments: str) -> Any:
        where = ["--state-dir", str(folder / "state"), "--output-dir", str(folder / "output")]
        command = [sys.executable, "-m", "sx9_ml_models", *where, *arguments, "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)

    assert [w["id"] for w in sx9("windows", "--last", "1000")] == [
        w.id for _, w in topics[f"{MODEL} {WINDOWS.name}"]
    ]
    shown = sx9("triggers")
    assert [t["id"] for t in shown] == [t.id for _, t in topics[f"{MODEL} {TRIGGERS.name}"]]
    assert sx9("triggers", "--model", "gnn-threat") == []
    assert all(d["why"] for d in sx9("triggers", "--declined", "--model", "phi3-mitre-lora"))
    assert {t["answer"] for t in shown} <= {"promoted", "refused"}
    assert all(d["why"] for d in sx9("triggers", "--declined"))
    versions = sx9("models", "list")
    assert [v["version"] for v in versions] == [
        m.version for m in Registry(folder / "output" / "models").versions(MODEL)
    ]
    assert sx9("models", "show", "v0001")["trigger"] == shown[0]["id"]
    assert sx9("status")["running"] is False
