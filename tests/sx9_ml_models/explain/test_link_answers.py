"""Which techniques two versions rank first for a source, and how the held-out links moved, is compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.journal import held_out
from sx9_ml_models.explain.link_answers import TOP, LinkQuery, compare, queries
from tests.sx9_ml_models.rebuild.conftest import models_cache
from tests.trainers.journals import graph

__all__ = ["models_cache"]


def query(source: str, *hidden: str) -> LinkQuery:
    return LinkQuery(source, "group", "uses", (), hidden)


def ranks(*names: str) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(names, 1)}


FIRST = [f"T{n}" for n in range(TOP)]


def test_what_entered_and_left_the_first_is_counted_and_ranks_are_compared() -> None:
    before = [ranks(*FIRST, "T90", "T91"), ranks(*FIRST)]
    after = [ranks("T90", *FIRST, "T91"), ranks(*FIRST)]
    found = compare(
        [query("G1", "T90", "T91"), query("G2", "T3", "T99")], before, after, {"G1": "Bear", "T90": "Lua"}
    )
    assert (found.sources, found.differ, found.kept) == (2, 1, 0.95)
    assert (found.links, found.rose, found.fell) == (3, 1, 0), "no version knows T99"
    assert found.reciprocal_rank_before == round((1 / 11 + 1 / 12 + 1 / 4) / 3, 4)
    assert found.reciprocal_rank_after == round((1 + 1 / 12 + 1 / 4) / 3, 4)
    assert [(t.id, t.before, t.after, t.entered, t.left) for t in found.techniques] == [
        ("T9", 2, 1, 0, 1), ("T90", 0, 1, 1, 0),
    ]  # fmt: skip
    assert (found.techniques[1].name, found.techniques[1].links) == ("Lua", 1)
    assert (found.techniques[1].rank_before, found.techniques[1].rank_after) == (11, 1)
    (changed,) = found.largest
    assert (changed.id, changed.name, changed.label) == ("G1", "Bear", "uses:group")
    assert (changed.entered, changed.left) == (("T90",), ("T9",))
    assert (changed.link, changed.rank_before, changed.rank_after) == ("T90", 11, 1)


def test_a_source_is_shown_what_is_not_held_out_and_asked_about_what_is() -> None:
    journal = graph(400)
    asked = queries(journal)
    held = {(one.link.source, one.link.target) for one in journal if one.link and held_out(one)}
    assert {(each.source, target) for each in asked for target in each.hidden} == held
    assert all(each.shown and not set(each.shown) & set(each.hidden) for each in asked)


def test_two_versions_of_the_graph_are_loaded_and_ranked(models_cache: Path, tmp_path: Path) -> None:
    from sx9_ml_models.explain.link_answers import rank_diff
    from tests.trainers.models.test_contract import Lab
    from trainers.models.predictor import load_predictor

    lab = Lab("gnn-threat", models_cache, tmp_path)
    lab.run("first", lab.journal)
    lab.run("second", lab.journal[:-80])
    first, second = (load_predictor("gnn-threat", tmp_path / name) for name in ("first", "second"))
    found = rank_diff(first, second, lab.journal)
    assert found
    assert found.sources == found.held_out == len(queries(lab.journal))
    assert found.links == sum(len(each.hidden) for each in queries(lab.journal))
    assert 0 < found.differ <= found.sources
    assert found.kept < 1
    same = rank_diff(first, first, lab.journal)
    assert same
    assert (same.differ, same.kept, same.rose, same.fell, same.techniques) == (0, 1.0, 0, 0, ())
    assert same.reciprocal_rank_before == pytest.approx(found.reciprocal_rank_before)
