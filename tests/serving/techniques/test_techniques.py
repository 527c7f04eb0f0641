"""The nearest examples: from events to techniques, with what they rest on, and nothing where nothing is near."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from schemas.errors import BadData
from schemas.events import Entity, Event, NodeRef, Relationship, Report, ReportSpan, Technique, Template
from schemas.journal import in_holdout, key_hash
from schemas.severity import KnownSeverity
from serving.techniques.examples import Removed, TechniqueExample, technique_example
from serving.techniques.index import MIN_HELD_OUT, TechniqueIndex, calibrate
from serving.techniques.store import ExampleStore
from tests.trainers.samples import MemoryLog

VERBS = {"T1003": "dumps credentials from lsass memory", "T1566": "sends phishing mail with attachments"}


def technique(id_: str, name: str, text: str) -> Technique:
    return Technique(id=id_, stix_id=f"attack-pattern--{id_}", name=name, text=text, feed="attack", release="17.1")


def procedure(number: int, id_: str, text: str) -> Relationship:
    return Relationship(
        id=f"relationship--{number}", relation="uses", text=text, feed="attack", release="17.1",
        source=NodeRef(id="malware--1", kind="malware", name="Mimikatz"),
        target=NodeRef(id=id_, kind="technique", name=id_),
    )  # fmt: skip


EVENTS: list[Event] = [
    technique("T1003", "OS Credential Dumping", "Adversaries may dump credentials."),
    technique("T1566", "Phishing", "Adversaries may send phishing messages."),
    *(procedure(n, id_, f"Malware{n} {VERBS[id_]} on host{n}.") for n, id_ in enumerate([*VERBS] * 300)),
]


def examples_of(events: list[Event]) -> list[TechniqueExample]:
    return [found for event in events if isinstance(found := technique_example(event), TechniqueExample)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExampleStore]:
    store = ExampleStore(tmp_path / "techniques.sqlite")
    yield store
    store.close()


def test_the_techniques_of_a_text_rest_on_the_examples_that_are_nearest() -> None:
    (found,) = TechniqueIndex(examples_of(EVENTS)).nearest(["The actor dumps lsass memory for credentials."], k=2)
    assert (found[0].id, found[0].name) == ("T1003", "OS Credential Dumping")
    assert len(found[0].examples) == 3
    assert {"lsass", "memory"} <= set(found[0].examples[0].text.rstrip(".").split())
    assert (found[0].examples[0].feed, found[0].examples[0].release) == ("attack", "17.1")


def test_a_technique_that_has_just_come_is_known() -> None:
    new = technique("T1999", "Quantum Tunnelling", "Adversaries may tunnel through quantum channels.")
    (found,) = TechniqueIndex(examples_of([*EVENTS, new])).nearest(["It tunnels through a quantum channel."], k=1)
    assert found[0].id == "T1999"


def test_a_text_without_a_known_word_has_no_techniques() -> None:
    assert TechniqueIndex(examples_of(EVENTS)).nearest(["xyzzy"]) == [[]]


def test_the_threshold_keeps_the_wanted_precision_on_held_out_examples() -> None:
    noisy = [
        msgspec.structs.replace(event, text="It does something on a host, somehow.", id=f"{event.id}x")
        for event in EVENTS
        if isinstance(event, Relationship)
    ]
    threshold = calibrate(examples_of([*EVENTS, *noisy]), precision=0.9)
    held = [e for e in examples_of([*EVENTS, *noisy]) if in_holdout(key_hash(e.key)) and e.key[0] == "r"]
    assert len(held) == threshold.examples >= MIN_HELD_OUT
    assert threshold.precision >= 0.9
    assert 0.2 < threshold.recall < 1.0


def test_with_too_few_held_out_examples_nothing_is_said() -> None:
    threshold = calibrate(examples_of(EVENTS[:10]))
    assert (threshold.score, threshold.precision) == (float("inf"), 0.0)


def test_an_index_without_examples_is_refused() -> None:
    with pytest.raises(BadData, match="fetch ATT&CK"):
        TechniqueIndex([])


REPORT = Report(
    id="r:1:0", document="1", name="APT report", text="They dumped lsass memory.", feed="annoctr",
    spans=(ReportSpan(start=0, end=4, kind="technique", id="T1003"), ReportSpan(start=0, end=4, kind="group")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("event", "techniques"),
    [
        (EVENTS[0], ("T1003",)),
        (procedure(1, "T1566", "It sends phishing mail."), ("T1566",)),
        (REPORT, ("T1003",)),
        (Template(id="sigma:1", name="LSASS access", techniques=("T1003",), feed="sigma"), ("T1003",)),
        (Template(id="nuclei:1", name="An old web panel", feed="nuclei"), None),
        (msgspec.structs.replace(EVENTS[0], status="revoked"), None),
        (msgspec.structs.replace(REPORT, spans=()), None),
    ],
)
def test_an_event_says_which_techniques_its_text_is_about(event: Event, techniques: tuple[str, ...] | None) -> None:
    found = technique_example(event)
    assert isinstance(found, Removed) if techniques is None else found.techniques == techniques  # type: ignore[union-attr]


def log_of(*events: Event, timestamp: int = 1) -> MemoryLog:
    log = MemoryLog(list(events), timestamp)
    log.topic, log.partition = "threat.techniques.v1", 0
    return log


def test_the_store_reads_only_what_is_new_and_keeps_the_latest(store: ExampleStore) -> None:
    first, second = EVENTS[0], EVENTS[1]
    assert store.catch_up([log_of(first, second)]) == 2
    edited = msgspec.structs.replace(first, text="They dump.")
    revoked = msgspec.structs.replace(second, status="revoked")
    assert store.catch_up([log_of(first, second, edited, revoked)]) == 2
    assert [(e.key, e.text) for e in store.examples()] == [("technique:T1003", "OS Credential Dumping. They dump.")]
    assert store.catch_up([log_of(first, second, edited, revoked)]) == 0


def test_the_store_begins_again_when_the_topics_are_others(store: ExampleStore) -> None:
    store.catch_up([log_of(EVENTS[0], EVENTS[1])])
    store.catch_up([log_of(EVENTS[1], EVENTS[1], timestamp=2)])
    assert [e.key for e in store.examples()] == ["technique:T1566"]


def test_a_damaged_store_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "techniques.sqlite"
    path.write_bytes(b"not a database, but longer than its header" * 10)
    store = ExampleStore(path)
    assert store.add(EVENTS[:2]) == 2
    store.close()


def test_the_store_knows_the_severity_of_a_cve_and_who_gives_it(store: ExampleStore) -> None:
    cve = Entity(id="CVE-2021-44228", kind="vulnerability", name="Log4Shell", severity="critical", feed="nvd")
    rule = Template(id="nuclei:1", name="x", cves=("CVE-2021-44228",), severity="high", feed="nuclei")
    store.add([cve, rule])
    assert store.severities(["CVE-2021-44228", "CVE-1999-1"]) == {
        "CVE-2021-44228": KnownSeverity("critical", "nvd")
    }
    store.add([msgspec.structs.replace(cve, severity="")])
    assert store.severities(["CVE-2021-44228"]) == {"CVE-2021-44228": KnownSeverity("high", "nuclei")}
