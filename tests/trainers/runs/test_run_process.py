"""A run in a process of its own: same weights, news on the way, and it ends with its trainer, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from schemas.windows import Trigger
from tests.trainers.runs.test_trigger_handler import World, quick, sequence
from tests.trainers.samples import MODEL, examples
from trainers.bases.resolve import Base
from trainers.core.progress import Cancelled, RunProgress
from trainers.runs.failures import RunFailed
from trainers.runs.run_process import MODULE, RunRequest, run_in_process
from trainers.store.journal_copy import JournalCopy

TIMEOUT_S = 600.0


@pytest.fixture
def world(tmp_path: Path, tiny: Base) -> World:
    return World(tmp_path, tiny, examples(300))


@pytest.fixture
def asked() -> tuple[Trigger, Trigger]:
    return sequence(examples(300))


def request_of(world: World, trigger: Trigger, **config: object) -> RunRequest:
    """The request of a trainer whose copy of the journal is up to date."""
    own = world.settings()
    copy = JournalCopy(own.trainer_dir / "journal.sqlite", world.journal)
    copy.catch_up()
    copy.close()
    return RunRequest(
        trigger=quick(trigger, **config),
        machine={},
        models_dir=str(world.registry.root),
        cache_dir=str(own.cache_dir),
        journal_copy=str(own.trainer_dir / "journal.sqlite"),
    )


def process_of_a_run() -> psutil.Process:
    """The process of the run that this process started."""
    (found,) = [child for child in psutil.Process().children() if MODULE in child.cmdline()]
    return found


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_has_the_weights_of_a_run_in_the_same_process(
    world: World, asked: tuple[Trigger, Trigger], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    straight = World(tmp_path / "straight", world.base, examples(300))
    steps: list[RunProgress] = []
    caplog.set_level("INFO")
    straight.answer(asked[0])
    world.answer(asked[0], run=run_in_process, on_progress=steps.append)
    assert world.said() == straight.said()
    assert world.manifest("v0001").files == straight.manifest("v0001").files
    assert [s.step for s in steps if s.phase == "training" and s.step == s.steps]
    assert "distilbert-mitre: base model tiny" in caplog.text, "its log is the log of the trainer"


def test_an_error_in_it_comes_back_with_its_cause(world: World, asked: tuple[Trigger, Trigger]) -> None:
    with pytest.raises(RunFailed, match=r"Corrupt: .*v0001/manifest\.json is missing") as raised:
        run_in_process(request_of(world, asked[1]), lambda step: None)
    assert raised.value.failure.cause == "machine"


def test_a_damaged_copy_of_the_journal_comes_back_by_name(world: World, asked: tuple[Trigger, Trigger]) -> None:
    request = request_of(world, asked[0])
    Path(request.journal_copy).write_bytes(b"this is no database, and long enough not to be taken for one" * 20)
    with pytest.raises(RunFailed) as raised:
        run_in_process(request, lambda step: None)
    assert raised.value.failure.error == "UnusableCopy"


def test_one_that_is_killed_for_memory_is_a_fault_of_the_machine_and_the_next_resumes(
    world: World, asked: tuple[Trigger, Trigger], tmp_path: Path
) -> None:
    straight = World(tmp_path / "straight", world.base, examples(300))
    straight.answer(asked[0], epochs=40, save_steps=5)
    request = request_of(world, asked[0], epochs=40, save_steps=5)
    checkpoint = world.registry.checkpoint_folder(MODEL, "v0001")

    killed: list[psutil.Process] = []

    def kill(step: RunProgress) -> None:
        if checkpoint.exists() and not killed:  # steps that it sent before still arrive after
            killed.append(process_of_a_run())
            killed[0].kill()

    with pytest.raises(RunFailed, match="killed by SIGKILL; the kernel does this when memory runs out") as raised:
        run_in_process(request, kill)
    assert raised.value.failure.cause == "machine"
    first: list[RunProgress] = []
    run_in_process(request, lambda step: first.append(step) if step.phase == "training" else None)
    assert first[0].step > 1, "it resumed"
    assert world.manifest("v0001").files == straight.manifest("v0001").files


def test_a_cancelled_one_ends_and_leaves_nothing_behind(world: World, asked: tuple[Trigger, Trigger]) -> None:
    processes = []

    def cancel(step: RunProgress) -> None:
        processes.append(process_of_a_run())
        if step.phase == "training":
            raise Cancelled

    with pytest.raises(Cancelled):
        run_in_process(request_of(world, asked[0], epochs=10_000), cancel)
    assert not processes[-1].is_running()
    assert list((world.registry.root / MODEL).glob(".*.partial")) == []


def test_sigterm_cancels_it(world: World, asked: tuple[Trigger, Trigger]) -> None:
    terminated: list[psutil.Process] = []

    def terminate(step: RunProgress) -> None:
        if step.phase == "training" and not terminated:
            terminated.append(process_of_a_run())
            terminated[0].terminate()

    with pytest.raises(Cancelled):
        run_in_process(request_of(world, asked[0], epochs=10_000), terminate)
    assert world.registry.versions(MODEL) == []


def test_it_ends_with_a_trainer_that_is_killed(
    world: World, asked: tuple[Trigger, Trigger], tmp_path: Path
) -> None:
    request = tmp_path / "request.json"
    request.write_bytes(msgspec.json.encode(request_of(world, asked[0], epochs=10_000)))
    code = f"""
import msgspec
from pathlib import Path
from trainers.runs.run_process import RunRequest, run_in_process
request = msgspec.json.decode(Path({str(request)!r}).read_bytes(), type=RunRequest)
run_in_process(request, lambda step: None)
"""
    partial = world.registry.root / MODEL / ".v0001.partial"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3]) as trainer:
        try:
            until(partial.exists)
            (run,) = psutil.Process(trainer.pid).children()
        finally:
            os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: not run.is_running() or run.status() == psutil.STATUS_ZOMBIE)
