"""What a rebuild is asked for, and the part of the journal that it is made of."""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.codec import decode, encode
from schemas.errors import BadConfiguration, BadRecord
from schemas.exclusions import without
from streams.core.fold import initial
from streams.core.lineage import follow, numbered_from
from sx9_ml_models.journals import history_of
from sx9_ml_models.rebuild.remaining import end_at
from transport.files import write_atomically
from transport.partition_log import PartitionLog, last_fingerprint

SCOPE = "journal.json"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is rebuilt; a folder holds one rebuild.

    Attributes:
        model: The model.
        version: The version, of which the ancestors are rebuilt too; empty: the champion of the journal.
        until_ms: Records after this time don't count, ms since 1970 UTC; 0: all do.
        exclusions: What is taken out.
        from_topics: Whether the examples are made anew from the events.
        lifted: What an earlier lineage change left out, and counts again.
        anew: Whether the rules decide again, and nothing that the recorded versions led to counts: scores, what a
            person chose, and when answers came. So it can be compared with what comes of other examples or rules.
        rules: What identifies the rules, where they are not the recorded ones.
    """

    model: str
    version: str = ""
    until_ms: int = 0
    exclusions: tuple[str, ...] = ()
    from_topics: bool = False
    lifted: tuple[str, ...] = ()
    anew: bool = False
    rules: str = ""

    @property
    def changes_lineage(self) -> bool:
        """Whether it leads to a lineage of its own, which may take over."""
        return bool(self.exclusions or self.lifted)

    @property
    def decides(self) -> bool:
        """Whether the rules decide again; otherwise the recorded triggers are answered again."""
        return self.changes_lineage or self.from_topics or self.anew

    @property
    def keeps_scope(self) -> bool:
        """Whether its versions are others than the recorded ones, so that it must not grow with the journal."""
        return self.changes_lineage or self.anew


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a journal that a rebuild is made of. Without some examples there are other versions, so it stays
    the same when the journal grows.

    Attributes:
        end: Journal offset at which it ends.
        fingerprint: Of the record before `end`, see `transport.partition_log`.
        exclusions: What is taken out, with what earlier lineage changes took out and the plan does not take back.
        numbered_from: The versions have numbers above it, so that they can serve beside the recorded ones.
    """

    end: int
    fingerprint: str = ""
    exclusions: tuple[str, ...] = ()
    numbered_from: int = 0


def scope_of(plan: Plan, log: PartitionLog, folder: Path) -> Scope:
    """The scope of a plan: that of the folder, if a rebuild with versions of its own was begun there.

    Args:
        plan: What to rebuild.
        log: The journal.
        folder: Of the rebuild.

    Raises:
        BadConfiguration: The folder holds a rebuild from another journal, or what is to be taken back is not left
            out.
    """
    if plan.keeps_scope and (there := _read(folder / SCOPE)):
        if last_fingerprint(log, there.end) != there.fingerprint:
            raise BadConfiguration(
                f"{folder} holds a rebuild from another journal: delete it, or choose another folder with --output"
            )
        return there
    end = end_at(log, plan.until_ms) if plan.until_ms else log.end()
    if not plan.keeps_scope:
        return Scope(end=end)
    history, state = history_of(log), initial(plan.model)
    for offset, record in history(end):
        state, _ = follow(state, offset, record, history)
    scope = Scope(
        end=end,
        fingerprint=last_fingerprint(log, end),
        exclusions=without(state.exclusions, plan.lifted, plan.exclusions),
        numbered_from=numbered_from(state.trigger_count),
    )
    write_atomically(folder / SCOPE, encode(scope))
    return scope


def _read(path: Path) -> Scope | None:
    try:
        found: Scope = decode(path.read_bytes(), Scope)
    except FileNotFoundError:
        return None
    except BadRecord as error:
        raise BadConfiguration(f"{path}: {error}; choose another folder with --output") from error
    return found
