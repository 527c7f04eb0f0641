"""The side of the child in `run_process`: a program that reads a request, does its work, and reports in lines."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

import msgspec

from schemas.codec import decode
from trainers.core.progress import Cancelled, ProgressCallback, RunProgress
from trainers.runs.failures import failure_of
from trainers.runs.run_process import Ended, LogLine, Message, Request, StepDone

STDIN, STDOUT, STDERR = 0, 1, 2
MEMORY_SCORE = 500
"""`oom_score_adj` of the process: where memory runs out, Linux kills the run and not the trainer or Kafka."""
AnyRequest = TypeVar("AnyRequest", bound=Request)
Send = Callable[[Message], None]


class _Channel(logging.Handler):
    """Sends messages, and log records, to the trainer; the standard output of libraries goes to standard error."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # the trainer adds time, level and logger
        self._sending = threading.Lock()
        self._output = os.fdopen(os.dup(STDOUT), "wb")
        os.dup2(STDERR, STDOUT)

    def send(self, message: Message) -> None:
        """Send one line."""
        with contextlib.suppress(BrokenPipeError), self._sending:  # without a reader, the trainer is gone
            self._output.write(msgspec.json.encode(message) + b"\n")
            self._output.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self.send(LogLine(record.levelno, record.name, self.format(record)))


def serve(
    kind: type[AnyRequest], work: Callable[[AnyRequest, ProgressCallback, Send], None], log: logging.Logger
) -> None:
    """Read a request from standard input, do the work, and end the process.

    Args:
        kind: Type of the request.
        work: Gets the request, a callback for its progress, and a function that sends other messages.
        log: Where a failure is logged.
    """
    channel = _Channel()
    request = decode(_read_line(), kind)
    threading.Thread(target=_end_with_trainer, name="trainer-watch", daemon=True).start()
    logging.basicConfig(level=request.log_level, handlers=[channel])
    _be_first_out_of_memory()
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, set_stop)

    def on_progress(progress: RunProgress) -> None:
        if stop.is_set():
            raise Cancelled
        channel.send(StepDone(progress))

    try:
        work(request, on_progress, channel.send)
        ended = Ended()
    except Cancelled:
        ended = Ended(cancelled=True)
    except Exception as error:
        failure = failure_of(error)
        log.log(
            logging.ERROR if failure.cause != "data" else logging.INFO,
            "%s failed", request.title, exc_info=failure.cause == "candidate",
        )  # fmt: skip
        ended = Ended(failure)
    channel.send(ended)
    sys.stderr.flush()
    os._exit(0)  # all is written: what libraries do at the end of a process takes time and can fail


def _read_line() -> bytes:
    """The first line of standard input, read without a buffer that could hold a lock at the end of the process."""
    parts = []
    while part := os.read(STDIN, 65_536):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def _end_with_trainer() -> None:
    """End this process at once when standard input closes. Everything on disk is safe at every instruction."""
    while os.read(STDIN, 1):
        pass
    os._exit(1)


def _be_first_out_of_memory() -> None:
    """Have Linux kill this process before others where memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(MEMORY_SCORE))
