"""Trainers on two machines share versions on a real S3 server: the second goes on from what the first made."""

from __future__ import annotations

from pathlib import Path

from serving.predictors import load
from tests.trainers.runs.test_trigger_handler import World, sequence
from tests.trainers.samples import MODEL, examples
from tests.transport.s3 import s3_bucket
from trainers.bases.resolve import Base
from trainers.store.shared_registry import SharedRegistry
from transport.storage import storage_at


def test_the_second_machine_trains_from_the_version_of_the_first_as_one_machine_would(
    tmp_path: Path, tiny: Base
) -> None:
    journal = examples(300)
    first, second = sequence(journal)
    straight, a, b = (World(tmp_path / name, tiny, journal) for name in ("straight", "a", "b"))
    for one in (first, second):
        straight.answer(one, epochs=3)
    b.journal, b.announcements = a.journal, a.announcements
    with s3_bucket() as bucket:
        a.registry, b.registry, server = (
            SharedRegistry(tmp_path / name / "output/models", storage_at(f"{bucket}/models"))
            for name in ("a", "b", "server")
        )
        a.answer(first, epochs=3)
        b.answer(first, epochs=3)  # delivered again, to the other machine
        b.answer(second, epochs=3)
        assert b.said() == straight.said()
        assert [type(record) for record in b.answers()] == [type(record) for record in straight.answers()]
        for version in ("v0001", "v0002"):
            assert a.manifest(version).files == b.manifest(version).files == straight.manifest(version).files
        assert [registry.champion(MODEL) for registry in (a.registry, b.registry, server)] == ["v0002"] * 3
        loaded = load(server.folder(MODEL, "v0002"))
    assert (loaded.version, loaded.manifest.parent) == ("v0002", "v0001")
