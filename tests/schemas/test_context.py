"""What is known of a technique as text, and the answers that it gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.context import (
    MAX_ASIDE_CHARS,
    MAX_LISTED,
    Context,
    Line,
    Question,
    answer,
    as_text,
    fitted,
    from_text,
    not_there,
    says_no_answer,
)
from schemas.prose import truncate

WORDS = st.sampled_from(("Lua", "SNMP (MIB Dump)", "/etc/passwd and /etc/shadow", "Data from Local System", "C2"))
IDS = st.sampled_from(("T1059", "T1059.011", "M1047", "DC0035", "AML.T0051.000"))
TEXTS = st.sampled_from(("Do it.", "Note: this (T1059) is odd", "One. " * 60 + "Two.", "Ünïcode, ja: x.", "..."))
LINES = st.one_of(
    st.builds(Line, role=st.sampled_from(("platforms", "description", "guidance")), text=TEXTS),
    st.builds(
        Line, role=st.sampled_from(("mitigation", "detection")), name=WORDS, id=st.just("") | IDS, text=TEXTS
    ),
)
CONTEXTS = st.builds(
    Context,
    name=WORDS,
    id=IDS,
    tactics=st.sampled_from(((), ("impact",), ("command-and-control", "defense-evasion"))),
    lines=st.lists(LINES, max_size=8).map(tuple),
)
AUDIT = Line(role="mitigation", name="Audit", id="M1047", text="Look at it. Then look again.")
LUA = Context(name="Lua", id="T1059.011", tactics=("execution",), lines=(AUDIT,))


@given(st.lists(CONTEXTS, min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_a_context_is_read_back_as_it_was_written(contexts: list[Context]) -> None:
    assert from_text(as_text(contexts)) == tuple(contexts)


@pytest.mark.parametrize("text", ["", "T1059.001 PowerShell", "Audit", "Lua (T1)\nNonsense: x", "Lua (T1)\n\nmore"])
def test_any_other_text_is_no_context(text: str) -> None:
    assert from_text(text) == ()


@given(CONTEXTS, st.sampled_from(("explain", "detect", "mitigate")), st.integers(100, 500))
@settings(max_examples=50, deadline=None)
def test_a_fitted_context_is_within_its_limit_and_lists_few_of_a_kind(
    context: Context, question: Question, max_chars: int
) -> None:
    short = fitted(context, question, max_chars)
    bare = Context(name=context.name, id=context.id, tactics=context.tactics)
    assert len(as_text([short])) <= max(max_chars, len(as_text([bare])))
    assert all(sum(line.role == role for line in short.lines) <= MAX_LISTED for role in ("mitigation", "detection"))
    assert from_text(as_text([short])) == (short,)


def test_what_answers_the_question_is_kept_where_not_everything_fits() -> None:
    long = Line(role="description", text="It is a long story. " * 20)
    context = Context(name="Lua", id="T1", lines=(long, AUDIT))
    assert [line.role for line in fitted(context, "mitigate", 70).lines] == ["mitigation"]
    assert [line.role for line in fitted(context, "explain", 270).lines] == ["description", "mitigation"]


def test_what_does_not_answer_the_question_is_short_and_one_line_of_a_kind() -> None:
    more = Line(role="detection", name="Log", text="Watch it all day and all night. " * 20)
    context = Context(name="Lua", id="T1", lines=(more, replace(more, name="Net"), AUDIT, replace(AUDIT, id="M1")))
    assert [line.name for line in fitted(context, "detect").lines] == ["Log", "Net", "Audit"]
    (aside,) = (line for line in fitted(context, "mitigate").lines if line.role == "detection")
    assert (aside.name, len(aside.text) <= MAX_ASIDE_CHARS) == ("Log", True)


def test_an_answer_lists_what_the_context_lists_with_the_ids_and_tells_of_one() -> None:
    assert answer(LUA, "mitigate") == (
        "Lua (T1059.011), which serves the tactic execution, can be mitigated with Audit (M1047). "
        "Audit: Look at it. Then look again."
    )
    assert answer(LUA, "explain") == "Lua (T1059.011) is a sub-technique that serves the tactic execution."


def test_what_the_context_does_not_say_is_said_to_be_unknown() -> None:
    lacking = "Lua (T1059.011), which serves the tactic execution, has no detection in the context."
    assert answer(LUA, "detect") == lacking
    assert says_no_answer(lacking)
    assert says_no_answer(not_there("Lua"))
    assert not says_no_answer(answer(LUA, "mitigate"))
    assert not says_no_answer(answer(LUA, "explain"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("The provided text does not mention any mitigations. Audit may help.", True),
        ("There is no information about it.", True),
        ("Lua (T1059.011) can be mitigated with Audit (M1047). It does not mention users.", False),
        ("", False),
    ],
)
def test_only_the_first_sentence_can_say_that_it_is_not_known(text: str, says: bool) -> None:
    assert says_no_answer(text) is says


@given(st.text(max_size=200), st.integers(5, 100))
@settings(max_examples=50, deadline=None)
def test_a_truncated_text_is_within_the_limit_and_a_text_that_fits_is_unchanged(text: str, max_chars: int) -> None:
    assert len(truncate(text, max_chars)) <= max_chars + len(" ...")
    assert truncate(text, len(text)) == text
