"""The training calls: each trains a model on a folder of threat content, once, without Kafka or Neo4j.

    folder ──> events ──> examples ──> new ones, rehearsal, holdout ──> recipe ──> gate ──> <output_dir>/v0001
                                                                                       └──> champion, if it passed

From the examples on it is the way of the stream's trainers, `trainers.runs.train_version.train_version`: the same recipe,
holdout, gate, card and manifest. Only where examples come from differs.

    from sx9_ml_models.training import TrainingConfig, train_distilbert

    result = train_distilbert("output/threat_content", "models/distilbert-mitre")
    print(result.version, result.promoted, result.evaluation["tactics"]["holdout"].metrics["micro_f1"])

A second call on the same `output_dir` goes on where the champion is: see `train_distilbert`. Under `accelerate
launch` or `torchrun` the processes share the work, and one version is written: docs/training.md.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadConfiguration, Corrupt
from schemas.journal import Example, Source, key_hash
from schemas.models import model_spec
from schemas.scores import Evaluation
from schemas.topics import topic_of
from schemas.versions import Manifest
from streams.content.events_folder import read_events
from streams.core.projections.examples import LEARNS_FROM, project
from streams.core.sampling import pick_spread
from sx9_ml_models import render as tables
from trainers.bases.resolve import resolve
from trainers.core import gate
from trainers.core.config import RecipeConfig, with_values
from trainers.core.dataset import Dataset, mark, split
from trainers.core.loop import device_of, is_main_process
from trainers.core.progress import ProgressCallback, no_progress
from trainers.models.recipe import recipe
from trainers.reporting.summary import headline
from trainers.runs import distributed as ranks
from trainers.runs.progress import progress_bars
from trainers.runs.train_version import TrainingRequest, run_id_of, train_version
from trainers.settings import config_class, load_recipe_config, load_trainer_settings
from trainers.store.mlflow_mirror import tracker
from trainers.store.registry import Registry

log = logging.getLogger(__name__)

CONTENT = "output/threat_content"
EXAMPLES = "examples.txt"
"""File of a version: the marks of all examples that it, or an ancestor, was trained or judged on, one a line."""
ALL = 1_000_000_000
"""The default of `max_examples` here: a batch call trains on everything."""

Folder = str | Path


class TrainingConfig(msgspec.Struct, frozen=True):
    """How a batch call trains. A call without one uses what the recipe was tuned to, and the environment.

    Attributes:
        epochs: Passes over the examples.
        batch_size: Examples that are computed together.
        learning_rate: At the end of the warm-up; of the encoder, the adapter or the graph network. The head of
            `distilbert-mitre` has a rate of its own.
        output_dir: Where a call that names no folder writes: `<output_dir>/<model>`.
        device: `cpu`, `cuda`, `cuda:1`; None: what the environment says, else a GPU if there is one.
        gradient_accumulation_steps: Batches to one step of the optimizer.
        save_steps: Steps between two checkpoints, from which a killed call goes on when it is made again.
        eval_steps: Steps between two evaluations, whose scores are in `history.json` and `curves.png`.
        logging_steps: Steps between two lines of the log.

    >>> TrainingConfig(epochs=2).batch_size
    16
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 2e-5
    output_dir: Folder = "models"
    device: str | None = None
    gradient_accumulation_steps: int = 1
    save_steps: int = 500
    eval_steps: int = 500
    logging_steps: int = 100


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch call did. Always true: a version was written. Training that fails raises.

    Attributes:
        model, version, parent: Names; a first version has no parent.
        folder: The version's; it is complete, and never changed again.
        promoted: Whether it serves now: `output_dir` itself then loads as this version.
        refused: Why it doesn't serve, with the numbers; empty if it does.
        evaluation: Task -> split -> scores, see `schemas.scores`.
        parent_evaluation: The parent's on the same examples; empty without a parent.
        baselines: Simple baseline, trained on the same examples -> its scores.
        examples: How many it was trained on, rehearsed ones included.
        left_out: New examples beyond `max_examples`; the next call takes them.
        seconds: How long it took.
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


