"""The configuration of `phi3-mitre-lora`. It does not import torch, because every command reads it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas.context import MAX_CONTEXT_CHARS
from schemas.recipes.base import Count, Positive, Precision, RecipeConfig, Share


class Phi3LoraConfig(RecipeConfig, frozen=True, kw_only=True):
    """The configuration of `phi3-mitre-lora`. The defaults suit the base model `smollm2` on two CPU cores."""

    base: Annotated[
        str, Meta(description="base model: `smollm2`, `tiny-phi3` (for tests), a folder, or a hub id")
    ] = "smollm2"
    epochs: Annotated[Count, Meta(description="passes over the training examples")] = 1
    batch_size: Annotated[Count, Meta(description="instructions packed into one row")] = 4
    learning_rate: Annotated[Positive, Meta(description="peak learning rate; use 1e-4 to 5e-4 for Phi-3-mini")] = (
        2e-3
    )
    weight_decay: Annotated[float, Meta(ge=0, description="weight decay of AdamW")] = 0.0
    rehearsal: Annotated[Share, Meta(description="maximum ratio of rehearsed to new examples")] = 0.5
    max_tokens: Annotated[
        int,
        Meta(
            ge=8,
            le=1024,
            description="maximum number of tokens of a question without its context, and of an answer; longer "
            "ones are truncated",
        ),
    ] = 256
    context_chars: Annotated[
        int,
        Meta(
            ge=0,
            le=4_000,
            description="maximum number of characters of what is known of a technique, in the question about it; "
            "0: questions without context",
        ),
    ] = MAX_CONTEXT_CHARS
    rank: Annotated[int, Meta(ge=1, le=512, description="rank of the adapter; a child keeps its parent's")] = 16
    alpha: Annotated[
        Positive, Meta(description="the adapter's output is scaled by alpha / rank; a child keeps its parent's")
    ] = 32.0
    layers: Annotated[
        int,
        Meta(ge=0, description="number of top layers with an adapter; 0 for all; a child keeps its parent's"),
    ] = 0
    dropout: Annotated[float, Meta(ge=0, lt=1, description="dropout rate of the adapter's input")] = 0.0
    gradient_checkpointing: Annotated[
        bool,
        Meta(description="recompute activations in the backward pass: saves memory, does not change the weights"),
    ] = False
    precision: Annotated[
        Precision,
        Meta(
            description="precision of the base model; empty: `bfloat16` if the hardware supports it, else `float32`"
        ),
    ] = ""
    eval_examples: Annotated[Count, Meta(description="maximum number of holdout instructions to score")] = 128
    sample_answers: Annotated[
        int,
        Meta(
            ge=0, description="number of holdout questions that the base model and the version generate answers for"
        ),
    ] = 32
    answer_tokens: Annotated[Count, Meta(description="maximum number of tokens of a generated answer")] = 96
