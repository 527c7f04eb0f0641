"""How far an embedding space moved: turning it moves nothing, another space keeps few neighbours."""

from __future__ import annotations

import pytest
import torch

from trainers.models.gnn import movement as movement_module
from trainers.models.gnn.movement import movement

IDS = [f"node-{n}" for n in range(60)]


def vectors(seed: int, nodes: int = len(IDS)) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(nodes, 8, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def test_a_space_that_was_turned_and_stored_in_another_order_did_not_move() -> None:
    before = vectors(1)
    turn = torch.linalg.qr(vectors(2, 8)).Q
    found = movement(IDS, before, IDS[::-1], (before @ turn).flip(0))
    assert found is not None
    assert (found.nodes, found.neighbours_kept, found.distance) == (60, 1.0, 0.0)


def test_another_space_keeps_no_more_neighbours_than_chance() -> None:
    found = movement(IDS, vectors(1), IDS, vectors(3))
    assert found is not None
    assert found.neighbours_kept < 0.3
    assert found.distance > 0.5


def test_one_node_that_moved_is_seen_and_only_common_nodes_count() -> None:
    before = vectors(1)
    after = before.clone()
    after[0] = -before[0]
    found = movement(IDS, before, [*IDS, "new"], torch.cat([after, vectors(4, 1)]))
    assert found is not None
    assert found.nodes == 60
    assert 0.7 < found.neighbours_kept < 1.0
    assert 0 < found.distance < 0.3


def test_a_large_space_is_compared_on_some_nodes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = movement(IDS, vectors(1), IDS, vectors(5))
    monkeypatch.setattr(movement_module, "_CHUNK", 7)
    assert movement(IDS, vectors(1), IDS, vectors(5)) == whole
    monkeypatch.setattr(movement_module, "MAX_NODES", 20)
    some = movement(IDS, vectors(1), IDS, vectors(5))
    assert some is not None
    assert whole is not None
    assert some.neighbours_kept == pytest.approx(whole.neighbours_kept, abs=0.15)


@pytest.mark.parametrize("ids", [["other"], [IDS[0], "other"]])
def test_without_common_nodes_there_is_nothing_to_compare(ids: list[str]) -> None:
    assert movement(IDS, vectors(1), ids, vectors(2, len(ids))) is None
