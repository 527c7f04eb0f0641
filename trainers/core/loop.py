"""The training loop of all recipes: a recipe says what is computed, the loop fits the weights.

    plan ──> steps ──> micro-batches ──> loss ──> gradients ──> AdamW ──> history, progress, log
              │ from the checkpoint, if there is one               └ every eval_steps: scores
                                                                   └ every save_steps: checkpoint

A run that was killed and resumes from its checkpoint has the same losses and ends with the same weights. Under
`accelerate launch` or `torchrun` each process computes its share of every batch; the result is that of a single
process, except for the order of the sums.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from schemas.errors import BadConfiguration
from schemas.recipes.base import RecipeConfig
from schemas.scores import TaskScores
from trainers.core.history import History, Point
from trainers.core.progress import ProgressCallback, RunProgress

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Indices = Sequence[int]
Loss = Callable[[nn.Module, Indices], torch.Tensor]
Evaluate = Callable[[], Mapping[str, TaskScores]]

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""In the messages of torch's CPU allocator on Linux and on Windows, of the CUDA runtime and of cuBLAS."""
MAX_NORM = 1.0
"""Gradients with a larger norm are scaled down to this norm."""


class Checkpointer(Protocol):
    """Where a run keeps its latest checkpoint."""

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> History | None:
        """Restore a model, its optimizer and the random state of torch.

        Returns:
            The history up to the checkpoint. None if there is no checkpoint of this run; nothing is changed then.
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
    evaluate: Evaluate | None = None,
) -> History:
    """Train a model in place.

    Args:
        model: On any device; it is moved to `config.device`, and is in evaluation mode at the end.
        plan: The batches of each epoch, as indices of examples; the recipe makes it from its seed.
        loss: The summed loss of some examples, a scalar tensor. It draws random numbers from the global generator
            of torch only, and computes in the precision of the recipe.
        groups: Parameter groups of AdamW: `params`, `lr`, and perhaps `weight_decay`.
        config: Warm-up, accumulation, intervals, device.
        on_progress: Called after every step; an exception that it raises ends the run.
        weight: The summed loss of a step is divided by the sum of the weights of its batches.
        checkpointer: Loads and saves the latest checkpoint; None for no checkpoints.
        evaluate: Returns task -> scores on the holdout, for the history. Called every `eval_steps` and after the
            last step.

    Returns:
        The history of the whole run, including the steps before a checkpoint. Empty for an empty plan.

    Raises:
        ArithmeticError: The loss is not finite.
        BadConfiguration: Memory does not suffice for a single example.
    """
    accelerator = _accelerator(config)
    model.to(accelerator.device)
    wrapped: nn.Module = accelerator.prepare_model(model)
    optimizer = torch.optim.AdamW([dict(group) for group in groups], weight_decay=config.weight_decay, foreach=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    steps = _optimizer_steps(plan, config.gradient_accumulation_steps)
    history = _restored_history(checkpointer, model, optimizer, len(steps))
    gradients = _Gradients(accelerator, wrapped, loss, history.micro_batch_size or _largest_batch(plan))
    model.train()
    for step, (epoch, batches) in enumerate(steps[history.step :], history.step + 1):
        share = learning_rate_share(step - 1, len(steps), config.warmup)
        _set_learning_rates(optimizer, groups, share)
        step_loss = gradients.backward(batches, sum(map(weight, batches)), optimizer)
        if not math.isfinite(step_loss):
            raise ArithmeticError(f"loss is {step_loss} at step {step} of {len(steps)}: lower the learning rate")
        nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        history.points.append(Point(step, epoch, step_loss, share))
        history.micro_batch_size = gradients.micro_batch_size
        if step % config.logging_steps == 0:
            log.info("step %d of %d, epoch %d: loss %.4f", step, len(steps), epoch, step_loss)
        if evaluate and (step % config.eval_steps == 0 or step == len(steps)):
            history.scores[step] = _evaluated(model, evaluate)
        if checkpointer and step % config.save_steps == 0 and step < len(steps) and accelerator.is_main_process:
            checkpointer.save(model, optimizer, history)
        on_progress(RunProgress("training", step, len(steps), epoch, step_loss))
    model.eval()
    return history


def device_of(config: RecipeConfig) -> torch.device:
    """The device to train on: the configured one, else the first GPU, else the CPU."""
    return torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def learning_rate_share(step: int, steps: int, warmup: float) -> float:
    """The learning rate as a share of the configured one: a linear warm-up, then a linear decay to 0.

    Args:
        step: Counted from 0.
        steps: Steps of the run, at least 1.
        warmup: Share of the steps in which the rate rises, 0 to 1.

    >>> [learning_rate_share(step, 4, 0.5) for step in range(4)]
    [0.5, 0.75, 0.5, 0.25]
    """
    rising = warmup * steps
    return min(1.0, (step + 1) / rising if rising else 1.0) * (steps - step) / steps


def is_main_process() -> bool:
    """Whether this process writes files: it is the only one, or the first of several."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _accelerator(config: RecipeConfig) -> Accelerator:
    """The processes and the device of the run. The precision is that of the loss: `trainers.core.precision`."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    device = device_of(config)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def _optimizer_steps(plan: Sequence[Sequence[Indices]], batches_per_step: int) -> list[tuple[int, list[Indices]]]:
    """(epoch, batches) of each step; the last step of an epoch may have fewer batches."""
    return [
        (epoch, list(batches[i : i + batches_per_step]))
        for epoch, batches in enumerate(plan, 1)
        for i in range(0, len(batches), batches_per_step)
    ]


def _largest_batch(plan: Sequence[Sequence[Indices]]) -> int:
    return max((len(batch) for batches in plan for batch in batches), default=1)


def _restored_history(
    checkpointer: Checkpointer | None, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int
) -> History:
    """The history of the checkpoint that was loaded; an empty one if there is none."""
    history = checkpointer.load(model, optimizer) if checkpointer else None
    if not history:
        return History()
    log.info("resuming at step %d of %d", history.step, steps)
    return history


def _set_learning_rates(optimizer: torch.optim.Optimizer, groups: Sequence[dict[str, Any]], share: float) -> None:
    for group, configured in zip(optimizer.param_groups, groups, strict=True):
        group["lr"] = configured["lr"] * share


def _evaluated(model: nn.Module, evaluate: Evaluate) -> dict[str, dict[str, float]]:
    """Task -> metrics, computed in evaluation mode."""
    model.eval()
    scores = {task: dict(scores.metrics) for task, scores in evaluate().items()}
    model.train()
    return scores


class _Gradients:
    """Computes the gradients of a step in micro-batches, and halves their size where memory runs out."""

    def __init__(self, accelerator: Accelerator, model: nn.Module, loss: Loss, micro_batch_size: int) -> None:
        self._accelerator = accelerator
        self._model = model
        self._loss = loss
        self.micro_batch_size = micro_batch_size

    def backward(self, batches: Sequence[Indices], weight: float, optimizer: torch.optim.Optimizer) -> float:
        """Compute the gradients of a step.

        Returns:
            The loss of all processes together.
        """
        while True:
            optimizer.zero_grad()
            try:
                return self._backward(batches, weight)
            except RuntimeError as error:  # includes torch.OutOfMemoryError; the CPU allocator raises no subclass
                if not is_out_of_memory(error) or self._accelerator.num_processes > 1:
                    raise
                reason = str(error)
            self._halve(reason)  # after the block: until its end, the error keeps the tensors of its frames alive

    def _backward(self, batches: Sequence[Indices], weight: float) -> float:
        rank, world_size = self._accelerator.process_index, self._accelerator.num_processes
        size = self.micro_batch_size
        micro_batches = [batch[i : i + size] for batch in batches for i in range(0, len(batch), size)]
        total = torch.zeros((), device=self._accelerator.device)
        for number, micro_batch in enumerate(micro_batches, 1):
            with contextlib.ExitStack() as stack:
                if number < len(micro_batches):
                    stack.enter_context(self._accelerator.no_sync(self._model))
                share = micro_batch[rank::world_size]
                # A process without a share still has to compute gradients, since the others wait for them.
                loss = self._loss(self._model, share) if share else 0.0 * self._loss(self._model, micro_batch[:1])
                (loss * (world_size / weight)).backward()
                total += loss.detach() / weight
        return float(self._accelerator.reduce(total, "sum") if world_size > 1 else total)

    def _halve(self, reason: str) -> None:
        if self.micro_batch_size == 1:
            raise BadConfiguration(
                "out of memory with a single example: lower the maximum number of tokens, choose a smaller base "
                f"model, or free memory ({reason})"
            )
        self.micro_batch_size = (self.micro_batch_size + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: continuing with micro-batches of %d examples", self.micro_batch_size)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)
