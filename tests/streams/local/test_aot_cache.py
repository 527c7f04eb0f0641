"""The cache of classes: made once, used by every start, and not needed."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from streams.local import aot_cache
from streams.local import services as local_services
from streams.local.services import make_aot_caches, services
from streams.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A cache folder with the jars of this machine, and without a cache of classes; of Kafka alone."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "jars").symlink_to(load_settings().cache_dir.resolve() / "jars")
    chosen = load_settings(state_dir=tmp_path / "state", cache_dir=cache, kafka_bootstrap=None, neo4j_uri=None)
    monkeypatch.setattr(local_services, "_LOCAL", (local_services._local_kafka,))
    return chosen


def mapped(process: psutil.Process) -> set[str]:
    """The files in the memory of a process and its children."""
    family = [process, *process.children(recursive=True)]
    return {one.path for member in family for one in member.memory_maps()}


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not show the files in the memory of a process")
def test_a_cache_is_made_once_and_read_by_the_next_start(settings: Settings, kafka_bootstrap: str) -> None:
    del kafka_bootstrap  # the jars are there
    (cache,) = make_aot_caches(settings)
    assert cache.parent == settings.cache_dir.resolve() / "aot"
    assert [path.name for path in cache.parent.iterdir()] == [cache.name], "nothing unfinished is left"
    written = cache.stat().st_mtime_ns
    assert make_aot_caches(settings) == []
    assert cache.stat().st_mtime_ns == written
    with services(settings, neo4j=False):
        assert str(cache) in mapped(psutil.Process())


def test_a_damaged_cache_does_not_keep_a_service_from_starting(
    settings: Settings, kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del kafka_bootstrap
    damaged = tmp_path / "damaged.aot"
    damaged.write_bytes(b"no cache")
    monkeypatch.setattr(aot_cache, "cache_file", lambda *_: damaged)
    with services(settings, neo4j=False):
        assert f"-XX:AOTCache={damaged}" in (settings.state_dir / "run" / "kafka.args").read_text()
