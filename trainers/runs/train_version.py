"""From a dataset to the folder of a version. The stream's trainers and batch calls share this.

    dataset, parent, configuration ──> recipe.run ──> gate ──> card, curves, manifest ──> registry

The same dataset, parent, configuration and seed give the same bytes in every file except `manifest.json`, which
also has the time and the duration. If a run has several processes, the main one writes the version. The others
compute their share, write into a temporary folder, and receive the manifest.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration, RetryLater
from schemas.policy import GateLimits
from schemas.recipes.base import RecipeConfig
from schemas.versions import GateCheck, Manifest, PhaseTime
from schemas.windows import Measure, Reason, Span
from trainers.bases.resolve import Base
from trainers.core import gate
from trainers.core.dataset import Dataset, run_id
from trainers.core.history import HISTORY_FILE
from trainers.core.loop import is_main_process
from trainers.core.phases import Phases, describe
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report
from trainers.models.recipe import Recipe, recipe
from trainers.reporting.card import card
from trainers.reporting.plots import CURVES, save_curves
from trainers.runs.checkpoints import FolderCheckpointer
from trainers.runs.distributed import broadcast_from_main, world_size
from trainers.store import manifest as manifests
from trainers.store.manifest import MANIFEST
from trainers.store.registry import Registry
from transport.files import sha256_of
from transport.secrets import without_secrets

log = logging.getLogger(__name__)

CARD = "README.md"


class TrainingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A version to train, and why.

    Attributes:
        model: Name of the model.
        version: Name of the new version.
        parent: The version to start from; empty for none.
        trigger: Id of the trigger, or `batch:<version>`.
        reason: Why the model is retrained.
        spans: The windows of the journal; empty if the examples come from elsewhere.
        decided_ms, measures: Of the trigger; see `schemas.versions.Manifest`.
        labels: The labels that the version must know.
    """

    model: str
    version: str
    parent: str = ""
    trigger: str
    reason: Reason
    spans: tuple[Span, ...] = ()
    decided_ms: int = 0
    measures: tuple[Measure, ...] = ()
    labels: tuple[str, ...] = ()


def train_version(
    registry: Registry,
    request: TrainingRequest,
    data: Dataset,
    base: Base,
    config: RecipeConfig,
    limits: GateLimits,
    on_progress: ProgressCallback,
    extra_files: Mapping[str, bytes] | None = None,
    phases: Phases | None = None,
) -> Manifest:
    """Train a version, compare it with the champion, and write it. It is not promoted here.

    Args:
        registry: Where the version is written, and where its parent is.
        request: The version.
        data: The examples.
        base: The base model of a version without a parent.
        config: Of the recipe.
        limits: The tolerances of the gate.
        on_progress: Called after every step; an exception that it raises ends the run.
        extra_files: Name -> content of further files of the version.
        phases: With the time that reading the dataset took; None: it is not part of the manifest.

    Returns:
        The manifest, with `promoted` as the gate decided.

    Raises:
        RetryLater: Another process is writing, or has just written, this version.
        Corrupt: The files of the parent were changed.
        BadConfiguration: There are no training examples, or the machine is not suitable; the message has the
            remedy.
    """
    _check_not_empty(request, data)
    if request.parent:
        registry.verified(request.model, request.parent)
    started_s = time.monotonic()
    phases = phases or measured_phases()
    phases.start("prepare")
    model_recipe = recipe(request.model)
    manifest: Manifest | None = None
    with _draft(registry, request) as folder:
        report = _run(model_recipe, registry, request, data, base, config, folder, on_progress, phases)
        phases.start("write")
        if is_main_process():
            for name, content in (extra_files or {}).items():
                (folder / name).write_bytes(content)
            with phases.optional("draw", CURVES):
                save_curves(report.history, f"{request.model} {request.version}", folder)
            (folder / HISTORY_FILE).write_bytes(msgspec.json.encode(report.history))
            manifest = _manifest(request, data, base, config, report, limits)
            with phases.optional("write", CARD):
                text = card(manifest, model_recipe.PIPELINE, model_recipe.introduction(manifest))
                (folder / CARD).write_text(text, encoding="utf-8")
            manifest = _with_files(manifest, folder, time.monotonic() - started_s, phases)
            manifests.write(folder, manifest)
    return broadcast_from_main(manifest, Manifest)


