"""The configuration of `gnn-threat`. Imports no torch: every command reads it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from trainers.core.config import Count, RecipeConfig, Share


class GnnConfig(RecipeConfig, frozen=True, kw_only=True):
    """`gnn-threat`; `base` is the encoder of its nodes' texts, whose weights stay as they are."""

    base: Annotated[
        str,
        Meta(
            description="encoder of the nodes' texts: `minilm`, `tiny` (random, for tests), a folder, or a hub id"
        ),
    ] = "minilm"
    epochs: Annotated[int, Meta(ge=1, description="passes over the sources and techniques of the examples")] = 20
    batch_size: Annotated[int, Meta(ge=1, description="sources that are hidden a part of at a time")] = 128
    learning_rate: Annotated[float, Meta(gt=0, description="of the layers")] = 3e-3
    path_learning_rate: Annotated[
        float, Meta(gt=0, description="of the weights of the paths, few and of their own size")
    ] = 0.3
    warm_start_lr_scale: Annotated[
        float,
        Meta(gt=0, le=1, description="scale of the learning rates in a run that starts from an earlier version"),
    ] = 0.3
    max_examples: Annotated[
        int, Meta(ge=1, description="of more examples in the windows, a run takes a sample")
    ] = 100_000
    eval_steps: Annotated[Count, Meta(description="steps between two evaluations for the curve of scores")] = 40
    width: Annotated[int, Meta(ge=4, description="numbers in an embedding; a later version keeps its parent's")] = (
        32
    )
    dropout: Annotated[float, Meta(ge=0, lt=1, description="in all layers")] = 0.3
    shown_from: Annotated[Share, Meta(description="smallest share of a source's techniques shown in training")] = (
        0.3
    )
    shown_to: Annotated[Share, Meta(description="largest share of a source's techniques shown in training")] = 0.8
    max_tokens: Annotated[int, Meta(ge=8, le=512, description="longer texts are cut")] = 128
    threshold: Annotated[float, Meta(gt=0, lt=1, description="a tactic is predicted from this probability on")] = (
        0.5
    )
    max_nodes: Annotated[
        int, Meta(ge=1, description="a larger graph is sampled around each batch instead of computed as a whole")
    ] = 10_000
    neighbours: Annotated[
        int, Meta(ge=1, description="of a sampled graph, at most so many neighbours of a node at each of two hops")
    ] = 15
