"""The versions that led to one, as the journal recorded them."""

from __future__ import annotations

from typing import NamedTuple

from schemas.errors import BadConfiguration
from schemas.journal import LineageChange
from schemas.windows import Trigger
from streams.core.fold import initial
from streams.core.lineage import History, follow, is_due


class Lineage(NamedTuple):
    """The triggers of a version and of its ancestors, oldest first, and the journal offset up to which they hold:
    what a later lineage change leaves out is not left out here."""

    triggers: list[Trigger]
    end: int


def recorded_lineage(model: str, history: History, end: int, version: str) -> Lineage:
    """The lineage of a version.

    Args:
        model: The model.
        history: Reads its journal.
        end: Where the journal ends.
        version: Its name; empty: the champion at the end of the journal.

    Raises:
        BadConfiguration: The journal has no such version.
    """
    state, triggers = initial(model), dict[str, Trigger]()
    ends, changes = dict[str, int](), list[int]()  # version -> how many lineage changes there were when it was made

    def add(found: list[Trigger]) -> None:
        triggers.update({trigger.version: trigger for trigger in found})
        ends.update(dict.fromkeys((trigger.version for trigger in found), len(changes)))

    for offset, record in history(end):
        if isinstance(record, LineageChange) and is_due(state, offset, record):
            changes.append(offset)
        state, outputs = follow(state, offset, record, history, add)
        add([output for output in outputs if isinstance(output, Trigger)])
    wanted = version or state.champion
    if wanted not in triggers:
        known = ", ".join(triggers) or "none: the journal has no trigger yet (`sx9 triggers --declined` says why)"
        raise BadConfiguration(f"the journal of {model} has no trigger of {wanted or 'a champion'}; it has {known}")
    lineage = [triggers[wanted]]
    while parent := lineage[0].parent:
        if parent not in triggers:
            raise BadConfiguration(
                f"{lineage[0].version} of {model} started from {parent}, which no trigger here led to: it "
                "can't be rebuilt from it"
            )
        lineage.insert(0, triggers[parent])
    return Lineage(lineage, [*changes, end][ends[wanted]])
