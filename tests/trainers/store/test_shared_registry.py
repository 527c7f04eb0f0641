"""A registry on a real S3 server: what one machine publishes another has, whole, verified, and the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import Corrupt, RetryLater
from tests.trainers.store.test_registry import MODEL, make
from tests.transport.s3 import s3_bucket
from trainers.settings import load_trainer_settings
from trainers.store.manifest import MANIFEST
from trainers.store.registry import Registry
from trainers.store.shared_registry import FILES, SharedRegistry, open_registry
from transport.storage import Storage, storage_at


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket."""
    with s3_bucket() as url:
        yield url


@pytest.fixture
def machine(bucket: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], SharedRegistry]:
    """The registry of a machine, by its name; all share a URL of this test's own."""
    url = f"{bucket}/{request.node.name[:40]}"
    return lambda name: SharedRegistry(tmp_path / name, storage_at(url))


def test_what_one_machine_promotes_another_lists_verifies_and_serves(
    machine: Callable[[str], SharedRegistry],
) -> None:
    trainer, server = machine("trainer"), machine("server")
    assert (server.versions(MODEL), server.champion(MODEL), server.has(MODEL, "v0001")) == ([], None, False)
    make(trainer, "v0001")
    assert trainer.has(MODEL, "v0001")
    assert not server.has(MODEL, "v0001")  # not published yet
    trainer.promote(MODEL, "v0001")
    make(trainer, "v0002", b"other")
    trainer.publish(MODEL, "v0002")  # refused by the gate, but listed
    for registry in (trainer, server, machine("a command that starts now")):
        assert registry.champion(MODEL) == "v0001"
        assert [manifest.version for manifest in registry.versions(MODEL)] == ["v0001", "v0002"]
    assert not (server.root / MODEL).exists(), "a list fetches nothing"
    assert (server.folder(MODEL, "v0001") / "model.safetensors").read_bytes() == b"weights"
    assert server.verified(MODEL, "v0002") == trainer.verified(MODEL, "v0002")
    trainer.promote(MODEL, "v0002")
    assert server.champion(MODEL) == "v0002"
    server.promote(MODEL, "v0001")  # a person goes back, from the other machine
    assert (trainer.champion(MODEL), server.champion(MODEL)) == ("v0001", "v0001")
    assert (server.root / MODEL / "model.safetensors").read_bytes() == b"weights"


def test_the_files_of_a_version_are_seen_only_when_all_are_there(
    machine: Callable[[str], SharedRegistry], bucket: str
) -> None:
    trainer, server = machine("trainer"), machine("server")
    make(trainer, "v0001")
    trainer.upload(MODEL, "v0001")
    assert not server.has(MODEL, "v0001")
    assert server.versions(MODEL) == []
    for written in (0, 1):  # before the manifest, and before the name of the champion
        with pytest.raises(RetryLater, match="is away"):
            SharedRegistry(trainer.root, DyingStorage(trainer._storage, written)).promote(MODEL, "v0001")
        assert server.has(MODEL, "v0001") is (written == 1)
        assert server.champion(MODEL) is None
    assert server.verified(MODEL, "v0001").version == "v0001"
    trainer.promote(MODEL, "v0001")
    assert server.champion(MODEL) == "v0001"


class DyingStorage:
    """A store that is away after some writes; the files of a version are there already."""

    def __init__(self, storage: Storage, left: int) -> None:
        self.url, self.names, self.read, self.get = storage.url, storage.names, storage.read, storage.get
        self._storage, self._left = storage, left

    def write(self, name: str, data: bytes) -> None:
        if not self._left:
            raise RetryLater("the store is away")
        self._left -= 1
        self._storage.write(name, data)

    def put(self, name: str, path: Path) -> None:
        raise AssertionError(f"{name} is there already")


def test_if_two_machines_trained_a_version_the_published_one_counts_for_both(
    machine: Callable[[str], SharedRegistry], caplog: pytest.LogCaptureFixture
) -> None:
    late, first = machine("late"), machine("first")
    make(late, "v0001", b"trained by the machine that lost its partition")
    make(first, "v0001", b"trained by the machine that answered")
    first.promote(MODEL, "v0001")
    assert late.verified(MODEL, "v0001") == first.verified(MODEL, "v0001")
    assert (late.folder(MODEL, "v0001") / "model.safetensors").read_bytes().endswith(b"answered")
    assert "where another machine published it" in caplog.text
    assert sorted(path.name for path in (late.root / MODEL).glob(".*.*ed")) == []


def test_a_changed_byte_at_the_url_is_named_and_never_loaded(machine: Callable[[str], SharedRegistry]) -> None:
    trainer, server = machine("trainer"), machine("server")
    make(trainer, "v0001")
    trainer.promote(MODEL, "v0001")
    storage = server._storage
    sha256 = trainer.verified(MODEL, "v0001").files["model.safetensors"]
    storage.write(f"{MODEL}/{FILES}/{sha256}", b"Weights")
    with pytest.raises(Corrupt, match=r"model\.safetensors has sha256"):
        server.folder(MODEL, "v0001")
    assert not (server.root / MODEL / "v0001").exists()
    manifest = storage.read(f"{MODEL}/v0001/{MANIFEST}")
    storage.write(f"{MODEL}/v0001/{MANIFEST}", manifest.replace(b'"config.json"', b'"../config.json"'))
    with pytest.raises(Corrupt, match=r"names '\.\./config\.json'"):
        machine("another").folder(MODEL, "v0001")
    storage.write(f"{MODEL}/v0001/{MANIFEST}", b"{")
    with pytest.raises(Corrupt, match=r"v0001/manifest\.json can't be read"):
        machine("a third").versions(MODEL)


def test_a_folder_that_was_used_alone_is_published_once_it_is_shared(
    machine: Callable[[str], SharedRegistry], tmp_path: Path
) -> None:
    alone = Registry(tmp_path / "trainer")
    for version in ("v0001", "v0002", "v0003"):
        make(alone, version, version.encode())
    alone.promote(MODEL, "v0002")
    trainer, server = machine("trainer"), machine("server")
    assert (trainer.champion(MODEL), server.champion(MODEL)) == ("v0002", None)
    trainer.publish_first(MODEL)
    assert server.champion(MODEL) == "v0002"
    assert [server.verified(MODEL, m.version).version for m in server.versions(MODEL)] == [
        "v0001",
        "v0002",
        "v0003",
    ]
    make(alone, "v0004")
    trainer.publish_first(MODEL)  # later versions are published when their trigger is answered
    assert not server.has(MODEL, "v0004")


def test_the_settings_name_where_versions_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(open_registry(load_trainer_settings(output_dir=tmp_path))) is Registry
    monkeypatch.setenv("SX9_MODELS_URL", str(tmp_path / "shared"))
    found = open_registry(load_trainer_settings(output_dir=tmp_path / "a"))
    make(found, "v0001")
    found.promote(MODEL, "v0001")
    other = open_registry(load_trainer_settings(output_dir=tmp_path / "b"))
    assert other.verified(MODEL, str(other.champion(MODEL))).version == "v0001"
