"""Statements of Cypher with many rows each, in a form that Neo4j plans once.

    WITH ["T1", "T2"] AS key, ["a", "b"] AS name
    UNWIND range(0, 1) AS i MERGE (n:Entity {id: key[i]}) SET n.name = name[i];

A list of strings or numbers becomes one parameter by itself, so all statements of a form have one plan. A list of
maps does not: Neo4j takes it apart and plans each statement anew, which takes longer than to write its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

MAX_ROWS = 2_000
"""Rows of one statement, and of its transaction."""
MAX_CHARS = 500_000
"""Characters of the rows of one statement, unless one row alone has more."""

Value = str | int | float | tuple[str, ...]
Row = Mapping[str, Value]
"""Name of a column -> value. All rows of a statement have the same columns, and one type in each."""


class Columns:
    """The rows of a statement, by column.

    Args:
        rows: One or more.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def head(self) -> str:
        """The begin of the statement: the columns as lists, and `i`, the number of a row.

        >>> print(Columns([{"key": "a", "tags": ("x", "y")}, {"key": "b", "tags": ()}]).head())
        WITH ["a", "b"] AS key, ["x", "y"] AS tags, [0, 2, 2] AS tags_at UNWIND range(0, 1) AS i
        """
        lists = ", ".join(each for name in self._rows[0] for each in self._lists(name))
        return f"WITH {lists} UNWIND range(0, {len(self._rows) - 1}) AS i"

    def _lists(self, name: str) -> Iterator[str]:
        values = [row[name] for row in self._rows]
        if not isinstance(values[0], tuple):
            yield f"{_literal(values)} AS {name}"
            return
        items = [value for value in values if isinstance(value, tuple)]
        ends = [0]
        for each in items:
            ends.append(ends[-1] + len(each))
        yield f"{_literal([item for each in items for item in each])} AS {name}"
        yield f"{_literal(ends)} AS {name}_at"

    def value(self, name: str) -> str:
        """The expression of a column's value in row `i`."""
        if isinstance(self._rows[0][name], tuple):
            return f"{name}[{name}_at[i]..{name}_at[i + 1]]"
        return f"{name}[i]"

    def assignments(self, variable: str, names: Sequence[str]) -> str:
        """A SET clause with some columns as properties of a variable; empty without any."""
        found = ", ".join(f"{variable}.{name} = {self.value(name)}" for name in names)
        return f" SET {found}" if found else ""


def batches(rows: Sequence[Row]) -> Iterator[Columns]:
    """The rows of several statements, in order, within the limits."""
    batch: list[Row] = []
    chars = 0
    for row in rows:
        size = sum(len(value) for value in row.values() if isinstance(value, str))
        if batch and (len(batch) == MAX_ROWS or chars + size > MAX_CHARS):
            yield Columns(batch)
            batch, chars = [], 0
        batch.append(row)
        chars += size
    if batch:
        yield Columns(batch)


def _literal(values: Sequence[object]) -> str:
    """A list of strings or numbers as a literal of Cypher; strings contain no line end."""
    return json.dumps(values, ensure_ascii=False)
