"""`sx9 train`: the training calls of `sx9_ml_models.training`, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.models import MODELS
from sx9_ml_models.cli.options import Json, example, model_name, new_app

if TYPE_CHECKING:
    from sx9_ml_models.training import TrainingResult

app = new_app()


@app.command(
    epilog=example("sx9 train gnn-threat --content output/threat_content --output models/gnn-threat"),
)
def train(
    model: Annotated[str, typer.Argument(parser=model_name, metavar="MODEL", help=f"One of {', '.join(MODELS)}.")],
    content: Annotated[
        Path | None,
        typer.Option(help="Folder of threat content (default: output/threat_content, or none with --export)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the model and its versions (default: models/MODEL).")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="A threat_ontology.json to train on; for gnn-threat only.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the examples.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples per batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    max_examples: Annotated[
        int | None, typer.Option(min=1, help="Train on a sample if there are more new examples.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model of a first version: a name, a folder, or a hub id.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... (default: a GPU if any).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    json: Json = False,
) -> None:
    """Train a model once on a folder, without Kafka.

    The first call trains from the base model; later ones continue from the champion. Options that are not given
    come from the policy file (SX9_POLICY_FILE), then from the model's defaults.
    """
    from schemas.errors import BadConfiguration
    from sx9_ml_models import training
    from trainers.core.loop import is_main_process

    if export is not None and model != "gnn-threat":
        raise BadConfiguration(f"--export is for gnn-threat, not {model}: leave it out")
    if content is None and export is None:
        content = Path(training.CONTENT)
    fields = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "max_examples": max_examples,
        "base": base, "device": device, "seed": seed,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    result = training.train(model, content, output, None, export, **given)
    if is_main_process():
        _print_result(result, as_json=json)


def _print_result(result: TrainingResult, *, as_json: bool) -> None:
    import msgspec

    from sx9_ml_models import render
    from trainers.reporting.summary import headline

    if as_json:
        render.as_json(msgspec.to_builtins(result, enc_hook=str))  # str: the folder is a path
        return
    outcome = "promoted" if result.promoted else f"written, but not promoted: {result.refused}"
    scores = headline(result.evaluation, result.parent_evaluation)
    render.out().print(f"{result.folder}: {outcome}; {result.examples} examples; {scores}", markup=False)
