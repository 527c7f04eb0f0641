"""Events into journal records, and from where a new start reads events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.errors import RetryLater
from schemas.models import MODELS
from schemas.topics import DEAD_LETTERS, JOURNAL, TECHNIQUES, TEMPLATES
from streams.app.journal_sink import JournalSink
from streams.app.sink import Message
from tests.flow.material import group, technique, template, uses
from tests.flow.world import MODEL
from tests.streams.app.messages import Box, message, messages

PLACE = (TECHNIQUES.name, 2)
NAME = f"{TECHNIQUES.name}/2"


def sink(box: Box, seen: dict[str, int] | None = None, committed: dict[Any, int] | None = None) -> JournalSink:
    return JournalSink(box, dict.fromkeys(MODELS, seen or {}), committed or {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "learnt"),
    [
        (
            "distilbert-mitre",
            [
                ("technique:T1001", 0, False),
                ("relationship:relationship--1", 2, False),
                ("template:nuclei-templates:1", 3, False),
                ("technique:T1002", 4, True),
            ],
        ),
        ("phi3-mitre-lora", [("technique:T1001", 0, False), ("technique:T1002", 4, True)]),
        (
            "gnn-threat",
            [
                ("node:T1001", 0, False),
                ("node:intrusion-set--1", 1, False),
                ("link:relationship--1", 2, False),
                ("node:T1002", 4, True),
            ],
        ),
    ],
)
def test_each_event_that_teaches_something_is_one_example_that_names_its_source(
    model: str, learnt: list[tuple[str, int, bool]]
) -> None:
    box = Box()
    events = [technique(1), group(1), uses(1), template(1), technique(2, status="revoked")]
    sink(box).take(messages(events))
    found = box.of(JOURNAL.name, model)
    assert [(e.key, e.source.offset, e.retracted) for e in found] == learnt
    assert {e.source.timestamp_ms for e in found} == {1_600_000_000_000}
    assert box.flushed == len(box.sent)


def test_an_event_that_one_journal_holds_is_read_again_for_the_other_but_not_written_twice() -> None:
    box, held = Box(), {NAME: 7}
    late = JournalSink(box, {"distilbert-mitre": held, "phi3-mitre-lora": held}, {PLACE: 20})  # type: ignore[arg-type]
    assert late.positions([PLACE]) == {PLACE: 0}, "the graph's journal is new"
    late.take([message(technique(offset), offset, partition=PLACE[1]) for offset in range(10)])
    written = {model: [e.source.offset for e in box.of(JOURNAL.name, model)] for model in MODELS}
    assert written == {"distilbert-mitre": [8, 9], "phi3-mitre-lora": [8, 9], "gnn-threat": list(range(10))}


def test_only_the_journals_of_models_that_learn_from_a_topic_say_where_to_read_on() -> None:
    place = (TEMPLATES.name, 0)
    one = JournalSink(Box(), {"distilbert-mitre": {f"{TEMPLATES.name}/0": 7}}, {})  # type: ignore[arg-type]
    assert one.positions([place]) == {place: 8}


def test_a_template_teaches_its_severity_until_it_has_none_of_the_five() -> None:
    box = Box()
    good = msgspec.structs.replace(template(1), text="Finds a  default login.", tags=("cve", "panel"))
    unknown, old = (
        msgspec.structs.replace(good, **now) for now in ({"severity": "unknown"}, {"status": "deprecated"})
    )
    sink(box).take(messages([good, unknown, old]))
    first, *later = box.of(JOURNAL.name, MODEL)
    assert (first.text, first.labels, first.taxonomy) == (
        "Template 1. Tags: cve, panel. Finds a default login.",
        ("severity:high",),
        "nuclei-templates",
    )
    assert [(e.key, e.retracted, e.text, e.labels) for e in later] == [(first.key, True, "", ())] * 2


def test_what_does_not_decode_is_a_dead_letter_and_the_rest_goes_on() -> None:
    box = Box()
    sink(box).take(messages([technique(1), b"{nonsense", technique(2)], first=40, topic=TECHNIQUES.name))
    (letter,) = box.of(DEAD_LETTERS.name)
    assert (letter.origin, letter.reason, letter.payload) == (
        f"{TECHNIQUES.name}/0/41",
        "undecodable",
        b"{nonsense",
    )
    assert [e.source.offset for e in box.of(JOURNAL.name, MODEL)] == [40, 42]


def test_nothing_counts_as_taken_before_the_broker_has_it() -> None:
    with pytest.raises(RetryLater):
        sink(Box(away=1)).take([message(technique(1), 0)])


@pytest.mark.parametrize(
    ("seen", "committed", "position"),
    [
        ({}, 0, 0),
        ({NAME: 7}, 0, 8),  # the group's offset was lost: the journal itself knows
        ({NAME: 7}, 5, 8),  # killed between effect and commit
        ({NAME: 7}, 20, 20),  # what came after 7 taught nothing
        ({}, 20, 0),  # another journal, or none: what the group says is of the old one
    ],
)
def test_a_start_reads_from_where_the_journal_has_nothing_yet(
    seen: dict[str, int], committed: int, position: int
) -> None:
    assert sink(Box(), seen, {PLACE: committed}).positions([PLACE]) == {PLACE: position}


@pytest.mark.parametrize("observed", [b"", b"yesterday", b"\xff", b"0001-01-01", b"99999-01-01T00:00:00Z"])
def test_an_unreadable_time_of_observation_is_0(observed: bytes) -> None:
    box = Box()
    plain = message(technique(1), 0)
    sink(box).take([Message(*msgspec.structs.astuple(plain)[:5], observed)])
    assert box.of(JOURNAL.name, MODEL)[0].observed_ms == 0
