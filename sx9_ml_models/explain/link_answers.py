"""Where two versions that predict links differ: which techniques rank first for a source, and how ranks moved.

    current examples ──> sources with a held-out link, shown their links that are not held out
                           └──> rank all techniques with both versions ──> RankDiff

Both get the same question: the kind of the source and the techniques that are shown. A held-out link is in the
graph of neither, so its rank says how well each version would have known it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.journal import Example, held_out, key_hash
from trainers.models.gnn.graph import is_predicted

MOST = 500
"""Sources that are compared; of more, those with the smallest hashes of their ids."""
TOP = 10
"""Techniques that count as those that a version names for a source."""
SHOWN = 10
"""Sources that are named."""

Ranks = Mapping[str, int]
"""Technique -> its rank for a source, from 1 on; those that are shown have none."""


class LinkQuery(NamedTuple):
    """A source with one relation: what is shown of it, and its held-out techniques."""

    source: str
    kind: str
    relation: str
    shown: tuple[str, ...]
    hidden: tuple[str, ...]


class TechniqueRanks(msgspec.Struct, frozen=True, kw_only=True):
    """A technique: how often it is among the first of a source, and the ranks of its held-out links.

    Attributes:
        id, name: Of the technique.
        links: Its held-out links.
        before, after: Sources that have it among their first `TOP`.
        entered, left: Sources in whose first it is only after, or only before.
        rank_before, rank_after: Median rank in its held-out links; 0 if it has none, or no version knows it.
    """

    id: str
    name: str
    links: int
    before: int
    after: int
    entered: int
    left: int
    rank_before: float
    rank_after: float


class ChangedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source whose first techniques changed, and of its held-out links the one whose rank moved most."""

    id: str
    name: str
    label: str
    entered: tuple[str, ...]
    left: tuple[str, ...]
    link: str
    rank_before: int
    rank_after: int


class RankDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The rankings of two versions. A technique that a version does not know has the rank 0.

    Attributes:
        sources: Compared ones, with one relation each.
        held_out: There are so many; see `MOST`.
        unknown: Sources of a kind that one of the versions does not know; they are not compared.
        differ: Sources whose first `TOP` techniques are others.
        kept: Share of the first `TOP` that are the same, 0 to 1, on average.
        links: Held-out links that both versions rank.
        rose, fell: How many of them rank higher, or lower, after.
        reciprocal_rank_before, reciprocal_rank_after: Mean of 1 / rank of these links.
        techniques: Those whose sources changed, most of them first.
        largest: The sources with the most changes.
    """

    sources: int
    held_out: int
    unknown: int
    differ: int
    kept: float
    links: int
    rose: int
    fell: int
    reciprocal_rank_before: float
    reciprocal_rank_after: float
    techniques: tuple[TechniqueRanks, ...]
    largest: tuple[ChangedSource, ...]


def rank_diff(before: Any, after: Any, current: Sequence[Example]) -> RankDiff | None:
    """Rank techniques with two versions, for sources that have a held-out link.

    Args:
        before, after: Predictors of `gnn-threat`.
        current: All current examples.

    Returns:
        What differs; None if no link is held out that is predicted.
    """
    asked = queries(current)
    if not asked:
        return None
    chosen = heapq.nsmallest(MOST, asked, key=lambda query: (key_hash(query.source), query.relation))
    labels = {*before.config.shape.labels} & {*after.config.shape.labels}
    known = [query for query in chosen if f"{query.relation}:{query.kind}" in labels]
    names = {example.node.id: example.node.name for example in current if example.node}
    found = compare(known, _ranks(before, known), _ranks(after, known), names)
    return msgspec.structs.replace(found, held_out=len(asked), unknown=len(chosen) - len(known))


def queries(current: Sequence[Example]) -> list[LinkQuery]:
    """The sources with a held-out link to a technique, with what else is known of them."""
    sides: dict[tuple[str, str, str], tuple[set[str], set[str]]] = {}
    for example in current:
        link = example.link
        if link and is_predicted(link):
            shown, hidden = sides.setdefault((link.source, link.source_kind, link.relation), (set(), set()))
            (hidden if held_out(example) else shown).add(link.target)
    return [
        LinkQuery(*source, tuple(sorted(shown - hidden)), tuple(sorted(hidden)))
        for source, (shown, hidden) in sorted(sides.items())
        if hidden
    ]


def compare(
    asked: Sequence[LinkQuery], before: Sequence[Ranks], after: Sequence[Ranks], names: Mapping[str, str]
) -> RankDiff:
    """Compare the rankings of two versions for the same sources, in the same order.

    Args:
        asked: The sources.
        before, after: The ranks of the techniques that each version knows.
        names: Id of a node -> its name.
    """
    firsts: dict[str, list[int]] = {}
    links: list[tuple[str, int, int]] = []
    changed, kept = [], 0.0
    for query, old, new in zip(asked, before, after, strict=True):
        then, now = ({name for name, rank in ranks.items() if rank <= TOP} for ranks in (old, new))
        for name in then | now:
            row = firsts.setdefault(name, [0, 0, 0, 0])
            for column, has in enumerate((name in then, name in now, name in now - then, name in then - now)):
                row[column] += has
        kept += len(then & now) / max(len(then), len(now), 1)
        links += [(name, old.get(name, 0), new.get(name, 0)) for name in query.hidden]
        if then != now:
            changed.append(_changed(query, old, new, names))
    ranked = [(old_rank, new_rank) for _, old_rank, new_rank in links if old_rank and new_rank]
    return RankDiff(
        sources=len(asked),
        held_out=len(asked),
        unknown=0,
        differ=len(changed),
        kept=round(kept / len(asked), 4) if asked else 1.0,
        links=len(ranked),
        rose=sum(new_rank < old_rank for old_rank, new_rank in ranked),
        fell=sum(new_rank > old_rank for old_rank, new_rank in ranked),
        reciprocal_rank_before=_reciprocal([old_rank for old_rank, _ in ranked]),
        reciprocal_rank_after=_reciprocal([new_rank for _, new_rank in ranked]),
        techniques=tuple(_technique_rows(firsts, links, names)),
        largest=tuple(sorted(changed, key=_by_size)[:SHOWN]),
    )


def _ranks(predictor: Any, asked: Sequence[LinkQuery]) -> list[Ranks]:
    from trainers.models.gnn.predict import UnseenSource

    batch = [UnseenSource(kind=one.kind, shown=one.shown, relation=one.relation) for one in asked]
    ranked = predictor.predict(batch, max(len(predictor.technique_ids), 1))
    return [{technique.id: rank for rank, technique in enumerate(found, 1)} for found in ranked]


def _technique_rows(
    firsts: Mapping[str, Sequence[int]], links: Sequence[tuple[str, int, int]], names: Mapping[str, str]
) -> list[TechniqueRanks]:
    ranks: dict[str, list[tuple[int, int]]] = {}
    for name, old, new in links:
        ranks.setdefault(name, []).append((old, new))
    rows = [
        TechniqueRanks(
            id=name,
            name=names.get(name, ""),
            links=len(ranks.get(name, ())),
            before=then,
            after=now,
            entered=entered,
            left=left,
            rank_before=_median([old for old, _ in ranks.get(name, ())]),
            rank_after=_median([new for _, new in ranks.get(name, ())]),
        )
        for name, (then, now, entered, left) in firsts.items()
        if entered or left
    ]
    return sorted(rows, key=lambda row: (-row.entered - row.left, row.id))


def _changed(query: LinkQuery, old: Ranks, new: Ranks, names: Mapping[str, str]) -> ChangedSource:
    def first(ranks: Ranks, others: Ranks) -> tuple[str, ...]:
        found = [name for name, rank in ranks.items() if rank <= TOP < others.get(name, TOP + 1)]
        return tuple(sorted(found, key=lambda name: (ranks[name], name)))

    moved = max(query.hidden, key=lambda name: (abs(old.get(name, 0) - new.get(name, 0)), name))
    return ChangedSource(
        id=query.source,
        name=names.get(query.source, ""),
        label=f"{query.relation}:{query.kind}",
        entered=first(new, old),
        left=first(old, new),
        link=moved,
        rank_before=old.get(moved, 0),
        rank_after=new.get(moved, 0),
    )


def _by_size(each: ChangedSource) -> tuple[int, int, str]:
    return -len(each.entered) - len(each.left), -abs(each.rank_before - each.rank_after), each.id


def _reciprocal(ranks: Sequence[int]) -> float:
    return round(sum(1 / rank for rank in ranks) / len(ranks), 4) if ranks else 0.0


def _median(ranks: Sequence[int]) -> float:
    known = sorted(rank for rank in ranks if rank)
    if not known:
        return 0.0
    middle = len(known) // 2
    return float(known[middle]) if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
