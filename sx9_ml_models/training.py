"""Batch training: train a model on a folder of threat content, once, without Kafka or Neo4j.

    folder ──> events ──> examples ──> trainers.runs.batch ──> <output_dir>/v0001
                                                          └──> champion, if the gate passed

    from sx9_ml_models.training import TrainingConfig, train_distilbert

    result = train_distilbert("output/threat_content", "models/distilbert-mitre")
    print(result.version, result.promoted, result.evaluation["tactics"]["holdout"].metrics["micro_f1"])

Only the source of the examples differs from the trainers of the stream: recipe, holdout, gate, card and manifest
are the same. A second call on the same `output_dir` continues from the champion: see `train_distilbert`. Under
`accelerate launch` or `torchrun` the processes share the work and write one version: see docs/training.md.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import BadConfiguration, Corrupt
from schemas.journal import Example, Source, key_hash
from schemas.models import model_spec
from schemas.policy import Policy
from schemas.recipes.base import RecipeConfig
from schemas.topics import topic_of, topics_of
from streams.app.policy_file import load_policies
from streams.content.events_folder import read_events
from streams.core.projections.base import project
from streams.core.sampling import sample_stratified
from streams.settings import load_settings
from trainers.core.dataset import Dataset
from trainers.runs import batch
from trainers.runs.batch import TrainingConfig, TrainingResult
from trainers.settings import load_trainer_settings
from trainers.store.registry import Registry

__all__ = ["TrainingConfig", "TrainingResult", "train", "train_distilbert", "train_gnn", "train_phi_lora"]

CONTENT = "output/threat_content"
"""The folder of threat content that is read by default."""

Folder = str | Path


def train_distilbert(
    threat_content_dir: Folder = CONTENT,
    output_dir: Folder | None = None,
    config: TrainingConfig | None = None,
    *,
    progress: bool = True,
    **fields: Any,
) -> TrainingResult:
    """Train `distilbert-mitre`, the tactics and the severity of a text, on a folder of threat content.

    The first call starts from the base model. A later call on the same `output_dir` is incremental: it starts from
    the champion, and trains on the examples that are new since then and on a sample of the others. If nothing is
    new, it trains on the known examples again. Each call writes a version. It becomes the champion only if the gate
    passes.

    Args:
        threat_content_dir: A folder that `streams.content.events_folder.read_events` can read.
        output_dir: The folder of the model, with its versions and the champion; None:
            `<config.output_dir>/<model>`.
        config: None: the section `recipe` of the policy file, or the defaults of the model.
        progress: Whether to show bars with the loss and the remaining time on a terminal.
        fields: Any other field of `DistilbertConfig`: `base`, `seed`, `max_examples`, ...; they override `config`.

    Raises:
        BadConfiguration: There are no examples, or a value or the machine is not suitable; the message says which.
        Corrupt: The files of the champion were changed.
        RetryLater: Another process is training into this folder.
        ArithmeticError: The loss is not finite.
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
    """Train `phi3-mitre-lora`, an adapter that explains techniques, their detection and mitigation.

    See `train_distilbert`. The fields are those of `Phi3LoraConfig`.
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
    """Train `gnn-threat`, which predicts the techniques of actors, tools and mitigations.

    See `train_distilbert`. The fields are those of `GnnConfig`.

    Args:
        threat_content_dir: None: only the export is read.
        neo4j_export: A `threat_ontology.json`. Where it differs from the content, the content counts.
        output_dir: See `train_distilbert`.
        config: See `train_distilbert`.
        progress: See `train_distilbert`.
        fields: See `train_distilbert`.
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
    """Train a model by its name; see `train_distilbert`.

    Raises:
        BadConfiguration: Also if there is no such model.
    """
    settings = load_trainer_settings()
    policy = load_policies(load_settings().policy_file).get(model, model_spec(model).policy)
    resolved = batch.resolve_config(model, policy, config, fields)
    batch.prepare_process(resolved)
    home = Path(output_dir or Path((config or TrainingConfig()).output_dir) / model).absolute()
    registry = Registry(home.parent, home)
    request = batch.next_request(registry, model)
    known = batch.known_examples(registry, request)
    examples = list(_examples(model, threat_content_dir, neo4j_export))
    data = _with_rehearsal_sample(policy, batch.dataset(examples, known, resolved), resolved)
    _check_not_empty(data, model, threat_content_dir, neo4j_export)
    return batch.train_batch(registry, request, data, known, resolved, policy.gate, settings, progress=progress)


# ---- the examples


def _examples(model: str, content: Folder | None, neo4j_export: Folder | None) -> Iterable[Example]:
    """The examples of the export, then those of the folder, so that the folder supersedes the export."""
    sources: list[Iterable[Example]] = []
    if neo4j_export is not None:
        sources.append(_from_export(Path(neo4j_export)))
    if content is not None:
        sources.append(_from_content(model, Path(content)))
    return chain.from_iterable(sources)


def _from_export(export: Path) -> Iterable[Example]:
    from trainers.models.gnn.graph_export import examples_of_export

    if not export.is_file():
        raise BadConfiguration(
            f"neo4j_export={export}: no such file; write it with `sx9 export ontology`, or omit the option"
        )
    try:
        document = export.read_bytes()
    except OSError as error:
        raise Corrupt(f"{export} can't be read: {error}; write it again with `sx9 export ontology`") from error
    return examples_of_export(document, str(export))


def _from_content(model: str, content: Path) -> Iterator[Example]:
    if not content.is_dir():
        raise BadConfiguration(_no_examples(model, content, None))
    for number, event in enumerate(read_events(content)):
        example = project(model, event, Source(topic_of(event).name, 0, number))
        if example is not None:
            yield example


def _with_rehearsal_sample(policy: Policy, data: Dataset, config: RecipeConfig) -> Dataset:
    """Sample the rehearsal, as the fold does for a trigger; up to `max_examples` of it if nothing is new."""
    candidates = [
        (key_hash(example.key), offset, next(iter(example.labels), "")) for offset, example in data.rehearsal
    ]
    count = policy.rehearsal_examples if data.fresh else config.max_examples
    chosen = set(sample_stratified(candidates, count, config.seed, 0))
    return msgspec.structs.replace(data, rehearsal=tuple(each for each in data.rehearsal if each[0] in chosen))


def _check_not_empty(data: Dataset, model: str, content: Folder | None, neo4j_export: Folder | None) -> None:
    if not data.train:
        holdout = len(data.old) + len(data.recent)
        note = f" ({holdout} are in the holdout, which is never trained on)" if holdout else ""
        raise BadConfiguration(_no_examples(model, content, neo4j_export) + note)


def _no_examples(model: str, content: Folder | None, neo4j_export: Folder | None) -> str:
    """The message for a folder or an export without examples of a model."""
    sources = " and ".join(str(source) for source in (content, neo4j_export) if source is not None)
    topics = ", ".join(topic.name for topic in topics_of(model_spec(model)))
    return (
        f"no examples for {model} in {sources or 'no source'}: a folder needs events of {topics}, or the files of "
        "the feeds; name another threat_content_dir, or fill it with `sx9 export content`"
    )


if __name__ == "__main__":  # accelerate launch -m sx9_ml_models.training distilbert-mitre ...
    sys.argv.insert(1, "train")
    runpy.run_module("sx9_ml_models", run_name="__main__")
