"""The configuration of `gnn-threat`. Does not import torch, because every command reads it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas.recipes.base import Count, RecipeConfig, Share


class GnnConfig(RecipeConfig, frozen=True, kw_only=True):
    """The configuration of `gnn-threat`. `base` is the encoder of the nodes' texts; it is not trained."""

    base: Annotated[
        str,
        Meta(
            description="encoder of the nodes' texts: `minilm`, `tiny` (random, for tests), a folder, or a hub id"
        ),
    ] = "minilm"
    epochs: Annotated[
        int, Meta(ge=1, description="passes over the sources and techniques of the training examples")
    ] = 20
    batch_size: Annotated[int, Meta(ge=1, description="sources per batch; some techniques of each are hidden")] = (
        128
    )
    learning_rate: Annotated[float, Meta(gt=0, description="peak learning rate of the layers")] = 3e-3
    path_learning_rate: Annotated[float, Meta(gt=0, description="peak learning rate of the path weights")] = 0.3
    warm_start_lr_scale: Annotated[
        float,
        Meta(gt=0, le=1, description="factor for the learning rates when training starts from an earlier version"),
    ] = 0.3
    eval_steps: Annotated[Count, Meta(description="steps between evaluations during training")] = 40
    width: Annotated[int, Meta(ge=4, description="dimension of the embeddings; a child keeps its parent's")] = 32
    dropout: Annotated[float, Meta(ge=0, lt=1, description="dropout rate of all layers")] = 0.3
    shown_from: Annotated[
        Share, Meta(description="minimum fraction of a source's techniques shown in training")
    ] = 0.3
    shown_to: Annotated[Share, Meta(description="maximum fraction of a source's techniques shown in training")] = (
        0.8
    )
    max_tokens: Annotated[
        int, Meta(ge=8, le=512, description="maximum number of tokens per text; longer texts are truncated")
    ] = 128
    threshold: Annotated[
        float, Meta(gt=0, lt=1, description="minimum probability at which a tactic is predicted")
    ] = 0.5
    max_nodes: Annotated[
        int, Meta(ge=1, description="maximum number of nodes computed at once; larger graphs are sampled per batch")
    ] = 10_000
    neighbours: Annotated[
        int, Meta(ge=1, description="maximum number of neighbours sampled per node at each of the two hops")
    ] = 15
