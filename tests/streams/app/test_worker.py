"""A role ends at SIGTERM, whenever it comes, and after a crash, whatever its threads wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.local.services import environment_of
from transport.topics import create_topics

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 240

STUCK = """
import os, signal, threading, time
from streams.app import worker

worker.STOP_TIMEOUT_S = 0.2
with worker.exit_at_sigterm():
    threading.Thread(target=time.sleep, args=(3600,)).start()  # as a sink that waits for Kafka
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3600)
"""


def ended(program: str, bootstrap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a program beside this file did, once it has ended."""
    create_topics(bootstrap)
    command = [sys.executable, "-m", f"tests.streams.app.{program}", bootstrap, *arguments]
    env = os.environ | environment_of(bootstrap)
    return subprocess.run(
        command, cwd=ROOT, timeout=TIMEOUT_S, check=False, capture_output=True, text=True, env=env
    )


def test_a_process_ends_after_sigterm_although_one_of_its_threads_does_not() -> None:
    assert subprocess.run([sys.executable, "-c", STUCK], cwd=ROOT, timeout=TIMEOUT_S, check=False).returncode == 0


@pytest.mark.parametrize("stage", [0, 4])
def test_a_worker_that_gets_sigterm_while_it_starts_stops(kafka_bootstrap: str, tmp_path: Path, stage: int) -> None:
    done = ended("stopped_worker", kafka_bootstrap, str(tmp_path), str(stage))
    assert done.returncode == 0, done.stderr


def test_a_worker_that_crashes_ends_although_one_of_its_threads_does_not(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    done = ended("crashed_worker", kafka_bootstrap, str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "crashed beside" in done.stderr
    assert "Thread 0x" in done.stderr, "what the threads wait for"
