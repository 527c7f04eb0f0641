"""The training loop that every recipe runs: what a model computes is the recipe's, how it is fitted is here.

    plan ──> steps ──> pieces of a batch ──> loss ──> gradients ──> AdamW ──> on_progress, log
              │ resumed where a checkpoint is            └ every eval_steps: scores; every save_steps: checkpoint

A run that was killed and goes on from its checkpoint sees the same losses and ends with the same weights. Under
`accelerate launch` (or torchrun) each process computes its share of every batch; the result is that of one
process, up to the order of the sums.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from schemas.errors import BadConfiguration
from schemas.scores import TaskScores
from trainers.core.config import RecipeConfig
from trainers.core.history import History, Point
from trainers.core.progress import ProgressCallback, RunProgress

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Indices = Sequence[int]
Loss = Callable[[nn.Module, Indices], torch.Tensor]

MAX_NORM = 1.0
"""Longer gradients are cut to this length."""


class Checkpointer(Protocol):
    """Where a run keeps its latest checkpoint."""

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> History | None:
        """Restore a model, its optimizer and torch's random state.

        Returns:
            The history up to the checkpoint; None, and nothing is changed, where there is none of this run.
        """

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
        """Replace the checkpoint."""


def fit(
    model: nn.Module,
    plan: Sequence[Sequence[Indices]],
    loss: Loss,
    groups: Sequence[dict[str, Any]],
    config: RecipeConfig,
    on_progress: ProgressCallback,
    *,
    weight: Callable[[Indices], float] = len,
    checkpointer: Checkpointer | None = None,
    evaluate: Callable[[], Mapping[str, TaskScores]] | None = None,
) -> History:
    """Train a model in place.

    Args:
        model: On any device; it ends on that of `config.device`, in evaluation mode.
        plan: The batches of each epoch, as indices of examples; made by the recipe from its seed.
        loss: The sum of the losses of some examples, a scalar. It takes random numbers from torch's global
            generator alone.
        groups: Parameter groups of AdamW: `params`, `lr`, perhaps `weight_decay`.
        config: The rates' warm-up, steps between things, device, ...
        on_progress: Called after every step; what it raises ends the run.
        weight: What the losses of a step are divided by: that of all its examples.
        checkpointer: Loads and saves the latest checkpoint; None for none.
        evaluate: Returns task -> scores on the holdout, for the curve.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
        BadConfiguration: Even one example is too much for the memory.
    """
    accelerator = _accelerator(config)
    model.to(accelerator.device)
    wrapped: nn.Module = accelerator.prepare_model(model)
    optimizer = torch.optim.AdamW([dict(group) for group in groups], weight_decay=config.weight_decay, foreach=True)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    steps = _steps(plan, config.gradient_accumulation_steps)
    history = History()
    if checkpointer and (found := checkpointer.load(model, optimizer)):
        history = found
        log.info("going on at step %d of %d", history.step, len(steps))
    pieces = _Pieces(accelerator, wrapped, loss, history.largest_piece or max(map(len, _batches(steps)), default=1))
    model.train()
    for step, (epoch, batches) in enumerate(steps[history.step :], history.step + 1):
        share = rate(step - 1, len(steps), config.warmup)
        for group, own in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = own["lr"] * share
        found_loss = pieces.backward(batches, sum(map(weight, batches)), optimizer)
        if not math.isfinite(found_loss):
            raise ArithmeticError(f"loss is {found_loss} at step {step} of {len(steps)}: lower the learning rate")
        nn.utils.clip_grad_norm_(trained, MAX_NORM)
        optimizer.step()
        history.points.append(Point(step, epoch, found_loss, share))
        history.largest_piece = pieces.largest
        if step % config.logging_steps == 0:
            log.info("step %d of %d, epoch %d: loss %.4f", step, len(steps), epoch, found_loss)
        if evaluate and (step % config.eval_steps == 0 or step == len(steps)):
            model.eval()
            history.scores[step] = {task: dict(scores.metrics) for task, scores in evaluate().items()}
            model.train()
        if checkpointer and step % config.save_steps == 0 and step < len(steps) and accelerator.is_main_process:
            checkpointer.save(model, optimizer, history)
        on_progress(RunProgress("training", step, len(steps), epoch, found_loss))
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.eval()
    return history


def make_deterministic(config: RecipeConfig) -> None:
    """Set up torch in this thread, where the number of threads counts, so that equal input gives equal bytes."""
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(config.seed)


def device_of(config: RecipeConfig) -> torch.device:
    """Where a model is trained: what the configuration says, else the first GPU, else the CPU."""
    return torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the full learning rate at a step counted from 0: up in a line, then down in a line to 0."""
    rising = warmup * steps
    return min(1.0, (step + 1) / rising if rising else 1.0) * (steps - step) / steps


def is_main_process() -> bool:
    """Whether this process writes files: the only one, or the first of several."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _accelerator(config: RecipeConfig) -> Accelerator:
    """Full precision on the CPU, bf16 on a GPU."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    device = device_of(config)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if device.type == "cpu" else "bf16",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


_Steps = list[tuple[int, list[Indices]]]


def _steps(plan: Sequence[Sequence[Indices]], accumulated: int) -> _Steps:
    """(epoch, batches) of each step of the optimizer; the last of an epoch may have fewer batches."""
    return [
        (epoch, list(batches[i : i + accumulated]))
        for epoch, batches in enumerate(plan, 1)
        for i in range(0, len(batches), accumulated)
    ]


def _batches(steps: _Steps) -> Iterator[Indices]:
    for _, batches in steps:
        yield from batches


class _Pieces:
    """Computes gradients in pieces of at most `largest` examples, which out of memory makes smaller."""

    def __init__(self, accelerator: Accelerator, model: nn.Module, loss: Loss, largest: int) -> None:
        self._accelerator = accelerator
        self._model = model
        self._loss = loss
        self.largest = largest

    def backward(self, batches: Sequence[Indices], weight: float, optimizer: torch.optim.Optimizer) -> float:
        """Fill in the gradients of a step.

        Returns:
            The loss, of all processes together.
        """
        while True:
            optimizer.zero_grad()
            try:
                return self._backward(batches, weight)
            except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator has no class
                if not _out_of_memory(error) or self._accelerator.num_processes > 1:
                    raise
                self._halve(error)

    def _backward(self, batches: Sequence[Indices], weight: float) -> float:
        rank, ranks = self._accelerator.process_index, self._accelerator.num_processes
        pieces = [b[i : i + self.largest] for b in batches for i in range(0, len(b), self.largest)]
        total = torch.zeros((), device=self._accelerator.device)
        for number, piece in enumerate(pieces, 1):
            with contextlib.ExitStack() as stack:
                if number < len(pieces):
                    stack.enter_context(self._accelerator.no_sync(self._model))
                mine = piece[rank::ranks]
                # A process without a share computes something for nothing: the others wait for its gradients.
                loss = self._loss(self._model, mine) if mine else 0.0 * self._loss(self._model, piece[:1])
                (loss * (ranks / weight)).backward()
                total += loss.detach() / weight
        return float(self._accelerator.reduce(total, "sum") if ranks > 1 else total)

    def _halve(self, error: RuntimeError) -> None:
        if self.largest == 1:
            raise BadConfiguration(
                "out of memory with a single example: lower the most tokens of an example, choose a smaller base "
                f"model, or free memory ({error})"
            ) from error
        self.largest = (self.largest + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: batches are computed in pieces of %d examples from here on", self.largest)


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
