"""A batch call: train the next version of a model on given examples, without Kafka.

    examples ──> dataset(known) ──> train_batch ──> train_version ──> <folder of the model>/v0001
                                                                └──> champion, if the gate passed

`sx9_ml_models.training` reads a folder of content and calls this. A later call on the same folder is incremental:
the fingerprints of all examples that a version or its ancestors were trained or evaluated on are in `examples.txt`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadConfiguration
from schemas.journal import Example
from schemas.models import completed
from schemas.policy import GateLimits, Policy
from schemas.recipes.base import RecipeConfig, with_values
from schemas.scores import Evaluation
from schemas.versions import Manifest
from trainers.bases.resolve import Base, resolve
from trainers.core import gate
from trainers.core.dataset import Dataset, example_fingerprint, split
from trainers.core.loop import device_of, is_main_process
from trainers.core.progress import ProgressCallback, no_progress
from trainers.models.recipe import recipe
from trainers.reporting.summary import headline
from trainers.runs.checkpoints import STATE_FILE
from trainers.runs.distributed import barrier, broadcast_from_main, check_agreement, join
from trainers.runs.progress import progress_bars
from trainers.runs.train_version import TrainingRequest, run_id_of, train_version
from trainers.settings import TrainerSettings, config_class, load_machine_fields
from trainers.store.mlflow_mirror import mlflow_mirror
from trainers.store.registry import Registry

log = logging.getLogger(__name__)

EXAMPLES_FILE = "examples.txt"
"""The file of a version with the fingerprints of all examples that it, or an ancestor, was trained or evaluated on,
one per line."""


class TrainingConfig(msgspec.Struct, frozen=True):
    """The most common settings of a batch call. Without one, the policy and the environment apply.

    Attributes:
        epochs: Passes over the examples.
        batch_size: Examples in a batch.
        learning_rate: The highest one, at the end of the warm-up: of the encoder, the adapter or the graph network.
            The head of `distilbert-mitre` has its own learning rate.
        output_dir: A call without a folder writes to `<output_dir>/<model>`.
        device: `cpu`, `cuda`, `cuda:1`; None: that of the environment, else a GPU if there is one.
        gradient_accumulation_steps: Batches in a step of the optimizer.
        save_steps: Steps between two checkpoints. A call that was killed resumes from the latest one.
        eval_steps: Steps between two evaluations during training; see `history.json` and `curves.png`.
        logging_steps: Steps between two lines of the log.

    >>> TrainingConfig(epochs=2).batch_size
    16
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 2e-5
    output_dir: str | Path = "models"
    device: str | None = None
    gradient_accumulation_steps: int = 1
    save_steps: int = 500
    eval_steps: int = 500
    logging_steps: int = 100


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """The version that a batch call wrote. Always true: a call that fails raises.

    Attributes:
        model: Name of the model.
        version: Name of the version.
        parent: The version that it started from; empty for a first version.
        folder: The folder of the version.
        promoted: Whether it serves now. If so, `output_dir` itself loads as this version.
        refused: Why it does not serve, with the numbers; empty if it does.
        evaluation: Task -> split -> scores; see `schemas.scores`.
        parent_evaluation: The scores of the parent on the same examples; empty without a parent.
        baselines: Simple model, trained on the same examples -> its scores.
        examples: The number of training examples, including the rehearsal.
        left_out: The number of new examples beyond `max_examples`; the next call takes them.
        seconds: The duration.
    """

    model: str
    version: str
    parent: str
    folder: Path
    promoted: bool
    refused: str
    evaluation: Evaluation
    parent_evaluation: Evaluation
    baselines: dict[str, Evaluation]
    examples: int
    left_out: int
    seconds: float

    def __bool__(self) -> bool:
        return True


# ---- configuration


