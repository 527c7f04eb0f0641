"""The configuration of `distilbert-mitre`. Does not import torch, because every command reads it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas.recipes.base import Count, Positive, RecipeConfig, Share


class DistilbertConfig(RecipeConfig, frozen=True, kw_only=True):
    """The configuration of `distilbert-mitre`. The defaults are tuned for the base `minilm` on two cores."""

    base: Annotated[
        str,
        Meta(
            description="base model of a first version: `minilm`, `tiny` (random; for tests), a folder, or a hub id"
        ),
    ] = "minilm"
    learning_rate: Annotated[
        float,
        Meta(gt=0, description="peak learning rate of the encoder; use 3e-5 to 1e-4 for distilbert-base-uncased"),
    ] = 3e-4
    head_learning_rate: Annotated[Positive, Meta(description="peak learning rate of the head")] = 3e-3
    eval_steps: Annotated[Count, Meta(description="steps between evaluations during training")] = 100
    max_tokens: Annotated[
        int, Meta(ge=8, le=512, description="maximum number of tokens per chunk; predictions use the first chunk")
    ] = 64
    pieces: Annotated[
        int,
        Meta(
            ge=1, le=16, description="maximum number of chunks per training text; evaluation uses the first chunk"
        ),
    ] = 2
    frozen_layers: Annotated[
        int,
        Meta(ge=0, description="number of bottom layers that are frozen; the embeddings are always frozen"),
    ] = 3
    dropout: Annotated[float, Meta(ge=0, lt=1, description="dropout rate in the encoder and the head")] = 0.0
    words: Annotated[
        float,
        Meta(
            ge=0, description="weight of the text regression's logits in the sum with the encoder's; 0 disables it"
        ),
    ] = 0.6
    threshold: Annotated[
        float,
        Meta(gt=0, lt=1, description="threshold of every tactic if the holdout is too small to fit one per tactic"),
    ] = 0.5
    warm_start_lr_scale: Annotated[
        float,
        Meta(gt=0, le=1, description="factor for the learning rates when training starts from an earlier version"),
    ] = 0.5
    distillation: Annotated[
        Share, Meta(description="weight of the parent's predictions in the targets of rehearsed examples")
    ] = 0.0
    parent_share: Annotated[
        Share,
        Meta(
            description="weight of the parent in the mean of its encoder and head with the trained ones; more "
            "keeps more of what the parent knows, and learns less that is new"
        ),
    ] = 0.0