def measured_phases() -> Phases:
    """The phases of a run by the clock and the processor time of this process; `read` is the first."""
    phases = Phases(lambda: (time.monotonic(), time.process_time()))
    phases.start("read")
    return phases


def run_id_of(registry: Registry, request: TrainingRequest, data: Dataset, config: RecipeConfig) -> str:
    """Identify a run; see `trainers.core.dataset.run_id`. The parent is identified by the hash of its manifest."""
    parent = sha256_of(registry.folder(request.model, request.parent) / MANIFEST) if request.parent else ""
    return run_id(data, request.labels, parent, config)


def _check_not_empty(request: TrainingRequest, data: Dataset) -> None:
    if not data.train:
        raise BadConfiguration(
            f"{request.model} {request.version}: no example to train on: all are retracted, superseded or in the "
            "holdout (a tenth of the keys, which is never trained on); provide more examples"
        )


@contextlib.contextmanager
def _draft(registry: Registry, request: TrainingRequest) -> Iterator[Path]:
    """The folder that becomes the version; a temporary folder if this is not the main process."""
    if not is_main_process():
        with tempfile.TemporaryDirectory(prefix="sx9-") as temporary:
            yield Path(temporary)
        return
    with registry.draft(request.model, request.version) as folder:
        if registry.has(request.model, request.version):
            written = registry.folder(request.model, request.version)
            raise RetryLater(f"{written} was written by another process in the meantime; try again")
        yield folder


def _run(
    model_recipe: Recipe,
    registry: Registry,
    request: TrainingRequest,
    data: Dataset,
    base: Base,
    config: RecipeConfig,
    folder: Path,
    on_progress: ProgressCallback,
    phases: Phases,
) -> Report:
    """Run the recipe, from its checkpoint if there is one."""
    checkpoints = registry.checkpoint_folder(request.model, request.version)
    return model_recipe.run(
        data,
        request.labels,
        base.folder,
        registry.folder(request.model, request.parent) if request.parent else None,
        config,
        folder,
        on_progress,
        checkpointer=FolderCheckpointer(checkpoints, run_id_of(registry, request, data, config)),
        phases=phases,
    )


def _manifest(
    request: TrainingRequest, data: Dataset, base: Base, config: RecipeConfig, report: Report, limits: GateLimits
) -> Manifest:
    """The manifest without the file hashes and the times."""
    checks = _gate_checks(request, report, limits)
    return Manifest(
        model=request.model,
        version=request.version,
        trigger=request.trigger,
        reason=request.reason,
        decided_ms=request.decided_ms,
        measures=request.measures,
        parent=request.parent,
        spans=request.spans,
        rehearsal=tuple(offset for offset, _ in data.rehearsal),
        examples_trained=len(data.train),
        examples_left_out=data.left_out,
        examples_dropped=data.dropped,
        newest_event_ms=data.newest_event_ms,
        config=msgspec.to_builtins(config),
        processes=world_size(),
        base=base.name,
        base_sha256=base.sha256,
        labels=report.labels,
        taxonomies=data.taxonomies,
        libraries=manifests.libraries(),
        machine=platform.machine(),
        evaluation=report.candidate,
        parent_evaluation=report.champion,
        baselines=dict(report.baselines),
        report=report.details,
        gate=checks,
        promoted=all(check.passed for check in checks),
    )


def _gate_checks(request: TrainingRequest, report: Report, limits: GateLimits) -> tuple[GateCheck, ...]:
    if request.parent:
        return gate.compare(report.candidate, report.champion, limits)
    return gate.compare_first(report.candidate, report.trivial_baseline, limits)


def _with_files(manifest: Manifest, folder: Path, duration_s: float, phases: Phases) -> Manifest:
    """The complete manifest, once all other files are written."""
    hashes = manifests.file_hashes(folder)
    times = {
        name: PhaseTime(round(each.seconds, 3), round(each.processor_seconds, 3))
        for name, each in phases.stop().items()
    }
    log.info("%s %s: %s", manifest.model, manifest.version, describe(times))
    return msgspec.structs.replace(
        manifest,
        files=hashes,
        left_out={file: without_secrets(error) for file, error in phases.left_out.items()},
        created_ms=int(time.time() * 1000),
        seconds=round(duration_s, 3),
        phases=times,
    )
