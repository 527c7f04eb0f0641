"""The mirror in MLflow: every version once, the alias on the champion, no harm if MLflow does not answer.

The server is real: a process of these tests, with its own database and files.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from schemas.errors import BadConfiguration
from schemas.scores import Evaluation, TaskScores
from schemas.versions import GateCheck, Manifest
from tests.sx9_ml_models.test_training import content, procedures
from tests.trainers.runs.test_trigger_handler import World, sequence
from tests.trainers.samples import examples
from trainers import telemetry as metrics
from trainers.bases.resolve import Base
from trainers.core.history import HISTORY_FILE, History, Point
from trainers.settings import load_trainer_settings
from trainers.store import manifest as manifests
from trainers.store import mlflow_mirror as mirrors
from trainers.store.mlflow_mirror import FILES, MlflowMirror, mlflow_mirror
from trainers.store.registry import Registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

START_S = 240
pytestmark = [
    pytest.mark.timeout(600),
    # Warnings of MLflow about its dependencies; our own are still errors.
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server; it takes 10 to 60 s to start."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts",
    ]  # fmt: skip
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=log, stderr=log, cwd=folder, env=os.environ | quiet
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process, folder / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{address}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise AssertionError(f"no MLflow after {START_S} s: {log.read_text()}")


@pytest.fixture
def client(server: str) -> MlflowClient:
    return mirrors._client(server)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables that `_client` would set for the whole process; MLflow writes into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def evaluation(micro_f1: float) -> Evaluation:
    """One metric of one task."""
    return {"tactics": {"holdout": TaskScores(100, {"micro_f1": micro_f1})}}


def write_version(registry: Registry, model: str, version: str, *, promoted: bool = True, **fields: Any) -> None:
    """A version of small files."""
    check = GateCheck("tactics/holdout/micro_f1", 0.7, 0.8 if promoted else 0.1, 0.02, 100, promoted)
    with registry.draft(model, version) as folder:
        (folder / "model.safetensors").write_bytes(version.encode())
        history = History(
            [Point(step, 1, 2.0 / step, 0.5) for step in range(1, 1_203)], {600: {"tactics": {"macro_f1": 0.4}}}
        )
        (folder / HISTORY_FILE).write_bytes(msgspec.json.encode(history))
        made = Manifest(
            model=model, version=version, trigger=f"{model}/1", reason="drift", promoted=promoted, gate=(check,),
            config={"epochs": 3, "learning_rate": 0.1}, base="tiny", evaluation=evaluation(0.8),
            parent_evaluation=evaluation(0.7), baselines={"TF-IDF + LR": evaluation(0.6)},
            created_ms=1_700_000_000_000, seconds=2.5, files=manifests.file_hashes(folder),
        )  # fmt: skip
        manifests.write(folder, msgspec.structs.replace(made, **fields))
    if promoted:
        registry.promote(model, version)


def runs(client: MlflowClient, model: str) -> list[Any]:
    """All runs of a model, oldest first."""
    experiment = client.get_experiment_by_name(model)
    assert experiment is not None
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)


def champion(client: MlflowClient, model: str) -> str:
    """Our name of the version that has the alias."""
    return str(client.get_model_version_by_alias(model, "champion").tags[mirrors.VERSION])


def test_a_version_is_a_run_and_a_registered_version(server: str, client: MlflowClient, tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    write_version(registry, "whole", "v0001")
    write_version(registry, "whole", "v0002", promoted=False, parent="v0001")
    assert MlflowMirror(server, registry).mirror("whole")
    first, second = runs(client, "whole")
    assert (first.info.run_name, first.info.status) == ("v0001", "FINISHED")
    assert (first.info.start_time, first.info.end_time) == (1_699_999_997_500, 1_700_000_000_000)
    assert first.data.params.items() >= {"epochs": "3", "learning_rate": "0.1", "base": "tiny"}.items()
    assert first.data.metrics.items() >= {
        "loss": 2 / 1_202, "curve/tactics/macro_f1": 0.4, "tactics/holdout/micro_f1": 0.8,
        "parent/tactics/holdout/micro_f1": 0.7, "TF-IDF - LR/tactics/holdout/micro_f1": 0.6, "seconds": 2.5,
    }.items()  # fmt: skip
    history = client.get_metric_history(first.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == [(n, 2.0 / n) for n in range(1, 1_203)]
    assert first.data.tags.items() >= {
        "sx9.version": "v0001", "sx9.reason": "drift", "sx9.trigger": "whole/1", "sx9.gate": "passed",
    }.items()  # fmt: skip
    assert second.data.tags["sx9.parent"] == "v0001"
    assert second.data.tags["sx9.gate"].startswith("refused: tactics/holdout/micro_f1 0.100 is below 0.700")
    there = {artifact.path for artifact in client.list_artifacts(first.info.run_id, FILES)}
    assert there == {f"{FILES}/{path.name}" for path in (tmp_path / "whole" / "v0001").iterdir()}
    registered = client.search_model_versions("name = 'whole'")
    assert {each.tags["sx9.version"]: each.run_id for each in registered} == {
        "v0001": first.info.run_id, "v0002": second.info.run_id,
    }  # fmt: skip
    assert champion(client, "whole") == "v0001"


def test_a_registered_champion_can_be_downloaded_completely(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    registry = Registry(tmp_path / "models")
    write_version(registry, "fetched", "v0001")
    MlflowMirror(server, registry).mirror("fetched")
    from mlflow.artifacts import download_artifacts

    got = download_artifacts("models:/fetched@champion", dst_path=str(tmp_path / "got"))
    assert manifests.verify(Path(got)) == manifests.read(registry.folder("fetched", "v0001"))


def test_nothing_is_printed(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    registry = Registry(tmp_path)
    write_version(registry, "silent", "v0001")
    assert MlflowMirror(server, registry).mirror("silent")
    assert capfd.readouterr().out == "", "it would end up in the output of --json"


def test_the_alias_follows_a_promotion_and_a_rollback(server: str, client: MlflowClient, tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    mirrored = MlflowMirror(server, registry)
    for version in ("v0001", "v0002"):
        write_version(registry, "moved", version)
        mirrored.mirror("moved")
        assert champion(client, "moved") == version
    registry.promote("moved", "v0001")
    mirrored.mirror("moved")
    assert champion(client, "moved") == "v0001"
    assert len(runs(client, "moved")) == 2


def test_an_interrupted_mirror_is_completed_and_nothing_is_sent_twice(
    server: str, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path)
    mirrored = MlflowMirror(server, registry)
    write_version(registry, "cut", "v0001")
    from mlflow import MlflowClient as Theirs

    for name in ("log_artifacts", "create_model_version", "set_registered_model_alias"):
        with monkeypatch.context() as patch:
            patch.setattr(Theirs, name, _die)
            assert not mirrored.mirror("cut")
    assert mirrored.mirror("cut")
    assert mirrored.mirror("cut")
    (run,) = runs(client, "cut")
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 1_202
    assert len(client.search_model_versions("name = 'cut'")) == 1
    assert champion(client, "cut") == "v0001"


def _die(*_: object, **__: object) -> None:
    raise ConnectionError("cut off")


def test_the_same_name_in_another_registry_is_another_version(
    server: str, client: MlflowClient, tmp_path: Path
) -> None:
    for place, seconds in (("one", 1.0), ("two", 2.0)):
        registry = Registry(tmp_path / place)
        write_version(registry, "twice", "v0001", seconds=seconds)
        MlflowMirror(server, registry).mirror("twice")
    assert [run.data.metrics["seconds"] for run in runs(client, "twice")] == [1.0, 2.0]


def test_a_trainer_mirrors_the_version_of_each_trigger(
    server: str, client: MlflowClient, tmp_path: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    world = World(tmp_path, tiny, examples(300))
    asked = sequence(examples(300))
    for one in (*asked, asked[1]):
        world.answer(one)
    found = [run for run in runs(client, "distilbert-mitre") if run.data.tags["sx9.reason"] == "volume"]
    assert [run.data.tags["sx9.trigger"] for run in found] == [one.id for one in asked]
    micro_f1 = world.manifest("v0002").evaluation["tactics"]["holdout"].metrics["micro_f1"]
    assert found[1].data.metrics["tactics/holdout/micro_f1"] == micro_f1
    assert champion(client, "distilbert-mitre") == world.registry.champion("distilbert-mitre")


def test_a_batch_call_mirrors_its_version(
    server: str, client: MlflowClient, tmp_path: Path, models_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sx9_ml_models.training import train_distilbert

    for name, value in (("MLFLOW_TRACKING_URI", server), ("SX9_CACHE_DIR", models_cache)):
        monkeypatch.setenv(name, str(value))
    folder = content(tmp_path / "content", procedures(60))
    result = train_distilbert(folder, tmp_path / "mine", base="tiny", threads=1, device="cpu", epochs=1)
    experiment = client.get_experiment_by_name("distilbert-mitre")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`sx9.trigger` = 'batch:v0001'")
    assert run.data.tags["sx9.gate"] == f"refused: {result.refused}"
    assert run.data.metrics["tactics/holdout/examples"] == result.evaluation["tactics"]["holdout"].examples


def test_an_mlflow_that_does_not_answer_stops_nothing_and_receives_the_version_later(
    server: str, client: MlflowClient, tmp_path: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        world = World(tmp_path, tiny, examples(300))
        before = failures()
        world.answer(sequence(examples(300))[0])
    assert world.said() == [("v0001", "trained"), ("v0001", "promoted")]
    assert failures() == before + 1
    assert "distilbert-mitre: not mirrored to MLflow at http://127.0.0.1:" in caplog.text
    shutil.move(tmp_path / "output" / "models" / "distilbert-mitre", tmp_path / "models" / "later")
    assert MlflowMirror(server, Registry(tmp_path / "models")).mirror("later")
    assert champion(client, "later") == "v0001"


def failures() -> float:
    """The number of failures to mirror, from the Prometheus metrics."""
    found = metrics.TRACKING_FAILURES.collect()[0].samples
    return sum(sample.value for sample in found if sample.name.endswith("_total"))


def test_without_a_tracking_uri_there_is_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_mirror(load_trainer_settings().mlflow_tracking_uri, Registry(tmp_path)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert load_trainer_settings().mlflow_tracking_uri == "http://somewhere:5000"


def test_the_error_for_a_missing_package_has_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadConfiguration, match=r"the package mlflow is not installed: run `pip install 'sx9"):
        mlflow_mirror("http://somewhere:5000", Registry(tmp_path))
