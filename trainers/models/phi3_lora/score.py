"""What a version makes of single examples: the loss of its answers, and the direction of their embedding.

The embedding is the mean of the hidden states that predict the tokens of the answers.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from schemas.journal import ExampleScore
from schemas.scores import ANSWERS
from trainers.core.dataset import OffsetExample
from trainers.core.losses import DIGITS
from trainers.core.projection import project
from trainers.models.phi3_lora import predict
from trainers.models.phi3_lora.adapter import training_attention
from trainers.models.phi3_lora.chat import Chat
from trainers.models.phi3_lora.contexts import with_own_context
from trainers.models.phi3_lora.packing import pack
from trainers.models.phi3_lora.scorer import LanguageModelScorer


class AnswerScorer:
    """A version in memory; see `trainers.models.scorer.Scorer`.

    Args:
        scorer: The version.
        chat: Encodes the instructions.
        device: Where it computes.
    """

    def __init__(self, scorer: LanguageModelScorer, chat: Chat, device: torch.device) -> None:
        self._scorer = scorer
        self._chat = chat
        self._device = device

    @torch.inference_mode()
    def score(self, example: OffsetExample) -> ExampleScore | None:
        """The loss of a token of its answers, in nats; None without instructions."""
        offset, content = example
        if not content.instructions:
            return None
        content = with_own_context(content)
        row = pack(self._chat.encode(content.instructions), self._device)
        hidden, answers = self._scorer.hidden_states_and_likelihoods(row)
        loss = math.fsum(answer.loss for answer in answers) / sum(answer.tokens for answer in answers)
        embedding = hidden.float().mean(0).cpu().numpy().astype(np.float64)
        return ExampleScore(offset=offset, losses={ANSWERS: round(loss, DIGITS)}, projection=project(embedding))


def load(folder: Path, cache_dir: Path) -> AnswerScorer:
    """Load a version, on a GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, chat, precision = predict.load_adapter(folder, None, cache_dir, device, training_attention(device))
    return AnswerScorer(LanguageModelScorer(model, device, precision), chat, device)
