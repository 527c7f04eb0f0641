"""Train an adapter on instructions: the order of the batches, and the loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from schemas.recipes.phi3_lora import Phi3LoraConfig
from schemas.scores import TaskScores
from trainers.core.batching import shuffled_batches
from trainers.core.history import History
from trainers.core.loop import Checkpointer, device_of, fit
from trainers.core.progress import ProgressCallback
from trainers.models.phi3_lora.packing import PromptAnswer, pack
from trainers.models.phi3_lora.scorer import LanguageModelScorer

BATCHES_PER_BUCKET = 8
"""Batches that are cut from one bucket of shuffled examples, sorted by length: even rows, still a random order."""


def train_adapter(
    scorer: LanguageModelScorer,
    train: Sequence[PromptAnswer],
    config: Phi3LoraConfig,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None = None,
    evaluate: Callable[[], Mapping[str, TaskScores]] | None = None,
) -> History:
    """Train the adapter of a model in place; it ends in evaluation mode.

    Args:
        scorer: The model, which computes the loss of a packed row.
        train: What is learned; without an example, nothing is trained.
        config: `batch_size` examples are packed into one row.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves checkpoints; None for none.
        evaluate: Task -> scores on the holdout, for the curve; None for no curve.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
    """
    device = device_of(config)
    return fit(
        scorer,
        _plan(train, config),
        lambda model, indices: model(pack([train[i] for i in indices], device)),
        [{"params": [p for p in scorer.parameters() if p.requires_grad], "lr": config.learning_rate}],
        config,
        on_progress,
        weight=lambda indices: float(sum(len(train[i].answer) for i in indices)),
        checkpointer=checkpointer,
        evaluate=evaluate,
    )


def _plan(train: Sequence[PromptAnswer], config: Phi3LoraConfig) -> list[list[list[int]]]:
    """The batches of each epoch, as indices of examples."""
    rng = random.Random(config.seed)
    lengths = [len(example.prompt) + len(example.answer) for example in train]
    return [shuffled_batches(lengths, config.batch_size, BATCHES_PER_BUCKET, rng) for _ in range(config.epochs)]
