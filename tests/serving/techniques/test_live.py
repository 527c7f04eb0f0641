"""The techniques that a server says follow the topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas.events import Entity
from serving.techniques.live import REBUILD_S, LiveTechniques
from serving.techniques.store import ExampleStore
from tests.clock import Clock
from tests.serving.techniques.test_techniques import EVENTS, technique
from tests.trainers.samples import MemoryLog


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> Iterator[LiveTechniques]:
    made = LiveTechniques(ExampleStore(None), clock)
    yield made
    made.close()


def ids(live: LiveTechniques, text: str) -> list[str]:
    return [each.id for each in live.said([text])[0]]


def test_before_the_first_example_nothing_is_said(live: LiveTechniques) -> None:
    live.refresh([MemoryLog([])])
    assert live.threshold is None
    assert live.said(["It dumps credentials (T1003)."]) == [()]


def test_a_technique_that_came_is_said_after_the_next_index_and_not_one_for_each_event(
    live: LiveTechniques, clock: Clock
) -> None:
    log = MemoryLog(EVENTS)
    live.refresh([log])
    assert ids(live, "Malware dumps credentials from lsass memory.") == ["T1003"]
    text = "It tunnels data through quantum channels of adversaries."
    log.append(technique("T1999", "Quantum Tunnelling", text))
    clock.now = REBUILD_S - 1
    live.refresh([log])
    assert "T1999" not in ids(live, text)
    clock.now = REBUILD_S
    live.refresh([log])
    assert ids(live, text)[0] == "T1999"


def test_an_id_in_a_sentence_is_said_as_stated(live: LiveTechniques) -> None:
    live.refresh([MemoryLog(EVENTS)])
    (said,) = live.said(["Nothing near, but T1566 by its id."])[0]
    assert (said.id, said.by, said.name) == ("T1566", "stated", "Phishing")


def test_severities_of_texts_are_those_that_they_state_or_that_feeds_give_their_cves(live: LiveTechniques) -> None:
    cve = Entity(id="CVE-2024-0001", kind="vulnerability", name="A hole", external_id="CVE-2024-0001",
                 severity="critical", feed="cve-nvd")  # fmt: skip
    live.refresh([MemoryLog([cve])])
    found = live.severity("They used CVE-2024-0001.")
    assert found is not None
    assert found.severity == "critical"
    assert live.severity("They used CVE-2024-0002.") is None