def train_distilbert(
    threat_content_dir: Folder = CONTENT,
    output_dir: Folder | None = None,
    config: TrainingConfig | None = None,
    *,
    progress: bool = True,
    **fields: Any,
) -> TrainingResult:
    """Train `distilbert-mitre`, the tactics and the severity of a text, on a folder of threat content.

    The first call starts from the base model. A later one on the same `output_dir` is incremental: it starts from
    the champion, trains on the examples that no ancestor has seen and a sample of the others, and is refused by the
    gate if it is worse on the holdout. Where nothing is new it trains on what there is once more. Each call writes
    a version; the champion changes only if it passes.

    Args:
        threat_content_dir: What `streams.content.events_folder.read_events` reads.
        output_dir: The model's folder, for its versions and the champion; None: `<config.output_dir>/<model>`.
        config: None: the recipe's own defaults, and the environment (`SX9_TRAINER_DISTILBERT_...`).
        progress: Bars with the loss and the time left, on a terminal.
        fields: Any other field of `DistilbertConfig`: `base`, `seed`, `max_examples`, ...; they win over `config`.

    Raises:
        BadConfiguration: There are no examples, or a value or the machine is not fit; the message says which.
        Corrupt: The champion's files are not what was written.
        RetryLater: Another process is training into this folder.
        ArithmeticError: The loss is not a finite number any more.
    """
    return train("distilbert-mitre", threat_content_dir, output_dir, config, progress=progress, **fields)


def train_phi_lora(
    threat_content_dir: Folder = CONTENT,
    output_dir: Folder | None = None,
    config: TrainingConfig | None = None,
    *,
    progress: bool = True,
    **fields: Any,
) -> TrainingResult:
    """Train `phi3-mitre-lora`, an adapter that explains, detects and mitigates; see `train_distilbert`.

    Its fields are those of `Phi3LoraConfig`, its variables `SX9_TRAINER_PHI3_LORA_...`.
    """
    return train("phi3-mitre-lora", threat_content_dir, output_dir, config, progress=progress, **fields)


def train_gnn(
    threat_content_dir: Folder | None = CONTENT,
    neo4j_export: Folder | None = None,
    output_dir: Folder | None = None,
    config: TrainingConfig | None = None,
    *,
    progress: bool = True,
    **fields: Any,
) -> TrainingResult:
    """Train `gnn-threat`, which techniques go with which actors; see `train_distilbert`.

    Args:
        threat_content_dir: None: the export alone is read.
        neo4j_export: `threat_ontology.json`. Where the content says something else of a node, that counts.

    Its fields are those of `GnnConfig`, its variables `SX9_TRAINER_GNN_...`.
    """
    return train("gnn-threat", threat_content_dir, output_dir, config, neo4j_export, progress=progress, **fields)


def train(
    model: str,
    threat_content_dir: Folder | None = CONTENT,
    output_dir: Folder | None = None,
    config: TrainingConfig | None = None,
    neo4j_export: Folder | None = None,
    *,
    progress: bool = True,
    **fields: Any,
) -> TrainingResult:
    """Train a model by its name; see `train_distilbert`."""
    settings = load_trainer_settings()
    resolved = _resolved(model, config, fields)
    _choose_device(resolved)
    ranks.join(resolved)

    home = Path(output_dir or Path((config or TrainingConfig()).output_dir) / model).absolute()
    registry = Registry(home.parent, home)
    mirrored = tracker(settings.mlflow_tracking_uri, registry)
    order = ranks.from_main(_order(registry, model) if is_main_process() else None, TrainingRequest)

    examples = list(_examples(model, threat_content_dir, neo4j_export))
    known = _known(registry, order)
    data = split(examples, resolved.max_examples, resolved.seed, known=known)
    data = _rehearsing(model, data, resolved)
    _check(data, model, threat_content_dir, neo4j_export)
    order = msgspec.structs.replace(order, labels=_labels(data))
    base = resolve(resolved.base, settings.cache_dir, recipe(model).BASE_KIND)
    _agree(registry, order, data, base.sha256, resolved)

    seen = sorted(known | {mark(example) for _, example in data.train + data.old + data.recent})
    more = {EXAMPLES: "".join(f"{each}\n" for each in seen).encode()}
    log.info(
        "%s %s: %d examples to train on, %d of them new", model, order.version, len(data.train), len(data.fresh)
    )
    with _shown(f"{model} {order.version}", progress) as on_progress:
        manifest = train_version(registry, order, data, base, resolved, settings.limits, on_progress, more)
    if is_main_process():
        _serve(registry, manifest)
        if mirrored:
            mirrored.mirror(model)
    ranks.wait()
    return _result(registry, manifest)


