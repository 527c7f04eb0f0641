"""A version answers for sources that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from schemas.errors import BadConfiguration
from tests.trainers.models.gnn.graphs import CONFIG, small_graph, trained
from trainers.models.gnn.predict import UnseenSource, load


def test_the_techniques_of_an_unseen_source_are_ranked_by_those_shown(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", small_graph(), config=msgspec.structs.replace(CONFIG, epochs=15))
    model = load(tmp_path / "v")
    found = model.techniques("group", shown=["T1000", "T1004", "T1008", "no such"], k=5)
    assert {name for name, _ in found[:3]} == {"T1012", "T1016", "T1020"}
    assert not {"T1000", "T1004", "T1008"} & {name for name, _ in found}
    assert sum(p for _, p in found) <= 1.0 + 1e-6
    with pytest.raises(BadConfiguration, match="knows no 'uses:asset'"):
        model.techniques("asset", shown=["T1000"])


def test_a_batch_is_answered_source_by_source(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", small_graph())
    model = load(tmp_path / "v")
    text = torch.linspace(-1.0, 1.0, model.config.shape.text)
    sources = [
        UnseenSource(kind="group", shown=("T1000", "T1004")),
        UnseenSource(kind="group", shown=("T1001",), text_vector=text),
        UnseenSource(kind="group"),
    ]
    together = model.predict(sources, k=4)
    for source, found in zip(sources, together, strict=True):
        (alone,) = model.predict([source], k=4)
        assert [one.id for one in alone] == [one.id for one in found]
        assert [one.probability for one in alone] == pytest.approx([one.probability for one in found], rel=1e-4)
        assert not set(source.shown) & {one.id for one in found}
        assert len(found) == 4
    without_text = msgspec.structs.replace(sources[1], text_vector=None)
    assert model.predict([without_text], k=4)[0] != together[1]
    assert model.predict([]) == []


def test_a_source_of_an_unknown_kind_or_relation_is_refused(models_cache: Path, tmp_path: Path) -> None:
    trained(models_cache, tmp_path / "v", small_graph())
    model = load(tmp_path / "v")
    with pytest.raises(BadConfiguration, match="knows no 'uses:asset': labels are uses:group"):
        model.predict([UnseenSource(kind="group"), UnseenSource(kind="asset")])
    with pytest.raises(BadConfiguration, match="knows no 'targets:group'"):
        model.predict([UnseenSource(kind="group", relation="targets")])
