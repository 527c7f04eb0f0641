"""Datasets: the latest example counts, the holdout is never trained on, what is not trained on has a reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import Corrupt
from schemas.journal import Example
from schemas.windows import Span, Trigger
from tests.trainers.samples import example, examples, held_out, trigger
from trainers.core.dataset import Dataset, build, example_fingerprint, split, text_hash


def made(journal: list[Example], asked: Trigger, **more: Any) -> Dataset:
    """The dataset of a trigger over a journal whose offsets are places in the list."""
    window = [(o, e) for o, e in enumerate(journal) if asked.spans[0].start <= o < asked.spans[-1].end]
    return build(asked, window, dict(enumerate(journal)), **more)


def keys(placed: tuple[tuple[int, Example], ...]) -> set[str]:
    return {e.key for _, e in placed}


def test_the_holdout_is_never_trained_on() -> None:
    journal = examples(400)
    data = made(journal, trigger(journal, 200, 400, parent="v0001"))
    assert data.fresh
    assert data.rehearsal
    assert data.old
    assert data.recent
    assert not any(held_out(e) for _, e in data.train)
    assert all(held_out(e) for _, e in data.old + data.recent)
    assert not keys(data.old) & keys(data.recent)


def test_every_training_example_of_the_windows_is_there_once() -> None:
    journal = examples(300)
    data = made(journal, trigger(journal, 100, 300))
    assert [e.key for _, e in data.fresh] == [e.key for e in journal[100:300] if not held_out(e)]
    assert data.left_out == data.leaks == 0


def test_a_later_example_of_a_key_supersedes_the_earlier() -> None:
    journal = examples(60)
    edited = next(e for e in journal if not held_out(e))
    journal.append(example(900, ["exfiltration"], key=edited.key))
    data = made(journal, trigger(journal, 0, 61))
    assert [(o, e.labels) for o, e in data.fresh if e.key == edited.key] == [(60, ("exfiltration",))]


def test_a_retracted_key_is_trained_on_neither_from_the_window_nor_from_rehearsal() -> None:
    journal = examples(60)
    inside, before = (next(e for e in part if not held_out(e)) for part in (journal[30:], journal[:30]))
    asked = trigger(journal, 30, 60)
    asked = msgspec.structs.replace(asked, spans=(*asked.spans, Span(60, 62, 0, "")))
    assert before.key in keys(made(journal, trigger(journal, 30, 60)).rehearsal)
    journal += [example(900 + i, [], key=e.key, retracted=True) for i, e in enumerate((inside, before))]
    data = made(journal, asked)
    assert data.fresh
    assert not {inside.key, before.key} & keys(data.train)


def test_a_holdout_key_is_judged_by_its_latest_example_only() -> None:
    journal = examples(200)
    edited = next(e for e in journal[:100] if held_out(e))
    journal.append(example(900, ["exfiltration"], key=edited.key))
    data = made(journal, trigger(journal, 100, 201))
    assert edited.key not in keys(data.old)
    assert [e.labels for _, e in data.recent if e.key == edited.key] == [("exfiltration",)]


def test_a_retracted_holdout_key_is_not_judged() -> None:
    journal = examples(200)
    gone = next(e for e in journal if held_out(e))
    asked = trigger(journal, 0, 200)
    journal.append(example(900, [], key=gone.key, retracted=True))
    asked = msgspec.structs.replace(asked, holdout_recent=(*asked.holdout_recent, 200))
    assert gone.key not in keys(made(journal, asked).recent)


def test_a_training_example_with_the_text_of_a_holdout_example_is_left_out() -> None:
    journal = examples(200)
    judged = next(e for e in journal if held_out(e))
    place, twin = next((i, e) for i, e in enumerate(journal) if not held_out(e))
    journal[place] = msgspec.structs.replace(twin, text=f"  {judged.text.upper()} ")
    data = made(journal, trigger(journal, 0, 200))
    assert twin.key not in keys(data.fresh)
    assert judged.key in keys(data.recent)
    assert data.leaks == 1


def test_a_holdout_text_that_an_ancestor_trained_on_is_not_judged() -> None:
    journal = examples(200)
    judged = next(e for e in journal if held_out(e))
    data = made(journal, trigger(journal, 0, 200), trained_texts=frozenset({text_hash(judged.text)}))
    assert judged.key not in keys(data.recent)
    assert data.leaks == 1


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_training_example_of_the_windows_is_fresh_once_or_dropped_with_a_reason(data: st.DataObject) -> None:
    """Edits and retractions within the windows and after them, and texts of the holdout."""
    journal = examples(30)
    for number in range(data.draw(st.integers(0, 30))):
        earlier = data.draw(st.sampled_from(journal))
        kind = data.draw(st.sampled_from(["edited", "retracted", "same text"]))
        key = "" if kind == "same text" else earlier.key
        text = earlier.text if kind == "same text" else ""
        journal.append(example(900 + number, ["impact"], key=key, text=text, retracted=kind == "retracted"))
    end = data.draw(st.integers(1, len(journal)))
    later = {e.key: e for e in journal[end:]}
    found = made(journal, trigger(journal, 0, end), later=later)
    trained = sum(not e.retracted and not held_out(e) for e in journal[:end])
    assert len(found.fresh) + sum(found.dropped.values()) == trained
    assert len(keys(found.fresh)) == len(found.fresh)
    assert not keys(found.fresh) & later.keys()
    assert found.dropped.keys() <= {"superseded", "retracted", "holdout-text"}


def test_what_was_superseded_or_retracted_before_its_turn_is_dropped_and_counted() -> None:
    journal = examples(60)
    edited, gone = (e for e, _ in zip((e for e in journal if not held_out(e)), range(2), strict=False))
    later = {
        edited.key: example(900, ["exfiltration"], key=edited.key),
        gone.key: example(901, [], key=gone.key, retracted=True),
    }
    data = made(journal, trigger(journal, 0, 60), later=later)
    assert data.dropped == {"retracted": 1, "superseded": 1}
    assert not later.keys() & keys(data.train)


def test_a_journal_with_other_counts_than_the_trigger_is_corrupt() -> None:
    journal = examples(60)
    asked = trigger(journal, 0, 60)
    with pytest.raises(Corrupt, match=r"offsets 0 to 60: \d+ training examples, but trigger .* counted"):
        made(journal[:-5], asked)


def test_an_empty_window_gives_an_empty_dataset() -> None:
    data = build(Trigger(model="m", number=1, offset=0, reason="manual", at_ms=0), [], {})
    assert data == Dataset()
    assert data.newest_event_ms == 0


def test_a_run_without_a_journal_takes_what_no_ancestor_has_seen_as_fresh() -> None:
    journal = examples(300)
    first = split(journal[:200], 10_000, 17)
    assert (first.rehearsal, first.old) == ((), ())
    known = {example_fingerprint(e) for _, e in first.train + first.recent}
    edited = msgspec.structs.replace(first.fresh[0][1], hash="edited", text="another text")
    second = split([*journal, edited], 10_000, 17, known=known)
    assert keys(second.fresh) == {e.key for e in journal[200:] if not held_out(e)} | {edited.key}
    assert keys(second.rehearsal) == keys(first.fresh) - {edited.key}
    assert (keys(second.old), keys(second.recent)) == (
        keys(first.recent), {e.key for e in journal[200:] if held_out(e)},
    )  # fmt: skip
    bounded = split(journal, 30, 17, known=known)
    assert (len(bounded.fresh), bounded.left_out) == (30, len(second.fresh) - 1 - 30)
