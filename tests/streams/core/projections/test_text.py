"""Texts without markup."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from streams.core.projections.text import MAX_TEXT_CHARS, clean_text


@given(st.text(max_size=60), st.sampled_from(("<code>x</code>", "[a](https://x.test)", "(Citation: X)", "")))
def test_a_cleaned_text_is_one_line_without_markup(text: str, markup: str) -> None:
    cleaned = clean_text(f"{text} {markup}")
    assert cleaned == re.sub(r"\s+", " ", cleaned).strip()
    assert markup not in cleaned or markup == ""


def test_a_long_text_is_truncated_and_an_empty_one_stays_empty() -> None:
    assert clean_text("a" * (MAX_TEXT_CHARS + 1)) == "a" * MAX_TEXT_CHARS
    assert clean_text(" \n") == ""
