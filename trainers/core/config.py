"""How each model is trained: one frozen struct per recipe, every field with its range and its meaning.

A value is what `TrainerSettings` read from the environment, what `TrainingConfig` of a batch call says, or the
default here; all of it stands in the manifest. No torch here: every command reads these.
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


class RecipeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What all recipes have in common."""

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


class DistilbertConfig(RecipeConfig, frozen=True, kw_only=True):
    """`distilbert-mitre`; the defaults are tuned for `minilm` on two cores."""

    base: Annotated[
        str,
        Meta(
            description="base model of a first version: `minilm`, `tiny` (random, for tests), a folder, or a hub id"
        ),
    ] = "minilm"
    learning_rate: Annotated[
        float,
        Meta(gt=0, description="of the encoder; 3e-5 to 1e-4 suit a larger base such as distilbert-base-uncased"),
    ] = 3e-4
    head_learning_rate: Annotated[Positive, Meta(description="of the head")] = 3e-3
    eval_steps: Annotated[Count, Meta(description="steps between two evaluations for the curve of scores")] = 100
    max_tokens: Annotated[int, Meta(ge=8, le=512, description="so many tokens are read at a time")] = 64
    pieces: Annotated[
        int,
        Meta(ge=1, le=16, description="a longer text is trained on in so many pieces; it is judged by the first"),
    ] = 2
    frozen_layers: Annotated[
        int, Meta(ge=0, description="so many layers from the bottom keep their weights; the embeddings always do")
    ] = 3
    dropout: Annotated[float, Meta(ge=0, lt=1, description="in the encoder and the head")] = 0.0
    words: Annotated[
        float, Meta(ge=0, description="what the regression on words counts beside the encoder; 0: it is left out")
    ] = 0.6
    threshold: Annotated[
        float,
        Meta(gt=0, lt=1, description="a tactic is predicted from here on where the holdout is too small to fit it"),
    ] = 0.5
    child_rate: Annotated[
        float,
        Meta(gt=0, le=1, description="share of the learning rates in a run that starts from an earlier version"),
    ] = 0.5
    distillation: Annotated[
        Share, Meta(description="share of what its parent says in the targets of a rehearsed example")
    ] = 0.0


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
    child_rate: Annotated[
        float, Meta(gt=0, le=1, description="share of the rates with which a later version learns")
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


CONFIGS: Mapping[str, type[RecipeConfig]] = {
    "distilbert-mitre": DistilbertConfig,
    "phi3-mitre-lora": Phi3LoraConfig,
    "gnn-threat": GnnConfig,
}


def variable_prefix(model: str) -> str:
    """What the settings of a model's recipe begin with in the environment.

    >>> variable_prefix("phi3-mitre-lora")
    'SX9_TRAINER_PHI3_LORA_'
    """
    name = CONFIGS[model].__name__.removesuffix("Config")
    words = "".join(f"_{letter}" if letter.isupper() else letter for letter in name).strip("_")
    return f"SX9_TRAINER_{words.upper()}_"


def variables(model: str) -> dict[str, str]:
    """Variable -> field of a model's recipe; the seed is not one, because a trigger brings it."""
    names = (field.name for field in msgspec.structs.fields(CONFIGS[model]) if field.name != "seed")
    return {f"{variable_prefix(model)}{name}".upper(): name for name in names}


def read_config(model: str, environment: Mapping[str, str], **defaults: Any) -> RecipeConfig:
    """The configuration of a model's recipe as an environment has it.

    Args:
        defaults: Fields whose default is another one here.

    Raises:
        BadConfiguration: A value has another type or is out of its range; the variable is named.
    """
    environment = {name.upper(): value for name, value in environment.items()}
    config = CONFIGS[model](**defaults)
    for variable, name in variables(model).items():
        if variable in environment:
            config = changed(config, variable, {name: environment[variable]})
    return config


def changed(config: RecipeConfig, said_by: str, values: Mapping[str, Any]) -> RecipeConfig:
    """A configuration with other values, whose types and ranges are checked.

    Raises:
        BadConfiguration: A value doesn't fit; `said_by` names who said it.
    """
    try:
        return msgspec.convert(msgspec.structs.asdict(config) | dict(values), type(config), strict=False)
    except msgspec.ValidationError as error:
        said = ", ".join(repr(value) for value in values.values())
        raise BadConfiguration(f"{said_by}={said}: {error}") from error