def command(
    model: str,
    content: Path | None,
    output: Path | None,
    export: Path | None,
    fields: dict[str, Any],
    as_json: bool,
) -> None:
    """What `sx9 train` does; of several processes the main one prints.

    Args:
        fields: Of the recipe, as far as they were said.
    """
    if export is not None and model != "gnn-threat":
        raise BadConfiguration(f"--export is for gnn-threat, not {model}: leave it out")
    if content is None and export is None:
        content = Path(CONTENT)
    result = train(model, content, output, None, export, **fields)
    if not is_main_process():
        return
    if as_json:
        tables.as_json(msgspec.structs.asdict(result) | {"folder": str(result.folder)})
        return
    serves = "promoted" if result.promoted else f"written, but not promoted: {result.refused}"
    scores = headline(result.evaluation, result.parent_evaluation)
    tables.out().print(f"{result.folder}: {serves}; {result.examples} examples; {scores}", markup=False)


# ---- how


def _resolved(model: str, config: TrainingConfig | None, fields: dict[str, Any]) -> RecipeConfig:
    """The recipe's configuration: its defaults, then the environment, then `config`, then the named fields."""
    recipe(model)
    resolved = load_recipe_config(model, max_examples=ALL)
    if config is not None:
        said = {name: value for name, value in msgspec.structs.asdict(config).items() if value is not None}
        said.pop("output_dir")
        for name, value in said.items():
            resolved = with_values(resolved, f"TrainingConfig: {name}", {name: value})
    known = {field.name for field in msgspec.structs.fields(config_class(model))}
    for name, value in fields.items():
        if name not in known:
            raise BadConfiguration(
                f"{model} has no option {name!r}: correct it; there are {', '.join(sorted(known))}"
            )
        resolved = with_values(resolved, name, {name: value})
    return resolved


def _choose_device(config: RecipeConfig) -> None:
    """Make a numbered GPU the one that is used.

    Raises:
        BadConfiguration: torch has no such device.
    """
    import torch

    try:
        device = device_of(config)
    except RuntimeError as error:
        raise BadConfiguration(f"device={config.device}: {error}; choose cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise BadConfiguration(f"device={config.device}: the recipes run on cpu or cuda; choose one of them")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadConfiguration(
            f"device={config.device}: torch sees {torch.cuda.device_count()} GPUs; choose another one, cpu, or "
            "install the torch and the driver that fit"
        )
    if device.index is not None:
        torch.cuda.set_device(device)


# ---- from what


def _examples(model: str, content: Folder | None, neo4j_export: Folder | None) -> Iterable[Example]:
    """Everything that the model can learn from the export and then the folder, whose word is the last."""
    found: list[Iterable[Example]] = []
    if neo4j_export is not None:
        found.append(_from_export(Path(neo4j_export)))
    if content is not None:
        found.append(_from_content(model, Path(content)))
    return chain.from_iterable(found)


def _from_export(export: Path) -> Iterable[Example]:
    from trainers.models.gnn.graph_export import examples_of_export

    if not export.is_file():
        raise BadConfiguration(
            f"neo4j_export={export}: there is no such file; write it with `sx9 export ontology`, or leave it out"
        )
    try:
        document = export.read_bytes()
    except OSError as error:
        raise Corrupt(f"{export} can't be read: {error}; write it again with `sx9 export ontology`") from error
    return examples_of_export(document, str(export))


