"""A run in a process of its own: torch and the memory of the run are there, and end with it.

    trainer ──stdin: RunRequest, one line of JSON──> python -m trainers.runs.execute_run
            <──stdout: StepDone, LogLine, Ended; each a line of JSON──┘

The version itself goes through the registry: the process writes its folder, with the gate's decision in the
manifest, and the trainer reads that manifest. So the gate, the card and the plots are where torch is, and registry
and manifests work without it. The request names folders and the copy of the journal instead of holding their
content: with these on a shared file system the process can run elsewhere.

The process ends at SIGTERM after its present step, and is killed after `STOP_TIMEOUT_S`. It ends at once when its
standard input closes, which happens when the trainer ends, however that happens and on every platform. Wherever it
is killed, the next run resumes from the checkpoint and has the same weights.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from schemas.codec import decode
from schemas.journal import ExampleScore
from schemas.windows import Trigger
from trainers.core.progress import Cancelled, ProgressCallback, RunProgress
from trainers.runs.failures import Failure, RunFailed

MODULE = "trainers.runs.execute_run"
"""What the process runs."""
OF_A_LAUNCHER = frozenset(("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
"""Variables of `torchrun` that the process does not get: a run of the stream has one process, wherever it runs."""
STOP_TIMEOUT_S = 5.0
"""From SIGTERM to SIGKILL, seconds."""
POLL_S = 0.2
"""How often a run without news is checked for its cancellation, seconds."""


class Request(Protocol):
    """What every request to a child has: the least level of its log lines, and what it is about, for the log."""

    @property
    def log_level(self) -> int:
        """As in `logging`."""

    @property
    def title(self) -> str:
        """What it is about."""


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A run.

    Attributes:
        trigger: What to train, and all that decides the result.
        machine: The fields of the recipe that belong to this machine, see `schemas.recipes.base.OF_THE_MACHINE`.
        models_dir: Folder of the registry.
        cache_dir: Folder of converted base models.
        journal_copy: SQLite file of `trainers.store.journal_copy`, up to date with the trigger.
        log_level: Lowest level of log lines to send, as in `logging`.
    """

    trigger: Trigger
    machine: dict[str, Any]
    models_dir: str
    cache_dir: str
    journal_copy: str
    log_level: int = logging.INFO

    @property
    def title(self) -> str:
        """What it is about, for the log."""
        return f"the run of {self.trigger.id}"


class StepDone(msgspec.Struct, frozen=True, tag="step"):
    """A step of the run."""

    progress: RunProgress


class LogLine(msgspec.Struct, frozen=True, tag="log"):
    """A line for the log of the trainer; a traceback is part of the message."""

    level: int
    logger: str
    message: str


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """Examples that were scored, of a process that scores (`execute_scores`)."""

    each: tuple[ExampleScore, ...]
    reference: bool


class Ended(msgspec.Struct, frozen=True, omit_defaults=True, tag="ended"):
    """The last line: the version is in the registry, unless the run failed or was cancelled."""

    failure: Failure | None = None
    cancelled: bool = False


Message = StepDone | LogLine | Scored | Ended
Run = Callable[[RunRequest, ProgressCallback], None]
"""Trains the version of a request and writes it to the registry, here or in another process."""


def run_in_process(request: RunRequest, on_progress: ProgressCallback) -> None:
    """Train a version in a process of its own.

    Args:
        request: The run.
        on_progress: Called after every step, and in between; an exception that it raises ends the process.

    Raises:
        RunFailed: The run failed, or the process was killed; see `trainers.runs.failures`.
        Cancelled: The process got SIGTERM.
    """
    follow(MODULE, request, on_progress)


def follow(
    module: str,
    request: Request,
    on_progress: ProgressCallback,
    on_scored: Callable[[Scored], None] = lambda _scored: None,
) -> None:
    """Start a module with a request, and follow it to its end; see `run_in_process`.

    Args:
        module: What the process runs.
        request: Its request.
        on_progress: As for `run_in_process`.
        on_scored: Called with examples that were scored.

    Raises:
        RunFailed, Cancelled: As by `run_in_process`.
    """
    ended: Ended | None = None
    with _process(module, request) as (process, lines):
        progress = RunProgress("starting", 0, 1)
        while ended is None:
            try:
                line = lines.get(timeout=POLL_S)
            except queue.Empty:
                on_progress(progress)
                continue
            if line is None:
                break
            match decode(line, Message):
                case StepDone(progress=progress):
                    on_progress(progress)
                case LogLine(level=level, logger=logger, message=message):
                    logging.getLogger(logger).log(level, "%s", message)
                case Scored() as scored:
                    on_scored(scored)
                case Ended() as ended:
                    pass
        if ended is None:
            raise RunFailed(_killed(process.wait()))
    if ended.failure:
        raise RunFailed(ended.failure)
    if ended.cancelled:
        raise Cancelled


@contextlib.contextmanager
def _process(module: str, request: Request) -> Iterator[tuple[subprocess.Popen[bytes], queue.Queue[bytes | None]]]:
    """The process of a run, and a queue of its lines that ends with None. It has ended when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env={name: value for name, value in os.environ.items() if name not in OF_A_LAUNCHER},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the trainer only, which stops the process
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()
    reader = threading.Thread(target=_read_lines, args=(process.stdout, lines), name="run-lines", daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):  # it is dead already; its exit code says more
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            process.stdin.flush()  # it stays open for as long as we live
        yield process, lines
    finally:
        _stop(process)
        reader.join()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _read_lines(output: Any, lines: queue.Queue[bytes | None]) -> None:
    for line in output:
        lines.put(line)
    lines.put(None)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL after a while; nothing if it has ended."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _killed(code: int) -> Failure:
    """A process that ended without its last line."""
    if code >= 0:
        return Failure("machine", "RunEnded", f"the process of the run ended with code {code}")
    name = signal.Signals(-code).name
    memory = "; the kernel does this when memory runs out: see its log, and give it more" if code == -9 else ""
    return Failure("machine", "RunKilled", f"the process of the run was killed by {name}{memory}")
