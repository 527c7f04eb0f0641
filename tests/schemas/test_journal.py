"""A journal knows which events it holds, also of a topic that was deleted and made again."""

from __future__ import annotations

import pytest

from schemas.journal import SeenOffsets, Source, is_redelivery, seen_offset


@pytest.mark.parametrize(
    ("events", "new"),
    [
        ([("a", 0), ("a", 1), ("a", 1), ("a", 0), ("a", 2)], [True, True, False, False, True]),
        ([("a", 5), ("b", 0), ("b", 0), ("b", 1)], [True, True, False, True]),
        ([("a", 5), ("b", 0), ("a", 5), ("a", 6), ("b", 0)], [True, True, False, True, False]),  # late records
        ([("", 5), ("", 5), ("a", 5), ("a", 6), ("b", 0)], [True, False, False, True, True]),
        ([("", 5), ("a", 2), ("b", 3)], [True, False, True]),  # what had no id was of the first topic with one
        ([("a", 5), ("b", 2), ("", 2), ("", 3)], [True, True, False, True]),  # no id: the present topic
    ],
)
def test_an_event_is_new_once_in_each_topic_of_a_name(events: list[tuple[str, int]], new: list[bool]) -> None:
    seen: SeenOffsets = {}
    sources = [Source("t", 0, offset, topic_id=topic_id) for topic_id, offset in events]
    assert [not is_redelivery(source, seen) for source in sources] == new


def test_the_offset_of_a_topic_that_no_record_names_is_that_of_the_records_without_an_id() -> None:
    assert [seen_offset(seen, "a") for seen in ({}, {"": 7}, {"b": 7}, {"b": 7, "a": 3})] == [-1, 7, -1, 3]
