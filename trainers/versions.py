"""From examples to a version's folder: what the stream's trainers and the batch calls share.

    data, parent, configuration ──> recipe.run ──> gate ──> card, curves, manifest ──> renamed into the registry

The same data, parent, configuration and seed give the same bytes in every file but `manifest.json`, which also
says when and how long.
"""

from __future__ import annotations

import platform
import time

import msgspec

from schemas.errors import BadConfiguration
from schemas.models import Manifest
from schemas.windows import Reason, Span
from trainers.base_models import Base
from trainers.card import card
from trainers.core import evaluate, gate
from trainers.core import manifest as manifests
from trainers.core.config import RecipeConfig
from trainers.core.dataset import Dataset
from trainers.core.report import Report
from trainers.plots import save_curves
from trainers.recipes import recipe
from trainers.registry import Registry
from trainers.watch import Watch


class Order(msgspec.Struct, frozen=True, kw_only=True):
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
    order: Order,
    data: Dataset,
    base: Base,
    config: RecipeConfig,
    limits: gate.Limits,
    watch: Watch,
) -> Manifest:
    """Train a version, judge it and write it. It is not promoted here.

    Args:
        registry: Where it is written, and where its parent lies.
        data: What it is trained and judged on.
        base: What a version without a parent starts from.
        limits: What the gate tolerates.
        watch: Called after every step; what it raises ends the run.

    Raises:
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
    with registry.draft(order.model, order.version) as folder:
        parent = registry.folder(order.model, order.parent) if order.parent else None
        checkpoints = registry.checkpoints(order.model, order.version)
        model = recipe(order.model)
        report = model.run(data, order.labels, base.folder, parent, config, folder, watch, checkpoints=checkpoints)
        save_curves(report.history, f"{order.model} {order.version}", folder)
        manifest = _manifest(order, data, base, config, report, limits)
        (folder / "README.md").write_text(card(manifest, model), encoding="utf-8")
        manifest = msgspec.structs.replace(
            manifest,
            files=manifests.file_hashes(folder),
            created_ms=int(time.time() * 1000),
            seconds=round(time.monotonic() - started, 3),
        )
        manifests.write(folder, manifest)
    return manifest


def _manifest(
    order: Order, data: Dataset, base: Base, config: RecipeConfig, report: Report, limits: gate.Limits
) -> Manifest:
    """All of a manifest but what is known only when the files are written."""
    checks = (
        gate.compare(report.candidate, report.champion, limits)
        if order.parent
        else gate.first(report.candidate, report.floor, limits)
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
        scores=evaluate.flat(report.candidate),
        parent_scores=evaluate.flat(report.champion),
        baseline_scores={name: evaluate.flat(splits) for name, splits in report.baselines.items()},
        report=report.details,
        per_label=evaluate.per_label(report.candidate),
        gate=checks,
        promoted=all(check.passed for check in checks),
    )
