"""The processes of one run, as `accelerate launch` or `torchrun` starts them: who writes, on what all must agree.

    join ──> from_main(what to train) ──> agree(what each sees) ──> train, each its share ──> wait(for the writer)

A process alone is its own main process; everything here is then for nothing and changes nothing. A process that
fails doesn't tell the others: the launcher ends them.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import logging
from typing import TypeVar

import msgspec

from schemas.errors import BadConfiguration
from trainers.core.config import RecipeConfig
from trainers.core.loop import device_of, is_main_process

Record = TypeVar("Record", bound=msgspec.Struct)


def join(config: RecipeConfig) -> None:
    """Meet the other processes of this run, if it has any; all but the main one log warnings only from then on.

    They part when the process ends.

    Args:
        config: `device` decides on what they meet: gloo between CPUs, NCCL between GPUs.
    """
    import torch
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    wanted = device_of(config)
    found = PartialState(cpu=wanted.type == "cpu")
    other = found.device.type != wanted.type or wanted.index not in (None, found.device.index)
    if other and found.num_processes == 1:  # a call before this one chose another device, for the whole process
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState(cpu=wanted.type == "cpu")
    torch.set_num_threads(config.threads)  # accelerate guesses a number for several processes on CPUs
    atexit.register(_part)
    if not is_main_process():
        logging.getLogger().setLevel(logging.WARNING)


def _part() -> None:
    """End the connections, and gloo's threads, which abort if they free a tensor once Python has ended."""
    import torch

    if torch.distributed.is_initialized():
        gc.collect()  # wrapped models hold the connections too
        torch.distributed.destroy_process_group()


def ranks() -> int:
    """How many processes there are."""
    import torch

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def wait() -> None:
    """Until every process is here: what the main one has written is there for all."""
    import torch

    if ranks() > 1:
        torch.distributed.barrier()


def from_main(record: Record | None, kind: type[Record]) -> Record:
    """What the main process has, in every process; each waits for it.

    Args:
        record: Of the main process; those of others are not looked at.
    """
    if ranks() == 1:
        assert record is not None, "a process alone is the main process"
        return record
    return msgspec.json.decode(_broadcast(msgspec.json.encode(record) if is_main_process() else b""), type=kind)


def agree(seen: str, what: str) -> None:
    """See that every process has the same before them.

    Args:
        seen: Digest or name of what this process sees.
        what: How it is called in the message.

    Raises:
        BadConfiguration: One sees something else than the main process; raised in each that differs.
    """
    mine = hashlib.blake2b(seen.encode(), digest_size=16).digest()
    if ranks() > 1 and _broadcast(mine) != mine:
        raise BadConfiguration(
            f"this process sees another {what} than the main process: on several machines, put the content, the "
            "output and the base model on a file system that all of them share, and start them with equal settings"
        )


def _broadcast(data: bytes) -> bytes:
    """The main process's bytes."""
    import torch
    from accelerate import PartialState

    device = PartialState().device
    size = torch.tensor([len(data)], device=device)
    torch.distributed.broadcast(size, 0)
    content = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if is_main_process():
        content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    torch.distributed.broadcast(content, 0)
    return content.cpu().numpy().tobytes()
