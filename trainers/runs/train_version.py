"""From a dataset to the folder of a version. The stream's trainers and batch calls share this.

    dataset, parent, configuration ──> recipe.run ──> gate ──> card, curves, manifest ──> registry

The same dataset, parent, configuration and seed give the same bytes in every file except `manifest.json`, which
also has the time and the duration. If a run has several processes, the main one writes the version. The others
compute their share, write into a temporary folder, and receive the manifest.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration, RetryLater
from schemas.versions import GateCheck, Manifest
from schemas.windows import Reason, Span
from trainers.bases.resolve import Base
from trainers.core import gate
from trainers.core.config import RecipeConfig
from trainers.core.dataset import Dataset, run_id
from trainers.core.history import HISTORY_FILE, History
from trainers.core.loop import is_main_process
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report
from trainers.models.recipe import Recipe, recipe
from trainers.reporting.card import card
from trainers.reporting.plots import save_curves
from trainers.runs.checkpoints import FolderCheckpointer
from trainers.runs.distributed import broadcast_from_main
from trainers.store import manifest as manifests
from trainers.store.manifest import MANIFEST
from trainers.store.registry import Registry
from transport.files import sha256_of


class TrainingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A version to train, and why.

    Attributes:
        model: Name of the model.
        version: Name of the new version.
        parent: The version to start from; empty for none.
        trigger: Id of the trigger, or `batch:<version>`.
        reason: Why the model is retrained.
        spans: The windows of the journal; empty if the examples come from elsewhere.
        labels: The labels that the version must know.
    """

    model: str
    version: str
    parent: str = ""
    trigger: str
    reason: Reason
    spans: tuple[Span, ...] = ()
    labels: tuple[str, ...] = ()


def train_version(
    registry: Registry,
    request: TrainingRequest,
    data: Dataset,
    base: Base,
    config: RecipeConfig,
    limits: gate.Limits,
    on_progress: ProgressCallback,
    extra_files: Mapping[str, bytes] | None = None,
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
    model_recipe = recipe(request.model)
    manifest: Manifest | None = None
    with _draft(registry, request) as folder:
        report = _run(model_recipe, registry, request, data, base, config, folder, on_progress)
        if is_main_process():
            for name, content in (extra_files or {}).items():
                (folder / name).write_bytes(content)
            _write_history(report.history, f"{request.model} {request.version}", folder)
            manifest = _manifest(request, data, base, config, report, limits)
            text = card(manifest, model_recipe.PIPELINE, model_recipe.introduction(manifest))
            (folder / "README.md").write_text(text, encoding="utf-8")
            manifest = _with_files(manifest, folder, time.monotonic() - started_s)
            manifests.write(folder, manifest)
    return broadcast_from_main(manifest, Manifest)


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
    )


def _write_history(history: History, title: str, folder: Path) -> None:
    """Write the plot of the curves, and the numbers behind it."""
    save_curves(history, title, folder)
    (folder / HISTORY_FILE).write_bytes(msgspec.json.encode(history))


def _manifest(
    request: TrainingRequest, data: Dataset, base: Base, config: RecipeConfig, report: Report, limits: gate.Limits
) -> Manifest:
    """The manifest without the file hashes and the times."""
    checks = _gate_checks(request, report, limits)
    return Manifest(
        model=request.model,
        version=request.version,
        trigger=request.trigger,
        reason=request.reason,
        parent=request.parent,
        spans=request.spans,
        rehearsal=tuple(offset for offset, _ in data.rehearsal),
        examples_trained=len(data.train),
        examples_left_out=data.left_out,
        newest_event_ms=data.newest_event_ms,
        config=msgspec.to_builtins(config),
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


def _gate_checks(request: TrainingRequest, report: Report, limits: gate.Limits) -> tuple[GateCheck, ...]:
    if request.parent:
        return gate.compare(report.candidate, report.champion, limits)
    return gate.compare_first(report.candidate, report.trivial_baseline, limits)


def _with_files(manifest: Manifest, folder: Path, duration_s: float) -> Manifest:
    """The complete manifest, once all other files are written."""
    return msgspec.structs.replace(
        manifest,
        files=manifests.file_hashes(folder),
        created_ms=int(time.time() * 1000),
        seconds=round(duration_s, 3),
    )
