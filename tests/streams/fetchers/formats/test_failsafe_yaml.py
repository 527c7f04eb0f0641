"""YAML of others: what is read, and that no file can take the process down."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BadRecord
from streams.fetchers.base import limits
from streams.fetchers.formats.failsafe_yaml import documents


def test_scalars_stay_as_the_file_wrote_them() -> None:
    text = b"a: 010\nb: yes\nc: 2020-01-01\nd: 'null'\ne: null\nf:\ng: !!python/object/apply:os.system ['x']\n"
    assert list(documents(text)) == [
        {"a": "010", "b": "yes", "c": "2020-01-01", "d": "null", "e": None, "f": None, "g": ["x"]}
    ]


def test_an_alias_is_the_value_it_names_and_a_merge_key_is_only_a_key() -> None:
    assert list(documents(b"a: &x {k: v}\nb: *x\nc: {<<: *x}\n")) == [
        {"a": {"k": "v"}, "b": {"k": "v"}, "c": {"<<": {"k": "v"}}}
    ]


def test_each_document_comes_by_itself() -> None:
    assert list(documents(b"---\na: b\n---\n- c\n...\n")) == [{"a": "b"}, ["c"]]


def test_nothing_is_no_document() -> None:
    assert list(documents(b"# only a comment\n")) == []


LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("z"))
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a:\tb: c", "bad-yaml"),
        (b"a:\n\t- b", "cannot start any token"),
        (b"a: [b", "bad-yaml"),
        (b"a: *b", "bad-yaml"),
        (b"a: \xff", "bad-yaml"),
        ("a: b".encode("utf-16"), "only UTF-8"),
        (b"? [a]\n: b", "key of a mapping is a collection"),
        (LAUGHS, f"more than {limits.MAX_YAML_NODES} nodes"),
        (b"a: &a x\nb: [" + b"*a," * 101 + b"]", f"more than {limits.MAX_YAML_ALIASES} aliases"),
        (
            b"a: &a '" + b"b," * 450_000 + b"'\nc: [" + b"*a," * 99 + b"]",
            f"more than {limits.MAX_YAML_CHARS} characters",
        ),
        (b"a: &a [*a, *a]", f"more than {limits.MAX_YAML_NODES} nodes"),
        (b"[" * 200_000, f"more than {limits.MAX_YAML_DEPTH} levels"),
        (b"- " * 100_000 + b"x", f"more than {limits.MAX_YAML_DEPTH} levels"),
        (b"? " * 100_000 + b"x", "bad-yaml"),
        (b"{a: " * 100_000, f"more than {limits.MAX_YAML_DEPTH} levels"),
        (b"[" + b"x," * 300_000 + b"]", f"more than {limits.MAX_YAML_NODES} nodes"),
        (b"".join(b"%%TAG !a%d! x\n" % n for n in range(80_000)) + b"---\na: b", "80000 tag directives"),
    ],
)
def test_a_hostile_file_is_rejected_at_once(data: bytes, message: str) -> None:
    with pytest.raises(BadRecord, match=message) as raised:
        list(documents(data))
    assert raised.value.reason == "bad-yaml"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text("ab:-?[]{}&*!|>'\"%#@`~<, \n\t\\x0", max_size=40).map(str.encode))
def test_any_bytes_are_documents_or_bad_yaml(data: bytes) -> None:
    reason: str = "bad-yaml"
    found: list[object] = []
    try:
        found = list(documents(data))
    except BadRecord as error:
        reason = error.reason
    assert reason == "bad-yaml"
    assert all(d is None or isinstance(d, str | list | dict) for d in found)