def resolve_config(
    model: str, policy: Policy, config: TrainingConfig | None, fields: Mapping[str, Any]
) -> RecipeConfig:
    """The configuration of the recipe: that of the policy, then the environment, then `config`, then `fields`.

    Args:
        model: Its name.
        policy: Of the policy file, or of the model. Its bound of a run is not one of a batch call.
        config: Values that apply to this call.
        fields: Values that apply to this call; they override `config`.

    Raises:
        BadConfiguration: There is no such model or field, or a value has the wrong type or is out of range.
    """
    values = completed(model, policy).recipe | load_machine_fields(model)
    values |= {"seed": policy.seed}
    resolved = with_values(config_class(model)(), f"the policy of {model}", values)
    if config is not None:
        values = {name: value for name, value in msgspec.structs.asdict(config).items() if value is not None}
        values.pop("output_dir")
        for name, value in values.items():
            resolved = with_values(resolved, f"TrainingConfig: {name}", {name: value})
    known = {field.name for field in msgspec.structs.fields(config_class(model))}
    for name, value in fields.items():
        if name not in known:
            raise BadConfiguration(
                f"{model} has no option {name!r}: correct it; the options are {', '.join(sorted(known))}"
            )
        resolved = with_values(resolved, name, {name: value})
    return resolved


def prepare_process(config: RecipeConfig) -> None:
    """Select the device, and connect to the other processes of the run.

    Raises:
        BadConfiguration: torch has no such device.
    """
    _select_device(config)
    join(config)


def _select_device(config: RecipeConfig) -> None:
    """Make a numbered GPU the current device of torch."""
    import torch

    try:
        device = device_of(config)
    except RuntimeError as error:
        raise BadConfiguration(f"device={config.device}: {error}; choose cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise BadConfiguration(f"device={config.device}: the recipes run on cpu or cuda; choose one of them")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadConfiguration(
            f"device={config.device}: torch sees {torch.cuda.device_count()} GPUs; choose another device, or "
            "install a torch and a driver that match"
        )
    if device.index is not None:
        torch.cuda.set_device(device)


# ---- the version to train, and its dataset


def next_request(registry: Registry, model: str) -> TrainingRequest:
    """The next version of a model, with the champion as its parent; the same in all processes.

    Raises:
        BadConfiguration: The registry has a version of another model, or one that no batch call wrote.
    """
    return broadcast_from_main(_next_request(registry, model) if is_main_process() else None, TrainingRequest)


def _next_request(registry: Registry, model: str) -> TrainingRequest:
    versions = registry.versions(model)
    for manifest in versions:
        folder = registry.folder(model, manifest.version)
        if manifest.model != model or not (folder / EXAMPLES_FILE).is_file():
            raise BadConfiguration(
                f"{folder} is a version of {manifest.model} that no batch call wrote: a trainer of the stream "
                "continues from it; choose another output_dir"
            )
    number = max((int(manifest.version[1:]) for manifest in versions), default=0) + 1
    version = f"v{number:04d}"
    return TrainingRequest(
        model=model,
        version=version,
        parent=registry.champion(model) or "",
        trigger=f"batch:{version}",
        reason="manual",
    )


def known_examples(registry: Registry, request: TrainingRequest) -> frozenset[str]:
    """The fingerprints of the examples that the parent, or an ancestor of it, was trained or evaluated on."""
    if not request.parent:
        return frozenset()
    return frozenset((registry.folder(request.model, request.parent) / EXAMPLES_FILE).read_text().split())


def dataset(examples: Iterable[Example], known: Collection[str], config: RecipeConfig) -> Dataset:
    """Split examples into new ones, known ones and the holdout; see `trainers.core.dataset.split`."""
    return split(examples, config.max_examples, config.seed, known=known)


# ---- training