def _from_content(model: str, content: Path) -> Iterator[Example]:
    if not content.is_dir():
        raise BadConfiguration(_nothing(model, content, None))
    for number, event in enumerate(read_events(content)):
        example = project(model, event, Source(topic_of(event).name, 0, number))
        if example is not None:
            yield example


def _check(data: Dataset, model: str, content: Folder | None, neo4j_export: Folder | None) -> None:
    if not data.train:
        judged = len(data.old) + len(data.recent)
        also = f" ({judged} are in the holdout, which is never trained on)" if judged else ""
        raise BadConfiguration(_nothing(model, content, neo4j_export) + also)


def _nothing(model: str, content: Folder | None, neo4j_export: Folder | None) -> str:
    places = " and ".join(str(place) for place in (content, neo4j_export) if place is not None)
    topics = ", ".join(topic.name for topic in LEARNS_FROM[model])
    return (
        f"no examples for {model} in {places or 'nothing'}: looked for events of {topics}, or the feeds' own "
        "files; name another threat_content_dir, or fill it with `sx9 export content`"
    )


def _known(registry: Registry, order: TrainingRequest) -> frozenset[str]:
    """The marks of what the parent and its ancestors were trained or judged on."""
    if not order.parent:
        return frozenset()
    return frozenset((registry.folder(order.model, order.parent) / EXAMPLES).read_text().split())


def _rehearsing(model: str, data: Dataset, config: RecipeConfig) -> Dataset:
    """The data with a sample of the known examples, as a trigger names it; all of them where nothing is new."""
    candidates = [(key_hash(one.key), offset, next(iter(one.labels), "")) for offset, one in data.rehearsal]
    count = model_spec(model).policy.rehearsal_examples if data.fresh else config.max_examples
    chosen = set(pick_spread(candidates, count, config.seed, 0))
    return msgspec.structs.replace(data, rehearsal=tuple(at for at in data.rehearsal if at[0] in chosen))


def _labels(data: Dataset) -> tuple[str, ...]:
    return tuple(sorted({label for _, example in data.train for label in example.labels}))


# ---- to what


def _order(registry: Registry, model: str) -> TrainingRequest:
    """The next version, from the champion.

    Raises:
        BadConfiguration: The versions there are another model's, or a stream's.
    """
    versions = registry.versions(model)
    for each in versions:
        if each.model != model or not (registry.folder(model, each.version) / EXAMPLES).is_file():
            raise BadConfiguration(
                f"{registry.folder(model, each.version)} is a version of {each.model} that no batch call wrote: a "
                "trainer of the stream goes on with it by itself; choose another output_dir"
            )
    number = max((int(each.version[1:]) for each in versions), default=0) + 1
    version = f"v{number:04d}"
    return TrainingRequest(
        model=model,
        version=version,
        parent=registry.champion(model) or "",
        trigger=f"batch:{version}",
        reason="manual",
    )


def _agree(
    registry: Registry, order: TrainingRequest, data: Dataset, base_sha256: str, config: RecipeConfig
) -> None:
    """See that all processes would compute the same."""
    checkpoint = registry.checkpoints(order.model, order.version) / "state.json"
    seen = (
        run_id_of(registry, order, data, config),
        base_sha256,
        checkpoint.read_text() if checkpoint.is_file() else "",
    )
    ranks.agree(repr(seen), "set of examples, parent, base model, configuration or checkpoint")


@contextlib.contextmanager
def _shown(title: str, progress: bool) -> Iterator[ProgressCallback]:
    """Bars on a terminal, of the main process alone."""
    if not progress or not is_main_process():
        yield no_progress
        return
    with progress_bars(title, threading.Event()) as on_progress:
        yield on_progress


def _serve(registry: Registry, manifest: Manifest) -> None:
    """Promote a version that passed, and say what came out."""
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


if __name__ == "__main__":  # accelerate launch -m sx9_ml_models.training distilbert-mitre ...
    from sx9_ml_models.cli.app import main

    sys.argv.insert(1, "train")
    main()
