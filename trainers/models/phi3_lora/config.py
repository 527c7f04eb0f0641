"""The configuration of `phi3-mitre-lora`. Imports no torch: every command reads it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from trainers.core.config import Count, Positive, RecipeConfig, Share


class Phi3LoraConfig(RecipeConfig, frozen=True, kw_only=True):
    """`phi3-mitre-lora`; the defaults are tuned for `smollm2` on two cores."""

    base: Annotated[str, Meta(description="`smollm2`, `tiny-phi3` (for tests), a folder, or a hub id")] = "smollm2"
    epochs: Annotated[Count, Meta(description="passes over the examples")] = 1
    batch_size: Annotated[Count, Meta(description="instructions that are packed into one row")] = 4
    learning_rate: Annotated[Positive, Meta(description="1e-4 to 5e-4 suit Phi-3-mini")] = 4e-3
    weight_decay: Annotated[float, Meta(ge=0, description="of AdamW")] = 0.0
    max_examples: Annotated[Count, Meta(description="of more examples, a run takes a sample")] = 400
    rehearsal: Annotated[Share, Meta(description="rehearsed examples to one new one, at most")] = 0.5
    max_tokens: Annotated[
        int, Meta(ge=8, le=1024, description="longer answers are cut, and so are longer questions")
    ] = 256
    rank: Annotated[int, Meta(ge=1, le=512, description="of a first version's adapter; later ones keep it")] = 16
    alpha: Annotated[Positive, Meta(description="of a first version; alpha / rank scales its adapter")] = 32.0
    layers: Annotated[
        int, Meta(ge=0, description="layers from the top that a first version's adapter is in; 0: all of them")
    ] = 0
    dropout: Annotated[float, Meta(ge=0, lt=1, description="of what the adapter is given")] = 0.0
    gradient_checkpointing: Annotated[
        bool, Meta(description="compute layers twice in a step, for less memory and the same weights")
    ] = False
    precision: Annotated[
        Literal["", "bfloat16", "float32"],
        Meta(description="`float32`, `bfloat16`; empty: bfloat16 where the processor computes with it"),
    ] = ""
    eval_examples: Annotated[Count, Meta(description="instructions of the holdout to be judged on, at most")] = 128
    sample_answers: Annotated[
        int, Meta(ge=0, description="questions of the holdout that base and version answer in their own words")
    ] = 32
    answer_tokens: Annotated[Count, Meta(description="of each of these answers, at most")] = 64
