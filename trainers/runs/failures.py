"""What a failed run means for its trigger: the only rule of what is repeated and what is answered.

    cause      what is wrong                                 what the trainer does
    data       the examples: `BadData`                       refuses the trigger at once
    candidate  the training: any other error                 tries again; refuses the trigger after `max_attempts`
    machine    disk, memory, files, network, a setting, a    tries again, after pauses that grow; never an answer
               library, a process that was killed

An answer in the journal is for ever: the examples of the trigger have had their turn. So what another machine, or
this one tomorrow, would do without an error must not become one.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

from schemas.errors import BadData, BadRecord, Sx9Error

Cause = Literal["data", "candidate", "machine"]

RETRY_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Pauses after faults of the machine in a row, seconds. The last one repeats without limit."""

_MACHINE = (Sx9Error, OSError, MemoryError, sqlite3.Error, ImportError)
_MACHINE_NAMES = frozenset(("SafetensorError", "OutOfMemoryError", "AcceleratorError"))
"""Types of safetensors and torch, by name since this module imports neither. safetensors reports a full disk so;
it reads only files whose hashes were verified."""
_MACHINE_TEXTS = ("can't allocate memory", "out of memory", "CUDA error", "No space left", "Disk quota exceeded")
"""Parts of messages of a `RuntimeError`: the CPU allocator of torch, CUDA, and writers in C++ have no type."""


class Failure(msgspec.Struct, frozen=True):
    """Why a run failed.

    Attributes:
        cause: See the module.
        error: Name of the exception; also the label of a metric.
        message: Its message.
    """

    cause: Cause
    error: str
    message: str

    def __str__(self) -> str:
        return f"{self.error}: {self.message}"


class RunFailed(Exception):
    """A run in another process failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """What an exception of a run means.

    >>> failure_of(OSError(28, "No space left on device")).cause
    'machine'
    >>> failure_of(ArithmeticError("loss is nan at step 3")).cause
    'candidate'
    """
    if isinstance(error, RunFailed):
        return error.failure
    return Failure(_cause_of(error), type(error).__name__, str(error))


def retry_pause_s(faults: int) -> float:
    """The pause after so many faults of the machine in a row, seconds.

    >>> retry_pause_s(1), retry_pause_s(1_000)
    (1.0, 60.0)
    """
    return RETRY_PAUSES_S[min(faults, len(RETRY_PAUSES_S)) - 1]


def _cause_of(error: BaseException) -> Cause:
    if isinstance(error, BadData):
        return "data"
    chain: BaseException | None = error
    while chain is not None:  # libraries wrap errors: `raise ValueError(...) from OSError(...)`
        if _is_of_machine(chain):
            return "machine"
        chain = chain.__cause__
    return "candidate"


def _is_of_machine(error: BaseException) -> bool:
    if isinstance(error, _MACHINE):
        return not isinstance(error, BadRecord)
    text = str(error)
    return type(error).__name__ in _MACHINE_NAMES or (
        isinstance(error, RuntimeError) and any(part in text for part in _MACHINE_TEXTS)
    )
