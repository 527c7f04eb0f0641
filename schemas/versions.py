"""Versions of a model and what they are made of."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.windows import Span

Outcome = Literal["trained", "refused", "promoted", "rolled-back"]


class GateCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """One comparison of the gate: `candidate` must be at least `champion - margin`."""

    name: str
    champion: float
    candidate: float
    margin: float
    support: int
    passed: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a version is made of; lies beside its weights as `manifest.json`.

    Attributes:
        model, version, parent: Names; the first version has no parent.
        trigger, reason: Id and reason of the trigger it answers.
        spans: Windows with offsets and content digests.
        rehearsal: Journal offsets of the rehearsal sample.
        examples_trained: Examples the run saw (windows after superseding, plus rehearsal).
        examples_left_out: Window examples beyond the run's bound, left out by a sample.
        newest_event_ms: Broker time of the newest event it learnt from.
        config: The resolved training configuration, seed and thread count included.
        base: Name of the base model, and the sha256 of its weights.
        labels: Label order of the head.
        taxonomies: Where the labels come from, sorted.
        libraries: Name -> version of what computed it; `machine` is the processor architecture.
        scores: Holdout and prequential scores of the candidate; `parent_scores` of its parent on the same examples.
        baseline_scores: Simple baseline trained on the same examples -> its scores on the same holdout.
        report: What else the recipe found out: calibration, samples, ... as its documentation says.
        per_label: Label -> {precision, recall, f1, support} on the whole holdout.
        gate: Each comparison; `promoted` is their conjunction.
        files: File name -> sha256, for every file of the version but this one.
        created_ms: When the run ended; `seconds` how long it took. The only fields not reproduced by a rebuild.
    """

    model: str
    version: str
    trigger: str
    reason: str
    parent: str = ""
    spans: tuple[Span, ...] = ()
    rehearsal: tuple[int, ...] = ()
    examples_trained: int = 0
    examples_left_out: int = 0
    newest_event_ms: int = 0
    config: dict[str, Any] = {}
    base: str = ""
    base_sha256: str = ""
    labels: tuple[str, ...] = ()
    taxonomies: tuple[str, ...] = ()
    libraries: dict[str, str] = {}
    machine: str = ""
    scores: dict[str, float] = {}
    parent_scores: dict[str, float] = {}
    baseline_scores: dict[str, dict[str, float]] = {}
    report: dict[str, Any] = {}
    per_label: dict[str, dict[str, float]] = {}
    gate: tuple[GateCheck, ...] = ()
    promoted: bool = False
    files: dict[str, str] = {}
    created_ms: int = 0
    seconds: float = 0.0


class VersionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something happened to a version, on `model.versions.v1`.

    A trigger's answer is exactly one `promoted` or `refused`, after one `trained`. `detail` says why.
    `newest_event_ms` is the broker time of the newest event it learnt from: how fresh it is.
    """

    model: str
    version: str
    outcome: Outcome
    trigger: str = ""
    reason: str = ""
    detail: str = ""
    parent: str = ""
    examples: int = 0
    scores: dict[str, float] = {}
    parent_scores: dict[str, float] = {}
    seconds: float = 0.0
    time_ms: int = 0
    newest_event_ms: int = 0

    @property
    def id(self) -> str:
        """`model/version/outcome`; a second announcement with the same id says nothing new."""
        return f"{self.model}/{self.version}/{self.outcome}"
