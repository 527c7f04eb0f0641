"""Passages: together they have all sentences, in order, and none is longer than it may be."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from serving.passages import Span, passages
from serving.reports.sentences import sentences

TEXTS = st.text(st.sampled_from('aZ1 .!?\n\t-*("’。é🦠'), max_size=300)


@given(TEXTS, st.integers(1, 80))
def test_the_passages_have_every_sentence_whole_and_in_order(text: str, length: int) -> None:
    parts = [Span(sentence.start, sentence.end) for sentence in sentences(text)]
    found = passages(parts, length)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert all(any(p.start <= part.start and part.end <= p.end for p in found) for part in parts)
    assert all(p.end - p.start <= length or p in parts for p in found)
