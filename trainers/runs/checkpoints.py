"""A run's latest checkpoint: everything that the rest of the run depends on, as safetensors and JSON.

    <folder>/state.safetensors   trained parameters, buffers, AdamW's two means of each, the random state
    <folder>/state.json          what run it is of, and its history so far

Written under a temporary name and swapped in, so that a killed process leaves a whole one or none.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from trainers.core.history import History

log = logging.getLogger(__name__)

_TENSORS, _STATE = "state.safetensors", "state.json"


class _State(msgspec.Struct, frozen=True):
    identity: str
    history: History


def save_checkpoint(
    folder: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Write the checkpoint of a run, in place of its earlier one.

    Args:
        folder: Made; what was in it goes.
        identity: What run it is.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(model, optimizer)}
    save_file(tensors | _random_state(), partial / _TENSORS)
    (partial / _STATE).write_bytes(msgspec.json.encode(_State(identity, history)))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_checkpoint(
    folder: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> History | None:
    """Bring a model, its optimizer and torch's random state to where a checkpoint is.

    Returns:
        The history up to there; None, and nothing is changed, where there is no checkpoint of this run.
    """
    try:
        state = msgspec.json.decode((folder / _STATE).read_bytes(), type=_State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    if state.identity != identity:
        log.info("%s is the checkpoint of another run; starting at the beginning", folder)
        return None
    _prepare(optimizer)
    wanted = dict(_tensors(model, optimizer))
    try:
        with safe_open(folder / _TENSORS, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
    except (FileNotFoundError, SafetensorError) as error:
        log.warning("the checkpoint in %s is damaged (%s); starting at the beginning", folder, error)
        return None
    if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in found.items() if n not in _RANDOM}:
        log.warning("the checkpoint in %s has other tensors; starting at the beginning", folder)
        return None
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])
    torch.set_rng_state(found[_CPU])
    if _CUDA in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found[_CUDA])
    return state.history


_CPU, _CUDA = _RANDOM = ("random.cpu", "random.cuda")


def _random_state() -> dict[str, torch.Tensor]:
    found = {_CPU: torch.get_rng_state()}
    if torch.cuda.is_available():
        found[_CUDA] = torch.cuda.get_rng_state()
    return found


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """Everything that changes in a step, by name."""
    yield from ((f"buffer.{name}", buffer) for name, buffer in model.named_buffers())
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        yield f"parameter.{number}", parameter
        for name, tensor in optimizer.state.get(parameter, {}).items():
            yield f"optimizer.{number}.{name}", tensor


def _prepare(optimizer: torch.optim.Optimizer) -> None:
    """Give AdamW the state that it makes itself in its first step, to be overwritten."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
