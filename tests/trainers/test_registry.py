"""Versions on disk: whole or not there, verified, and one of them the champion."""

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


def make(kept: Registry, version: str, weights: bytes = b"weights") -> None:
    with kept.draft(MODEL, version) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text("{}")
        write(folder, Manifest(model=MODEL, version=version, trigger="t", reason="r", files=file_hashes(folder)))


@pytest.fixture
def kept(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_version_is_listed_verified_and_promoted(kept: Registry) -> None:
    assert kept.champion(MODEL) is None
    assert kept.versions(MODEL) == []
    make(kept, "v0001")
    make(kept, "v0002", b"other")
    assert [m.version for m in kept.versions(MODEL)] == ["v0001", "v0002"]
    assert kept.verified(MODEL, "v0002").version == "v0002"
    assert kept.champion(MODEL) is None
    for version in ("v0001", "v0002", "v0002", "v0001"):
        kept.promote(MODEL, version)
        assert kept.champion(MODEL) == version


def test_the_folder_of_the_model_is_its_champion(kept: Registry) -> None:
    make(kept, "v0001", b"one")
    kept.promote(MODEL, "v0001")
    with kept.draft(MODEL, "v0002") as folder:
        (folder / "model.safetensors").write_bytes(b"two")
    kept.promote(MODEL, "v0002")
    home = kept.root / MODEL
    assert (home / "model.safetensors").read_bytes() == b"two"
    assert not (home / "config.json").is_symlink(), "the new champion has no such file"


def test_a_draft_that_fails_leaves_nothing(kept: Registry) -> None:
    def half() -> None:
        with kept.draft(MODEL, "v0001") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not kept.has(MODEL, "v0001")
    assert [p.name for p in (kept.root / MODEL).iterdir()] == [".lock"]


def test_what_a_killed_run_left_is_removed_and_never_taken_for_a_version(kept: Registry) -> None:
    left = kept.root / MODEL / ".v0001.partial"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert kept.versions(MODEL) == []
    make(kept, "v0002")
    assert not left.exists()
    assert [m.version for m in kept.versions(MODEL)] == ["v0002"]


def test_two_trainers_never_write_at_once(kept: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOCK_TIMEOUT_S", 0.3)
    with (
        kept.draft(MODEL, "v0001"),
        pytest.raises(RetryLater, match="another process has been training distilbert-mitre"),
        kept.draft(MODEL, "v0001"),
    ):
        raise AssertionError


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_changed_on_disk_is_corrupt_and_named(kept: Registry, name: str) -> None:
    make(kept, "v0001")
    (kept.folder(MODEL, "v0001") / name).write_bytes(b"changed")
    with pytest.raises(Corrupt, match=rf"{name} has sha256 \w+, but \w+ was written; restore"):
        kept.verified(MODEL, "v0001")


def test_a_missing_file_or_manifest_is_corrupt(kept: Registry) -> None:
    make(kept, "v0001")
    (kept.folder(MODEL, "v0001") / "config.json").unlink()
    with pytest.raises(Corrupt, match=r"config\.json is missing"):
        kept.verified(MODEL, "v0001")
    (kept.folder(MODEL, "v0001") / "manifest.json").write_text("{}")
    with pytest.raises(Corrupt, match="can't be read"):
        read(kept.folder(MODEL, "v0001"))
    shutil.rmtree(kept.folder(MODEL, "v0001"))
    with pytest.raises(Corrupt, match=r"manifest\.json is missing"):
        kept.verified(MODEL, "v0001")


def test_a_full_disk_is_said_before_the_run(kept: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(registry.shutil, "disk_usage", lambda _: Usage(10 * 2**20))
    with pytest.raises(BadConfiguration, match="has 10 MB left, a version needs 1000 MB"), kept.draft(MODEL, "v1"):
        raise AssertionError
