"""Which kind of change is what, and what of it is published."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.encoding import encode_event
from schemas.errors import BadRecord
from schemas.events import Event, NodeRef, Relationship, Technique
from schemas.topics import TECHNIQUES, topic_of
from streams.fetchers.base import limits
from streams.fetchers.base.diff import kind_of, plan_changes
from streams.fetchers.base.entries import Entry, entry_of
from streams.fetchers.base.feed import LeftOut, UnchangedFile, rejected_item

NOW_MS = 1_700_000_000_000
T1 = Technique(
    id="T1001", feed="f", release="1.0", modified_ms=100, stix_id="attack-pattern--1", name="One", text="x"
)
R1 = Relationship(
    id="relationship--1",
    feed="f",
    modified_ms=100,
    relation="uses",
    source=NodeRef(id="g", kind="group", name="G"),
    target=NodeRef(id="T1001", kind="technique", tactics=("defense-evasion",)),
)
RELABELLED = NodeRef(id="T1001", kind="technique", tactics=("stealth",))


def entry(event: Any) -> Entry:
    return entry_of(encode_event(event))


def published(*events: Any) -> dict[str, dict[str, Entry]]:
    found: dict[str, dict[str, Entry]] = {}
    for event in events:
        found.setdefault(topic_of(event).name, {})[event.id] = entry(event)
    return found


def planned(*outcomes: Any, before: Any = (), dead_letters: Any = ()) -> Any:
    encoded = [encode_event(outcome) if isinstance(outcome, Event) else outcome for outcome in outcomes]
    return plan_changes(encoded, TECHNIQUES.name, published(*before), dict(dead_letters), NOW_MS)


@pytest.mark.parametrize(
    ("event", "known", "fields", "kind"),
    [
        (T1, None, {}, "new"),
        (T1, None, {"status": "revoked"}, "new"),
        (T1, T1, {}, "unchanged"),
        (T1, T1, {"release": "2.0"}, "unchanged"),
        (T1, T1, {"modified_ms": 200}, "touched"),
        (T1, T1, {"modified_ms": 50}, "unchanged"),
        (T1, T1, {"modified_ms": 200, "text": "y"}, "edited"),
        (T1, T1, {"text": "y"}, "edited"),
        (T1, T1, {"modified_ms": 50, "text": "y"}, "stale"),
        (T1, T1, {"modified_ms": 200, "status": "revoked", "revoked_by": "T1002"}, "revoked"),
        (T1, T1, {"modified_ms": 200, "status": "deprecated"}, "deprecated"),
        (R1, R1, {"target": RELABELLED}, "relabelled"),
        (R1, R1, {"modified_ms": 200, "target": RELABELLED}, "relabelled"),
        (R1, R1, {"target": RELABELLED, "text": "y"}, "edited"),
        (R1, R1, {"modified_ms": 200, "text": "y"}, "edited"),
    ],
)
def test_the_kind_of_a_change(event: Any, known: Any, fields: dict[str, Any], kind: str) -> None:
    now = entry(msgspec.structs.replace(event, **fields))
    assert kind_of(now, known and entry(known), batch_is_older=False) == kind


def test_a_revoked_object_that_is_edited_or_comes_back_is_edited() -> None:
    revoked = msgspec.structs.replace(T1, status="revoked")
    for later in (msgspec.structs.replace(revoked, text="y"), T1):
        assert kind_of(entry(later), entry(revoked), batch_is_older=False) == "edited"


def test_an_older_release_does_not_relabel_back() -> None:
    newer = msgspec.structs.replace(T1, id="T1002", modified_ms=300)
    edited = msgspec.structs.replace(T1, tactics=("stealth",), modified_ms=200)
    relabelled = msgspec.structs.replace(R1, target=RELABELLED)
    found = planned(T1, R1, before=[edited, newer, relabelled])
    assert (found.events, found.counts["stale"], found.counts["absent"], found.is_older) == ([], 2, 1, True)


def test_a_batch_that_lost_what_was_modified_last_is_not_older() -> None:
    newer = msgspec.structs.replace(T1, id="T1002", modified_ms=300)
    found = planned(T1, R1, before=[T1, R1, newer])
    assert (found.absent, found.is_older) == (((TECHNIQUES.name, "T1002"),), False)


def test_only_news_are_published_in_the_order_of_the_batch() -> None:
    new = msgspec.structs.replace(T1, id="T1003")
    edited = msgspec.structs.replace(T1, text="y")
    found = planned(new, R1, edited, before=[T1, R1])
    assert [(encoded.event.id, kind) for encoded, kind in found.events] == [("T1003", "new"), ("T1001", "edited")]
    assert found.counts["unchanged"] == 1


def test_files_that_were_not_read_are_there_and_unchanged() -> None:
    found = planned(UnchangedFile("T1001"), UnchangedFile("", "bad-yaml"), before=[T1, R1])
    assert (found.counts["unchanged"], found.counts["absent"], found.rejected) == (1, 1, {"bad-yaml": 1})


def test_the_same_bad_object_is_not_dead_lettered_twice_but_still_counted() -> None:
    bad = rejected_item("f:x", BadRecord("no-id", "here"), b"{}")
    first = planned(bad, bad)
    assert (first.dead_letters, first.rejected) == ([bad], {"no-id": 2})
    again = planned(bad, dead_letters={bad.origin: bad.digest}.items())
    assert (again.dead_letters, again.rejected) == ([], {"no-id": 1})
    worse = rejected_item("f:x", BadRecord("no-id", "here"), b"{ }")
    assert planned(worse, dead_letters={bad.origin: bad.digest}.items()).dead_letters == [worse]


def test_what_is_left_out_is_counted_and_is_no_dead_letter() -> None:
    found = planned(LeftOut("f:x", "other-domain"), LeftOut("f:y", "other-domain"))
    assert (found.rejected, found.dead_letters, found.events) == ({"other-domain": 2}, [], [])


def test_a_rejected_item_keeps_no_more_bytes_than_its_dead_letter_and_is_known_by_all_of_them() -> None:
    one = rejected_item("f:x", BadRecord("bad-json", "here"), memoryview(b"x" * 300_000))
    other = rejected_item("f:x", BadRecord("bad-json", "here"), b"x" * 299_999 + b"y")
    assert (one.payload, one.payload_bytes, one.payload == other.payload) == (b"x" * 100_000, 300_000, True)
    assert one.digest != other.digest


def test_a_change_dated_in_the_future_is_rejected_lest_it_makes_all_later_ones_stale() -> None:
    liar = msgspec.structs.replace(T1, modified_ms=NOW_MS + limits.FUTURE_MS + 1)
    early = msgspec.structs.replace(T1, modified_ms=NOW_MS + limits.FUTURE_MS)
    assert planned(liar).rejected == {"future-time": 1}
    assert planned(early).counts["new"] == 1


def test_a_run_writes_a_bounded_number_of_dead_letters_and_one_that_says_how_many_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_DEAD_LETTERS", 3)
    bad = [rejected_item(f"f:{n}", BadRecord("no-id" if n < 8 else "no-name", "here"), b"{}") for n in range(10)]
    found = planned(*bad)
    *letters, more = found.dead_letters
    assert (letters, found.rejected) == (bad[:3], {"no-id": 8, "no-name": 2})
    assert (more.origin, more.error.reason) == ("f:more", "more-rejected")
    assert more.error.detail.startswith(
        "7 more items were rejected (5 no-id, 2 no-name); a run writes 3 dead letters"
    )
    known = {letter.origin: letter.digest for letter in found.dead_letters}
    assert planned(*bad, dead_letters=known.items()).dead_letters == []
    assert [o.origin for o in planned(*bad[:9], dead_letters=known.items()).dead_letters] == ["f:more"]
    assert len(planned(*bad[:3]).dead_letters) == 3


def test_an_event_that_does_not_fit_its_topic_is_rejected_and_is_there() -> None:
    large = msgspec.structs.replace(T1, text="y")
    outcomes = [encode_event(event) for event in (large, R1)]
    published = {"threat.techniques.v1": {T1.id: entry(T1)}}
    found = plan_changes(
        outcomes, "threat.techniques.v1", published, {}, NOW_MS,
        lambda e: BadRecord("too-large-for-topic", "here") if e.event.id == T1.id else None,
    )  # fmt: skip
    assert ([e.event.id for e, _ in found.events], found.oversized) == ([R1.id], 1)
    assert (found.rejected, found.counts["edited"], found.counts["absent"]) == ({"too-large-for-topic": 1}, 0, 0)
    assert [letter.origin for letter in found.dead_letters] == [f"{T1.feed}:{T1.id}"]
