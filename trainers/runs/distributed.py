"""Several processes of one run, as `accelerate launch` or `torchrun` starts them.

    join ──> broadcast_from_main(request) ──> check_agreement(inputs) ──> train, each its share ──> barrier

In a run with a single process, these functions do nothing. A process that fails does not notify the others: the
launcher ends them.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import logging
from typing import TypeVar

import msgspec

from schemas.errors import BadConfiguration
from schemas.recipes.base import RecipeConfig
from trainers.core.loop import device_of, is_main_process

Record = TypeVar("Record", bound=msgspec.Struct)


def join(config: RecipeConfig) -> None:
    """Connect to the other processes of the run, if there are any, until this process ends.

    From then on, processes other than the main one log warnings and errors only.

    Args:
        config: `device` decides how they communicate: gloo between CPUs, NCCL between GPUs.
    """
    import torch
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    device = device_of(config)
    state = PartialState(cpu=device.type == "cpu")
    is_other_device = state.device.type != device.type or device.index not in (None, state.device.index)
    if is_other_device and state.num_processes == 1:  # accelerate keeps the device of an earlier call
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState(cpu=device.type == "cpu")
    torch.set_num_threads(config.threads)  # accelerate sets another number for several processes on CPUs
    atexit.register(_leave)
    if not is_main_process():
        logging.getLogger().setLevel(logging.WARNING)


def _leave() -> None:
    """Close the connections and the threads of gloo, which abort if they free a tensor after Python has ended."""
    import torch

    if torch.distributed.is_initialized():
        gc.collect()  # wrapped models hold connections too
        torch.distributed.destroy_process_group()


def world_size() -> int:
    """The number of processes of the run."""
    import torch

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def barrier() -> None:
    """Wait until every process gets here. What the main process has written before is then visible to all."""
    import torch

    if world_size() > 1:
        torch.distributed.barrier()


def broadcast_from_main(record: Record | None, kind: type[Record]) -> Record:
    """Send a record from the main process to all processes; each of them waits for it.

    Args:
        record: The record, in the main process; ignored in the others.
        kind: Type of the record.

    Returns:
        The record of the main process.
    """
    if world_size() == 1:
        assert record is not None, "a single process is the main process"
        return record
    return msgspec.json.decode(_broadcast(msgspec.json.encode(record) if is_main_process() else b""), type=kind)


def check_agreement(inputs: str, what: str) -> None:
    """Check that all processes have the same inputs.

    Args:
        inputs: The inputs of this process, as text.
        what: A description of them, for the error message.

    Raises:
        BadConfiguration: They differ from those of the main process; raised in each process where they do.
    """
    own = hashlib.blake2b(inputs.encode(), digest_size=16).digest()
    if world_size() > 1 and _broadcast(own) != own:
        raise BadConfiguration(
            f"this process has another {what} than the main process: on several machines, put the content, the "
            "output and the base model on a shared file system, and start the processes with the same settings"
        )


def _broadcast(data: bytes) -> bytes:
    """The bytes of the main process."""
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
