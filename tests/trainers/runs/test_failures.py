"""What is wrong with the machine is never an answer; what is wrong with the data or the candidate is."""

from __future__ import annotations

import errno
import resource
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from schemas.errors import BadConfiguration, BadData, Corrupt, RetryLater
from trainers.runs.failures import Failure, RunFailed, failure_of
from trainers.store.journal_reader import UnusableCopy


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EIO, "Input/output error"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        sqlite3.OperationalError("database or disk is full"),
        ImportError("libcudart.so"),
        RetryLater("another process is training"),
        BadConfiguration("/output has 10 MB left"),
        Corrupt("model.safetensors has another sha256"),
        UnusableCopy("journal.sqlite is damaged"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_wrong_with_the_machine(error: Exception) -> None:
    assert failure_of(error) == Failure("machine", type(error).__name__, str(error))


def test_no_room_as_safetensors_reports_it(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(Exception, match="I/O error") as raised:
            save_file({"a": np.zeros(100_000)}, tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failure_of(raised.value).cause == "machine"


def test_an_error_that_a_library_made_of_one_of_the_machine() -> None:
    wrapped = ValueError("can't write the tokenizer")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert failure_of(wrapped).cause == "machine"


@pytest.mark.parametrize(
    "error",
    [
        ArithmeticError("loss is nan"),
        ValueError("$\\x$ is no label"),
        RuntimeError("max(): Expected reduction dim"),
        KeyError("T1059"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_wrong_with_the_candidate(error: Exception) -> None:
    assert failure_of(error).cause == "candidate"


def test_what_is_wrong_with_the_data() -> None:
    assert failure_of(BadData("no links")).cause == "data"


def test_the_failure_of_another_process_is_kept() -> None:
    failure = Failure("machine", "Killed", "by signal 9")
    assert failure_of(RunFailed(failure)) is failure
