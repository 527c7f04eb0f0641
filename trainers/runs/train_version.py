"""From examples to a version's folder: what the stream's trainers and the batch calls share.

    data, parent, configuration ──> recipe.run ──> gate ──> card, curves, manifest ──> renamed into the registry

The same data, parent, configuration and seed give the same bytes in every file but `manifest.json`, which also
says when and how long. Of several processes of one run, the main one writes and judges; the others compute their
share, write into a folder that goes away, and get the manifest from it.
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
from schemas.versions import Manifest
from schemas.windows import Reason, Span
from trainers.bases.resolve import Base
from trainers.core import gate
from trainers.core.config import RecipeConfig
from trainers.core.dataset import Dataset, run_id
from trainers.core.history import History
from trainers.core.loop import is_main_process
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report
from trainers.models.recipe import recipe
from trainers.reporting.card import card
from trainers.reporting.plots import save_curves
from trainers.runs.checkpoints import FolderCheckpointer
from trainers.runs.distributed import from_main
from trainers.store import manifest as manifests
from trainers.store.manifest import MANIFEST
from trainers.store.registry import Registry
from transport.files import sha256_of

HISTORY = "history.json"
"""The loss of every step and the scores on the way, as `trainers.core.history.History`."""


class TrainingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be trained, and why.

    Attributes:
        model, version: Names of what comes out.
        parent: Version to start from; empty for none.
        trigger, reason: What asked for it.
        spans: Windows of the journal it is trained on; none for examples that came from elsewhere.
        labels: What it must know.
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
    order: TrainingRequest,
    data: Dataset,
    base: Base,
    config: RecipeConfig,
    limits: gate.Limits,
    on_progress: ProgressCallback,
    more: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Train a version, judge it and write it. It is not promoted here.

    Args:
        registry: Where it is written, and where its parent lies.
        data: What it is trained and judged on.
        base: What a version without a parent starts from.
        limits: What the gate tolerates.
        on_progress: Called after every step; what it raises ends the run.
        more: Further files of the version, by name.

    Raises:
        RetryLater: Another process is writing, or has just written, this version.
        Corrupt: The parent's files are not what was written.
        BadConfiguration: There is nothing to train on, or the machine is not fit; the message says what to do.
    """
    if not data.train:
        raise BadConfiguration(
            f"{order.model} {order.version}: no example to train on: all are retracted, superseded or in the "
            "holdout (a tenth of the keys, never trained on); bring more"
        )
    if order.parent:
        registry.verified(order.model, order.parent)
    started = time.monotonic()
    model = recipe(order.model)
    parent = registry.folder(order.model, order.parent) if order.parent else None
    checkpointer = FolderCheckpointer(
        registry.checkpoints(order.model, order.version), run_id_of(registry, order, data, config)
    )
    manifest: Manifest | None = None
    with _draft(registry, order) as folder:
        report = model.run(
            data, order.labels, base.folder, parent, config, folder, on_progress, checkpointer=checkpointer
        )
        if is_main_process():
            for name, content in (more or {}).items():
                (folder / name).write_bytes(content)
            _write_history(report.history, f"{order.model} {order.version}", folder)
            manifest = _manifest(order, data, base, config, report, limits)
            (folder / "README.md").write_text(card(manifest, model), encoding="utf-8")
            manifest = msgspec.structs.replace(
                manifest,
                files=manifests.file_hashes(folder),
                created_ms=int(time.time() * 1000),
                seconds=round(time.monotonic() - started, 3),
            )
            manifests.write(folder, manifest)
    return from_main(manifest, Manifest)


def run_id_of(registry: Registry, order: TrainingRequest, data: Dataset, config: RecipeConfig) -> str:
    """Identifies a run; its parent is identified by the hash of its manifest."""
    parent = sha256_of(registry.folder(order.model, order.parent) / MANIFEST) if order.parent else ""
    return run_id(data, order.labels, parent, config)


@contextlib.contextmanager
def _draft(registry: Registry, order: TrainingRequest) -> Iterator[Path]:
    """The folder that becomes the version; in a process that is not the main one, a folder that goes away."""
    if not is_main_process():
        with tempfile.TemporaryDirectory(prefix="sx9-") as scratch:
            yield Path(scratch)
        return
    with registry.draft(order.model, order.version) as folder:
        if registry.has(order.model, order.version):
            raise RetryLater(f"{registry.folder(order.model, order.version)} was written meanwhile; try again")
        yield folder


def _write_history(history: History, title: str, folder: Path) -> None:
    """The curves, and the numbers behind them."""
    save_curves(history, title, folder)
    (folder / HISTORY).write_bytes(msgspec.json.encode(history))


def _manifest(
    order: TrainingRequest, data: Dataset, base: Base, config: RecipeConfig, report: Report, limits: gate.Limits
) -> Manifest:
    """All of a manifest but what is known only when the files are written."""
    checks = (
        gate.compare(report.candidate, report.champion, limits)
        if order.parent
        else gate.compare_first(report.candidate, report.trivial_baseline, limits)
    )
    return Manifest(
        model=order.model,
        version=order.version,
        trigger=order.trigger,
        reason=order.reason,
        parent=order.parent,
        spans=order.spans,
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
