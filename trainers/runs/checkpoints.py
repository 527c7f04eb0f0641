"""The latest checkpoint of a run: everything that the remaining steps depend on, as safetensors and JSON.

    <folder>/state.safetensors   trained parameters, buffers, the moments of AdamW, the random state
    <folder>/state.json          the id of the run, its history so far, and the sha256 of the tensors

A checkpoint is written under a temporary name, flushed to the disk, and then renamed. So a killed process, or a
machine without power, leaves a complete one or none. One whose bytes changed since is removed, and the run starts
from its beginning: it has the same weights, only later.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from trainers.core.history import History
from transport.files import sha256_of, sync, sync_folder

log = logging.getLogger(__name__)

TENSORS_FILE, STATE_FILE = "state.safetensors", "state.json"


class _State(msgspec.Struct, frozen=True):
    run_id: str
    history: History
    sha256: str


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
        """See `Checkpointer.save`."""
        partial = self._folder.with_name(f"{self._folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(model, optimizer)}
        save_file(tensors | _random_state(), partial / TENSORS_FILE)
        state = _State(self._run_id, history, sha256_of(partial / TENSORS_FILE))
        (partial / STATE_FILE).write_bytes(msgspec.json.encode(state))
        sync_folder(partial)
        shutil.rmtree(self._folder, ignore_errors=True)
        partial.rename(self._folder)
        sync(self._folder.parent)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> History | None:
        """See `Checkpointer.load`. A damaged checkpoint is removed, with a warning."""
        state = self._state()
        if state is None:
            return None
        with safe_open(self._folder / TENSORS_FILE, "pt") as file:
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        _create_adamw_state(optimizer)
        tensors = dict(_tensors(model, optimizer))
        if _shapes(tensors) != _shapes(saved):
            optimizer.state.clear()
            self._drop("it has other tensors")
            return None
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(saved[name])
        _set_random_state(saved)
        return state.history

    def _state(self) -> _State | None:
        """The state of a checkpoint of this run whose tensors are those that were written."""
        if not self._folder.is_dir():
            return None
        try:
            state = msgspec.json.decode((self._folder / STATE_FILE).read_bytes(), type=_State)
            if state.run_id != self._run_id:
                log.info("%s is the checkpoint of another run; starting from the beginning", self._folder)
                return None
            found = sha256_of(self._folder / TENSORS_FILE)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            self._drop(str(error))
            return None
        if found != state.sha256:
            self._drop(f"{TENSORS_FILE} has sha256 {found}, but {state.sha256} was written")
            return None
        return state

    def _drop(self, why: str) -> None:
        """Remove a checkpoint that is damaged."""
        log.warning("the checkpoint in %s is damaged (%s); starting from the beginning", self._folder, why)
        shutil.rmtree(self._folder, ignore_errors=True)


_CPU, _CUDA = _RANDOM = ("random.cpu", "random.cuda")


def _random_state() -> dict[str, torch.Tensor]:
    state = {_CPU: torch.get_rng_state()}
    if torch.cuda.is_available():
        state[_CUDA] = torch.cuda.get_rng_state()
    return state


def _set_random_state(tensors: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(tensors[_CPU])
    if _CUDA in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[_CUDA])


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    """Name -> shape of all tensors except the random state."""
    return {name: tensor.shape for name, tensor in tensors.items() if name not in _RANDOM}


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of everything that a step changes."""
    yield from ((f"buffer.{name}", buffer) for name, buffer in model.named_buffers())
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        yield f"parameter.{number}", parameter
        for name, tensor in optimizer.state.get(parameter, {}).items():
            yield f"optimizer.{number}.{name}", tensor


def _create_adamw_state(optimizer: torch.optim.Optimizer) -> None:
    """Create the state that AdamW would create in its first step, so that it can be overwritten."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
