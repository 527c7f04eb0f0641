"""Scores the answers in packed rows with a language model: a loss for training, metrics for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import Phi3ForCausalLM

from schemas.scores import HOLDOUT, OLD, RECENT, TaskScores
from trainers.core.batching import batches_by_length
from trainers.core.precision import autocast
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.models.phi3_lora.adapter import PADDED_ATTENTION
from trainers.models.phi3_lora.answer_loss import (
    AnswerLogLikelihood,
    answer_log_likelihoods,
    answer_loss,
    answer_scores,
)
from trainers.models.phi3_lora.packing import PackedRow, PromptAnswer, pack
from trainers.models.phi3_lora.padded_attention import pad_segments

BATCH_SIZE = 8
"""Examples that are scored in one row."""


class LanguageModelScorer(nn.Module):
    """A language model whose forward pass is the loss of the answers in a packed row.

    Args:
        model: The base model with its adapter.
        device: Where it computes.
        precision: `float32` or `bfloat16`.
    """

    def __init__(self, model: PeftModel, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model = model
        self._device = device
        self._precision = precision

    def forward(self, row: PackedRow) -> torch.Tensor:
        """The summed cross entropy of the answer tokens: a scalar, float32, in nats."""
        return answer_loss(self.hidden_states(row), self._output_weight, row.answer_ids)

    def hidden_states(self, row: PackedRow) -> torch.Tensor:
        """The hidden states that predict the answer tokens; the logits of all other tokens are never computed.

        Returns:
            (k, dim): of the last layer, in the precision of the computation.
        """
        model = self._base_model
        extra: dict[str, Any]
        if model.config._attn_implementation == PADDED_ATTENTION:
            extra = {"segments": pad_segments(row.segment_sizes, self._device)}
        else:
            extra = {"segment_sizes": row.segment_sizes}
        with autocast(self._device, self._precision):
            output = model.model(input_ids=row.input_ids, position_ids=row.position_ids, use_cache=False, **extra)
        hidden: torch.Tensor = output.last_hidden_state[0, row.answer_positions]
        return hidden

    def log_likelihoods(
        self, examples: Sequence[PromptAnswer], phase: str, on_progress: ProgressCallback
    ) -> list[AnswerLogLikelihood]:
        """How well the model predicts each answer.

        Args:
            examples: May be empty.
            phase: Named in the progress.
            on_progress: Called after every batch.

        Returns:
            In the order of the examples.
        """
        found: dict[int, AnswerLogLikelihood] = {}
        batches = batches_by_length([len(example.answer) for example in examples], BATCH_SIZE)
        with torch.inference_mode():
            for step, batch in enumerate(batches, 1):
                row = pack([examples[i] for i in batch], self._device)
                scored = answer_log_likelihoods(
                    self.hidden_states(row), self._output_weight, row.answer_ids, row.answer_lengths
                )
                found |= zip(batch, scored, strict=True)
                on_progress(RunProgress(phase, step, len(batches)))
        return [found[i] for i in range(len(examples))]

    def hidden_states_and_likelihoods(self, row: PackedRow) -> tuple[torch.Tensor, list[AnswerLogLikelihood]]:
        """The hidden states of a row, see `hidden_states`, and how well the model predicts each of its answers."""
        hidden = self.hidden_states(row)
        return hidden, answer_log_likelihoods(hidden, self._output_weight, row.answer_ids, row.answer_lengths)

    def scores(self, examples: Sequence[PromptAnswer], phase: str, on_progress: ProgressCallback) -> TaskScores:
        """Metrics of the model on some examples; see `answer_scores`."""
        return answer_scores(self.log_likelihoods(examples, phase, on_progress), self.vocabulary_size)

    @property
    def vocabulary_size(self) -> int:
        """Number of rows of the output matrix."""
        return len(self._output_weight)

    @property
    def _base_model(self) -> Phi3ForCausalLM:
        return cast(Phi3ForCausalLM, self.model.get_base_model())

    @property
    def _output_weight(self) -> torch.Tensor:
        """(vocabulary, dim)."""
        weight: torch.Tensor = self._base_model.lm_head.weight
        return weight


class EncodedHoldout(NamedTuple):
    """The holdout that a version is scored on: instructions about techniques that no version was trained on.

    Attributes:
        old, recent: From before the trained windows, and from within them.
    """

    old: list[PromptAnswer]
    recent: list[PromptAnswer]

    def scores(
        self, scorer: LanguageModelScorer, phase: str, on_progress: ProgressCallback
    ) -> dict[str, TaskScores]:
        """The scores of the splits `old`, `recent` and `holdout`, which is both together."""
        answers = scorer.log_likelihoods([*self.old, *self.recent], phase, on_progress)
        splits = {OLD: answers[: len(self.old)], RECENT: answers[len(self.old) :], HOLDOUT: answers}
        return {split: answer_scores(part, scorer.vocabulary_size) for split, part in splits.items()}
