"""The configuration fields that all recipes share; each recipe adds its own in its module beside this one.

Every field has a range and a description. Its value comes from the policy, from the arguments of a batch call, or
from the defaults here; `OF_THE_MACHINE` from the environment. The resolved configuration is part of the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.errors import BadConfiguration

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Threads = Annotated[int, Meta(ge=1, le=256)]
BFLOAT16, FLOAT32 = "bfloat16", "float32"
Precision = Literal["", "bfloat16", "float32"]
OF_THE_MACHINE = ("device", "save_steps", "logging_steps", "gradient_checkpointing")
"""Fields that belong to the machine of a run and change no result: they come from its environment."""
OF_THE_POLICY = ("seed", "max_examples")
"""Fields that have a place of their own in the policy: `seed` and `run_examples`."""
UNLIMITED = 1_000_000_000
"""The default of `max_examples`."""


class RecipeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of all recipes."""

    base: Annotated[str, Meta(description="base model of the first version: a name, a folder, or a hub id")] = ""
    epochs: Annotated[Count, Meta(description="passes over the training examples")] = 2
    batch_size: Annotated[Count, Meta(description="examples per batch")] = 16
    gradient_accumulation_steps: Annotated[Count, Meta(description="batches per optimizer step")] = 1
    learning_rate: Annotated[
        Positive, Meta(description="peak learning rate, reached at the end of the warm-up")
    ] = 3e-4
    warmup: Annotated[Share, Meta(description="fraction of the steps used for warm-up")] = 0.1
    weight_decay: Annotated[float, Meta(ge=0, description="weight decay of AdamW")] = 0.01
    max_examples: Annotated[
        Count, Meta(description="maximum number of new examples of a batch call; more are sampled")
    ] = UNLIMITED
    save_steps: Annotated[Count, Meta(description="steps between checkpoints")] = 500
    eval_steps: Annotated[Count, Meta(description="steps between evaluations during training")] = 500
    logging_steps: Annotated[Count, Meta(description="steps between log lines")] = 100
    threads: Annotated[Threads, Meta(description="threads of torch; the weights depend on it")] = 2
    device: Annotated[str, Meta(description="`cpu`, `cuda` or `cuda:1`; empty: cuda if available")] = ""
    precision: Annotated[
        Precision,
        Meta(description="precision of training; empty: `bfloat16` on a GPU that has it, else `float32`"),
    ] = ""
    seed: Annotated[
        int, Meta(ge=0, description="random seed; a run for a trigger uses the seed of the trigger")
    ] = 17


def with_values(config: RecipeConfig, source: str, values: Mapping[str, Any]) -> RecipeConfig:
    """Replace some values of a configuration, after checking their types and ranges.

    Args:
        config: The configuration to copy.
        source: Where the values come from, for the error message: a variable, or `TrainingConfig: epochs`.
        values: Field -> value; a string is converted to the type of the field.

    Raises:
        BadConfiguration: A value has the wrong type or is out of range.
    """
    try:
        return msgspec.convert(msgspec.structs.asdict(config) | dict(values), type(config), strict=False)
    except msgspec.ValidationError as error:
        given = ", ".join(repr(value) for value in values.values())
        raise BadConfiguration(f"{source}={given}: {error}") from error


def decisive_fields(config: type[RecipeConfig]) -> tuple[str, ...]:
    """The fields of a recipe that decide its result, except for those that are elsewhere in the policy."""
    names = (field.name for field in msgspec.structs.fields(config))
    return tuple(name for name in names if name not in (*OF_THE_MACHINE, *OF_THE_POLICY))


def machine_fields(config: type[RecipeConfig]) -> tuple[str, ...]:
    """The fields of a recipe that come from the environment."""
    names = (field.name for field in msgspec.structs.fields(config))
    return tuple(name for name in names if name in OF_THE_MACHINE)


def recipe_values(config: RecipeConfig) -> dict[str, Any]:
    """The fields of a configuration that decide its result: the section `recipe` of a policy."""
    return {name: getattr(config, name) for name in decisive_fields(type(config))}
