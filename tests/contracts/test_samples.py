"""What was ever written can be read today, and means today what it meant then."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from schemas.codec import decode, encode
from schemas.errors import BadRecord
from schemas.journal import Promoted
from schemas.topics import TOPICS
from tests.contracts.record import SAMPLES, TYPES, meaning

RENAMED = {"End": "NodeRef"}
"""Name of a nested type in the samples -> its name today."""
Line = tuple[bytes, Any]
"""The bytes, and what they meant."""


def recorded(name: str) -> list[Line]:
    """The samples of a type, in which nested types have the names of today."""
    samples = [json.loads(text) for text in (SAMPLES / f"{name}.jsonl").read_text().splitlines()]
    return [(sample["written"].encode(), renamed(sample["meant"])) for sample in samples]


def renamed(meant: Any) -> Any:
    """The meaning of a sample, with the names that types have today; the names of types are not written."""
    if isinstance(meant, dict):
        return {k: RENAMED.get(v, v) if k == "" else renamed(v) for k, v in meant.items()}
    return [renamed(one) for one in meant] if isinstance(meant, list) else meant


def broken(sample: Line, record: Any) -> str:
    """What of a sample a type doesn't keep; empty if it keeps everything. It may say more than was said then."""
    written, meant = sample
    try:
        today = decode(written, record)
    except BadRecord as error:
        return str(error)
    return lost(meant, meaning(today)) or lost(meant, meaning(decode(encode(today), record)))


def lost(then: Any, now: Any, where: str = "record") -> str:
    """The first place where `now` is not what `then` was; fields that are new are fine."""
    if isinstance(then, dict) and isinstance(now, dict):
        missing = sorted(then.keys() - now.keys())
        if missing:
            return f"{where} has lost {missing}"
        return next(filter(None, (lost(then[key], now[key], f"{where}.{key}") for key in then)), "")
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return next(filter(None, (lost(a, b, f"{where}[{n}]") for n, (a, b) in pairs)), "")
    same = then == now and type(then) is type(now)
    return "" if same else f"{where} was {then!r}, is {now!r}"


def fields_of(record: Any) -> set[str]:
    """`Type.field` of a struct and of what it is made of, as the wire could say them."""
    found: set[str] = set()
    todo: list[Any] = [msgspec.inspect.type_info(record)]
    while todo:
        info = todo.pop()
        if isinstance(info, msgspec.inspect.StructType):
            found |= {f"{info.cls.__name__}.{field.name}" for field in info.fields}
            todo += [field.type for field in info.fields]
        else:
            todo += [*getattr(info, "types", ())]
            parts = (getattr(info, name, None) for name in ("item_type", "value_type"))
            todo += [part for part in parts if part is not None]
    return found


def fields_said(written: Any, meant: Any) -> set[str]:
    """`Type.field` of what the bytes themselves say."""
    if isinstance(meant, dict):
        kind = meant.get("")
        said = {f"{kind}.{name}" for name in meant if kind and name in written}
        return said.union(*(fields_said(written[name], meant[name]) for name in meant if name in written))
    if isinstance(meant, list):
        return set().union(*(fields_said(*pair) for pair in zip(written, meant, strict=True)))
    return set()


@pytest.mark.parametrize("name", TYPES)
def test_what_was_written_then_is_read_today_and_means_the_same(name: str) -> None:
    lines = recorded(name)
    assert lines
    assert [problem for sample in lines if (problem := broken(sample, TYPES[name]))] == []


def test_every_type_on_a_topic_has_samples() -> None:
    assert {path.stem for path in SAMPLES.iterdir()} == set(TYPES)
    covered = set().union(*(fields_of(record) for record in TYPES.values()))
    assert set().union(*(fields_of(topic.record) for topic in TOPICS)) <= covered


@pytest.mark.parametrize("record", {id(record): record for record in TYPES.values()}.values())
def test_every_field_is_said_by_some_sample(record: Any) -> None:
    """A field that is new: say it in tests/contracts/record.py, and run `python -m tests.contracts.record`."""
    lines = [sample for name, one in TYPES.items() if one is record for sample in recorded(name)]
    said = set().union(*(fields_said(json.loads(written), meant) for written, meant in lines))
    assert fields_of(record) - said == set()


SAMPLE = recorded("promoted")[0]


def struct(fields: list[Any], tag: str = "promoted") -> Any:
    """`Promoted` with other fields."""
    return msgspec.defstruct("Promoted", fields, kw_only=True, tag=tag)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            struct([("trigger", str), ("version", str), ("time_ms", int), ("by", str)]),
            "missing required field `by`",
        ),
        (struct([("trigger", str), ("version", str), ("when_ms", int, 0)]), r"record has lost \['time_ms'\]"),
        (struct([("trigger", str), ("version", str), ("time_ms", str)]), "Expected `str`, got `int`"),
        (struct([("trigger", str), ("version", str), ("time_ms", float)]), r"time_ms was 1, is 1\.0"),
        (struct([("trigger", str), ("version", str), ("time_ms", int)], "serving"), "Invalid value 'promoted'"),
    ],
)
def test_a_change_that_breaks_old_records_is_seen(changed: Any, problem: str) -> None:
    assert re.search(problem, broken(SAMPLE, changed))


def test_a_default_that_changes_is_seen() -> None:
    def version(default: int) -> Any:
        return msgspec.defstruct("Then", [("name", str), ("margin", int, default)], omit_defaults=True)

    record = version(1)(name="n")
    assert broken((encode(record), meaning(record)), version(2)) == "record.margin was 1, is 2"


def test_a_new_field_with_a_default_breaks_nothing() -> None:
    more = struct([("trigger", str), ("version", str), ("time_ms", int), ("by", str, "")])
    assert (broken(SAMPLE, more), broken(SAMPLE, Promoted)) == ("", "")


def test_a_reader_of_today_passes_over_a_field_of_tomorrow() -> None:
    assert decode(SAMPLE[0].replace(b"{", b'{"by":"somebody",', 1), Promoted) == decode(SAMPLE[0], Promoted)
