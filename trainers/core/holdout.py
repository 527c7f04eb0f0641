"""Examples that versions of several lineages are scored on, all on the same ones."""

from __future__ import annotations

import msgspec

from trainers.core.dataset import OffsetExample


class Holdout(msgspec.Struct, frozen=True, kw_only=True):
    """A holdout that no version of the lineages was trained on.

    Attributes:
        examples: In order of offset.
        current: All examples that are current in the journal that the holdout is from.
        known: Those of them that the journal of the version had; without a feed, for example, it had fewer. Both
            are for recipes with `NEEDS_GRAPH_CONTEXT`.
    """

    examples: tuple[OffsetExample, ...]
    current: tuple[OffsetExample, ...] = ()
    known: tuple[OffsetExample, ...] = ()
