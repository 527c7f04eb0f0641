"""The registry: versions are complete or absent, verified, and one of them is the champion."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas.errors import BadConfiguration, Corrupt, RetryLater
from schemas.versions import Manifest
from trainers.store import registry
from trainers.store.manifest import file_hashes, read, write
from trainers.store.registry import Registry

MODEL = "distilbert-mitre"


def make(models: Registry, version: str, weights: bytes = b"weights") -> None:
    with models.draft(MODEL, version) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text("{}")
        write(folder, Manifest(model=MODEL, version=version, trigger="t", reason="r", files=file_hashes(folder)))


@pytest.fixture
def models(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_version_is_listed_verified_and_promoted(models: Registry) -> None:
    assert models.champion(MODEL) is None
    assert models.versions(MODEL) == []
    make(models, "v0001")
    make(models, "v0002", b"other")
    assert [m.version for m in models.versions(MODEL)] == ["v0001", "v0002"]
    assert models.verified(MODEL, "v0002").version == "v0002"
    assert models.champion(MODEL) is None
    for version in ("v0001", "v0002", "v0002", "v0001"):
        models.promote(MODEL, version)
        assert models.champion(MODEL) == version


def test_the_folder_of_the_model_is_its_champion(models: Registry) -> None:
    make(models, "v0001", b"one")
    models.promote(MODEL, "v0001")
    with models.draft(MODEL, "v0002") as folder:
        (folder / "model.safetensors").write_bytes(b"two")
    models.promote(MODEL, "v0002")
    home = models.root / MODEL
    assert (home / "model.safetensors").read_bytes() == b"two"
    assert not (home / "config.json").is_symlink(), "the new champion has no such file"


def test_a_draft_that_fails_leaves_nothing(models: Registry) -> None:
    def half() -> None:
        with models.draft(MODEL, "v0001") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not models.has(MODEL, "v0001")
    assert [p.name for p in (models.root / MODEL).iterdir()] == [".lock"]


def test_what_a_killed_run_left_is_removed_and_is_not_listed_as_a_version(models: Registry) -> None:
    left = models.root / MODEL / ".v0001.partial"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert models.versions(MODEL) == []
    make(models, "v0002")
    assert not left.exists()
    assert [m.version for m in models.versions(MODEL)] == ["v0002"]


def test_two_trainers_do_not_write_at_the_same_time(models: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOCK_TIMEOUT_S", 0.3)
    with (
        models.draft(MODEL, "v0001"),
        pytest.raises(RetryLater, match="another process has been training distilbert-mitre"),
        models.draft(MODEL, "v0001"),
    ):
        raise AssertionError


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_was_changed_on_disk_is_an_error_that_names_it(models: Registry, name: str) -> None:
    make(models, "v0001")
    (models.folder(MODEL, "v0001") / name).write_bytes(b"changed")
    with pytest.raises(Corrupt, match=rf"{name} has sha256 \w+, but \w+ was written; restore"):
        models.verified(MODEL, "v0001")


def test_a_missing_file_or_manifest_is_an_error(models: Registry) -> None:
    make(models, "v0001")
    (models.folder(MODEL, "v0001") / "config.json").unlink()
    with pytest.raises(Corrupt, match=r"config\.json is missing"):
        models.verified(MODEL, "v0001")
    (models.folder(MODEL, "v0001") / "manifest.json").write_text("{}")
    with pytest.raises(Corrupt, match="can't be read"):
        read(models.folder(MODEL, "v0001"))
    shutil.rmtree(models.folder(MODEL, "v0001"))
    with pytest.raises(Corrupt, match=r"manifest\.json is missing"):
        models.verified(MODEL, "v0001")


def test_too_little_disk_space_is_an_error_before_the_run(
    models: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(registry.shutil, "disk_usage", lambda _: Usage(10 * 2**20))
    with (
        pytest.raises(BadConfiguration, match="has 10 MB left, but a version needs 1000 MB"),
        models.draft(MODEL, "v1"),
    ):
        raise AssertionError
