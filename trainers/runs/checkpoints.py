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
    run_id: str
    history: History


class FolderCheckpointer:
    """The checkpoint of one run in a folder; see `trainers.core.loop.Checkpointer`.

    Args:
        folder: Created when the first checkpoint is saved; its content is replaced each time.
        run_id: Identifies the run; a checkpoint of another run is ignored.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
        """Write the checkpoint under a temporary name, and rename it."""
        partial = self._folder.with_name(f"{self._folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(model, optimizer)}
        save_file(tensors | _random_state(), partial / _TENSORS)
        (partial / _STATE).write_bytes(msgspec.json.encode(_State(self._run_id, history)))
        shutil.rmtree(self._folder, ignore_errors=True)
        partial.rename(self._folder)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> History | None:
        """Restore the checkpoint; None where there is none of this run, or it is damaged."""
        state = self._state()
        if state is None:
            return None
        _prepare(optimizer)
        wanted = dict(_tensors(model, optimizer))
        found = self._read_tensors()
        if found is None:
            return None
        if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in found.items() if n not in _RANDOM}:
            log.warning("the checkpoint in %s has other tensors; starting at the beginning", self._folder)
            return None
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(found[name])
        torch.set_rng_state(found[_CPU])
        if _CUDA in found and torch.cuda.is_available():
            torch.cuda.set_rng_state(found[_CUDA])
        return state.history

    def _state(self) -> _State | None:
        try:
            state = msgspec.json.decode((self._folder / _STATE).read_bytes(), type=_State)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if state.run_id != self._run_id:
            log.info("%s is the checkpoint of another run; starting at the beginning", self._folder)
            return None
        return state

    def _read_tensors(self) -> dict[str, torch.Tensor] | None:
        try:
            with safe_open(self._folder / _TENSORS, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        except (FileNotFoundError, SafetensorError) as error:
            log.warning("the checkpoint in %s is damaged (%s); starting at the beginning", self._folder, error)
            return None


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