def train_batch(
    registry: Registry,
    request: TrainingRequest,
    data: Dataset,
    known: Collection[str],
    config: RecipeConfig,
    limits: GateLimits,
    settings: TrainerSettings,
    *,
    progress: bool = True,
) -> TrainingResult:
    """Train a version, and promote it if the gate passes. All processes of a run call this.

    Args:
        registry: Where the version is written.
        request: From `next_request`; its labels are replaced by those of the training examples.
        data: At least one training example.
        known: From `known_examples`.
        config: Of the recipe.
        limits: The tolerances of the gate.
        settings: Of the trainer.
        progress: Whether to show progress bars on a terminal.

    Raises:
        BadConfiguration: There are no training examples, or the machine is not suitable; the message has the
            remedy.
        Corrupt: The files of the champion were changed.
        RetryLater: Another process is training into this folder.
        ArithmeticError: The loss is not finite.
    """
    mirror = mlflow_mirror(settings.mlflow_tracking_uri, registry)
    request = msgspec.structs.replace(request, labels=_labels(data))
    base = resolve(config.base, settings.cache_dir, recipe(request.model).BASE_ARCHITECTURE)
    _check_same_inputs(registry, request, data, base, config)
    log.info(
        "%s %s: %d training examples, of which %d are new",
        request.model, request.version, len(data.train), len(data.fresh),
    )  # fmt: skip
    files = {EXAMPLES_FILE: _examples_file(known, data)}
    with show_progress(f"{request.model} {request.version}", progress) as on_progress:
        manifest = train_version(registry, request, data, base, config, limits, on_progress, files)
    if is_main_process():
        _promote_if_passed(registry, manifest)
        if mirror:
            mirror.mirror(request.model)
    barrier()
    return _result(registry, manifest)


def _labels(data: Dataset) -> tuple[str, ...]:
    return tuple(sorted({label for _, example in data.train for label in example.labels}))


def _examples_file(known: Collection[str], data: Dataset) -> bytes:
    """The content of `examples.txt`."""
    used = {example_fingerprint(example) for _, example in data.train + data.old + data.recent}
    return "".join(f"{fingerprint}\n" for fingerprint in sorted(used.union(known))).encode()


def _check_same_inputs(
    registry: Registry, request: TrainingRequest, data: Dataset, base: Base, config: RecipeConfig
) -> None:
    """Check that all processes of the run would compute the same version."""
    checkpoint = registry.checkpoint_folder(request.model, request.version) / STATE_FILE
    inputs = (
        run_id_of(registry, request, data, config),
        base.sha256,
        checkpoint.read_text() if checkpoint.is_file() else "",
    )
    check_agreement(repr(inputs), "set of examples, parent, base model, configuration or checkpoint")


@contextlib.contextmanager
def show_progress(title: str, progress: bool) -> Iterator[ProgressCallback]:
    """Progress bars on a terminal, in the main process only."""
    if not progress or not is_main_process():
        yield no_progress
        return
    with progress_bars(title, threading.Event()) as on_progress:
        yield on_progress


def _promote_if_passed(registry: Registry, manifest: Manifest) -> None:
    """Promote a version that passed the gate, and log the outcome."""
    scores = headline(manifest.evaluation, manifest.parent_evaluation)
    if manifest.promoted:
        registry.promote(manifest.model, manifest.version)
        log.info("%s %s: promoted; %s", manifest.model, manifest.version, scores)
        return
    refused = gate.why_refused(manifest.gate)
    log.warning("%s %s: written, but not promoted: %s; %s", manifest.model, manifest.version, refused, scores)


def _result(registry: Registry, manifest: Manifest) -> TrainingResult:
    return TrainingResult(
        model=manifest.model,
        version=manifest.version,
        parent=manifest.parent,
        folder=registry.folder(manifest.model, manifest.version),
        promoted=manifest.promoted,
        refused=gate.why_refused(manifest.gate),
        evaluation=manifest.evaluation,
        parent_evaluation=manifest.parent_evaluation,
        baselines=manifest.baselines,
        examples=manifest.examples_trained,
        left_out=manifest.examples_left_out,
        seconds=manifest.seconds,
    )
