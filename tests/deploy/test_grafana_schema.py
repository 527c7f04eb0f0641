"""The dashboards hold to the schema that Grafana publishes: no unknown field, no value of a wrong type.

`grafana-foundation-sdk` is that schema as Python classes, generated from the definitions of Grafana. Reading a
dashboard with them drops what they do not know, and checks no type; so what was read is compared with the file, and
each value with the type of its attribute.
"""

from __future__ import annotations

import copy
import enum
import json
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.monitoring.dashboards import dashboards

register_default_plugins()
BOARDS = dashboards()
OF_PROMETHEUS = {"step", "titleFormat", "useValueForTime"}
"""Fields of an annotation that its data source reads; the schema of dashboards does not list them."""


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_dashboard_holds_to_the_published_schema(board: dict[str, Any]) -> None:
    assert list(violations(board)) == []


def test_a_unit_of_a_panel_is_one_that_grafana_knows() -> None:
    known = {value for value in vars(units).values() if isinstance(value, str)}
    used = {panel["fieldConfig"]["defaults"]["unit"] for board in BOARDS.values() for panel in board["panels"]}
    assert used <= known
    assert "percentunits" not in known


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("panels", 0, "gridPoss"), {}, "panels[0].gridPoss is unknown"),
        (("panels", 0, "options", "orientaton"), "horizontal", "panels[0].options.orientaton is unknown"),
        (("panels", 0, "options", "orientation"), "sideways", "panels[0].options.orientation: 'sideways'"),
        (("panels", 0, "targets", 0, "expression"), "up", "panels[0].targets[0].expression is unknown"),
        (("panels", 0, "fieldConfig", "defaults", "max"), "1", "panels[0].field_config.defaults.max_val: '1'"),
        (("templating", "list", 0, "refresh"), "often", "templating.list_val[0].refresh: 'often'"),
        (("annotations", "list", 0, "colour"), "red", "annotations.list[0].colour is unknown"),
        (("schemaVersion",), "39", "schema_version: '39'"),
        (("panels", 6, "transformations", 0, "idd"), "x", "panels[6].transformations[0].idd is unknown"),
    ],
)
def test_what_the_schema_does_not_allow_is_seen(place: tuple[str | int, ...], value: Any, said: str) -> None:
    board = copy.deepcopy(BOARDS["retraining"])
    *path, last = place
    inner: Any = board
    for step in path:
        inner = inner[step]
    inner[last] = value
    assert any(found.startswith(said) for found in violations(board)), list(violations(board))


def violations(board: dict[str, Any]) -> Iterator[str]:
    """What is in a dashboard and not in the schema; empty where it holds to it."""
    read = Dashboard.from_json(board)
    yield from unknown(board, json.loads(json.dumps(read, cls=JSONEncoder)), "")
    yield from mistyped(read, Dashboard, "")


def unknown(wanted: Any, read: Any, path: str) -> Iterator[str]:
    """The fields that were lost when the dashboard was read."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            if name in read:
                yield from unknown(value, read[name], f"{path}.{name}".lstrip("."))
            elif value is not None and not (path.startswith("annotations.") and name in OF_PROMETHEUS):
                yield f"{path}.{name} is unknown".lstrip(".")
    elif isinstance(wanted, list):
        for index, (inner, of_read) in enumerate(zip(wanted, read, strict=True)):
            yield from unknown(inner, of_read, f"{path}[{index}]")


def mistyped(value: Any, wanted: Any, path: str) -> Iterator[str]:
    """The values that are not of the type of their attribute."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        tried = [list(mistyped(value, one, path)) for one in inner]
        if all(tried):
            # What is wrong deep inside is said of the member that fits outside.
            yield from max(tried, key=lambda found: len(found[0].partition(":")[0]))
    elif isinstance(value, dict) and hasattr(wanted, "from_json"):
        # The SDK leaves some parts as they are.
        read = wanted.from_json(value)
        yield from unknown(value, json.loads(json.dumps(read, cls=JSONEncoder)), path)
        yield from mistyped(read, wanted, path)
    elif origin is list and isinstance(value, list):
        for index, each in enumerate(value):
            yield from mistyped(each, inner[0], f"{path}[{index}]")
    elif not fits(value, wanted):
        yield f"{path}: {value!r} is not of {wanted}"
    elif hasattr(value, "to_json"):
        hints = typing.get_type_hints(type(value), vars(sys.modules[type(value).__module__]))
        for name, of_attribute in hints.items():
            yield from mistyped(getattr(value, name), of_attribute, f"{path}.{name}".lstrip("."))


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of a type, whatever its attributes are."""
    if typing.get_origin(wanted) is typing.Literal:
        return value in typing.get_args(wanted)
    wanted = typing.get_origin(wanted) or wanted
    if not isinstance(wanted, type):
        return wanted is Any
    if issubclass(wanted, enum.Enum):
        return value in [member.value for member in wanted]
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
