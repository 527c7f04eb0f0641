"""The configuration that all recipes share; each adds its own fields in `trainers/models/<recipe>/config.py`.

Every field has its range and its meaning. A value comes from the environment (`trainers.settings`), from a batch call,
or from the defaults here; all of it is part of the manifest. No torch here: every command reads these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.errors import BadConfiguration

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Threads = Annotated[int, Meta(ge=1, le=256)]


class RecipeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that all recipes have."""

    base: Annotated[str, Meta(description="base model of a first version: a name, a folder, or a hub id")] = ""
    epochs: Annotated[Count, Meta(description="passes over the examples")] = 2
    batch_size: Annotated[Count, Meta(description="examples that are computed together")] = 16
    gradient_accumulation_steps: Annotated[Count, Meta(description="batches to one step of the optimizer")] = 1
    learning_rate: Annotated[Positive, Meta(description="at the end of the warm-up")] = 3e-4
    warmup: Annotated[Share, Meta(description="share of the steps in which the rates rise")] = 0.1
    weight_decay: Annotated[float, Meta(ge=0, description="of AdamW")] = 0.01
    max_examples: Annotated[Count, Meta(description="of more examples, a run takes a sample")] = 2_000
    save_steps: Annotated[Count, Meta(description="steps between two checkpoints of a run")] = 500
    eval_steps: Annotated[Count, Meta(description="steps between two evaluations for the curve of scores")] = 500
    logging_steps: Annotated[Count, Meta(description="steps between two lines of the log")] = 100
    threads: Annotated[Threads, Meta(description="of torch; another number gives other weights")] = 2
    device: Annotated[str, Meta(description="`cpu`, `cuda`, `cuda:1`; empty: cuda if there is one")] = ""
    seed: Annotated[int, Meta(ge=0, description="of everything random; a trigger brings its own")] = 17


def with_values(config: RecipeConfig, source: str, values: Mapping[str, Any]) -> RecipeConfig:
    """A configuration with some other values, whose types and ranges are checked.

    Args:
        config: What the other fields are taken from.
        source: Where the values come from, for the message: a variable, `TrainingConfig: epochs`.
        values: Field -> value; text is converted to the type of the field.

    Raises:
        BadConfiguration: A value has another type or is out of its range.
    """
    try:
        return msgspec.convert(msgspec.structs.asdict(config) | dict(values), type(config), strict=False)
    except msgspec.ValidationError as error:
        given = ", ".join(repr(value) for value in values.values())
        raise BadConfiguration(f"{source}={given}: {error}") from error
