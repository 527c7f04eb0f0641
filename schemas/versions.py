"""Versions of a model: their manifests and the events of their lives."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.scores import Evaluation, from_flat
from schemas.windows import Measure, Span

Outcome = Literal["trained", "refused", "promoted", "rolled-back"]


class GateCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """One comparison of the gate: `candidate` must be at least `champion - margin`."""

    name: str
    champion: float
    candidate: float
    margin: float
    support: int
    passed: bool


class PhaseTime(msgspec.Struct, frozen=True):
    """How long a phase of a run took: by the clock, and on the processors, which is more with several threads."""

    seconds: float = 0.0
    processor_seconds: float = 0.0


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that a version was built from; `manifest.json` in the folder of its weights.

    Attributes:
        model, version, parent: Names; the first version has no parent.
        trigger, reason: Id and reason of its trigger.
        decided_ms: Tick time of the trigger; 0 in older records, and for a batch call.
        measures: Values and limits of all rules at the trigger; empty in older records, and for a batch call.
        spans: Windows with offsets and content digests.
        rehearsal: Journal offsets of the rehearsal sample.
        examples_trained: Number of training examples (current examples of the windows, plus rehearsal).
        examples_left_out: Number of new examples above the limit of a batch call, left out by a sample.
        examples_dropped: Why a training example of the windows was not trained on -> how many: `superseded` or
            `retracted` before its turn, `holdout-text`: the holdout has the same text.
        newest_event_ms: Broker time of the newest training example.
        config: The resolved training configuration, seed and thread count included.
        processes: Number of processes of the run; the weights depend on it.
        base: Name of the base model, and the sha256 of its weights.
        labels: Label order of the head.
        taxonomies: Taxonomies of the labels, sorted.
        libraries: Package -> version; `machine` is the processor architecture.
        evaluation: Scores of this version on the holdout.
        parent_evaluation: Scores of the parent on the same examples; empty without a parent.
        baselines: Simple baseline, trained on the same examples -> its scores on the same holdout.
        report: Other results of the recipe, such as calibration and samples.
        gate: The comparisons of the gate; `promoted` is true if all of them passed.
        files: File name -> sha256, for every file of the version except this one.
        left_out: File that could not be drawn or written, and is not needed, such as a picture -> the error.
        scores, parent_scores, baseline_scores, per_label: The scores as manifests held them before they were
            nested; read into the fields above, no longer written.
        created_ms: Time of the end of the run; `seconds` is its duration, and `phases` where it went: phase (see
            `trainers.core.phases`) -> time. Only these fields differ after a rebuild.
    """

    model: str
    version: str
    trigger: str
    reason: str
    decided_ms: int = 0
    measures: tuple[Measure, ...] = ()
    parent: str = ""
    spans: tuple[Span, ...] = ()
    rehearsal: tuple[int, ...] = ()
    examples_trained: int = 0
    examples_left_out: int = 0
    examples_dropped: dict[str, int] = {}
    newest_event_ms: int = 0
    config: dict[str, Any] = {}
    processes: int = 1
    base: str = ""
    base_sha256: str = ""
    labels: tuple[str, ...] = ()
    taxonomies: tuple[str, ...] = ()
    libraries: dict[str, str] = {}
    machine: str = ""
    evaluation: Evaluation = {}
    parent_evaluation: Evaluation = {}
    baselines: dict[str, Evaluation] = {}
    report: dict[str, Any] = {}
    gate: tuple[GateCheck, ...] = ()
    promoted: bool = False
    files: dict[str, str] = {}
    left_out: dict[str, str] = {}
    created_ms: int = 0
    seconds: float = 0.0
    phases: dict[str, PhaseTime] = {}
    scores: dict[str, float] = {}
    parent_scores: dict[str, float] = {}
    baseline_scores: dict[str, dict[str, float]] = {}
    per_label: dict[str, dict[str, float]] = {}

    def __post_init__(self) -> None:
        if self.scores and not self.evaluation:
            msgspec.structs.force_setattr(self, "evaluation", from_flat(self.scores))
            msgspec.structs.force_setattr(self, "parent_evaluation", from_flat(self.parent_scores))
            former = {name: from_flat(scores) for name, scores in self.baseline_scores.items()}
            msgspec.structs.force_setattr(self, "baselines", former)

    @property
    def decided_at(self) -> int:
        """The journal offset after the record that led to the version, or after its windows, if that is later."""
        offset = self.trigger.rpartition("@")[2]
        return max(int(offset) + 1 if offset.isdecimal() else 0, self.spans[-1].end if self.spans else 0)


class VersionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of a version's state, on `model.versions.v1`.

    Each trigger leads to one `trained` and then one `promoted` or `refused`. `detail` gives the reason.
    `evaluation` and `parent_evaluation` have no scores per label. `newest_event_ms` is the broker time of the
    newest training example. A person can promote or roll back too: `request` is the id of the request, `by` the
    person and `detail` the reason. Where a lineage took over, `exclusions` is all that is left out from here on
    (`schemas.exclusions`), of the graph too that the model learns. `scores` and `parent_scores` are read from older
    records and no longer written.
    """

    model: str
    version: str
    outcome: Outcome
    trigger: str = ""
    reason: str = ""
    detail: str = ""
    parent: str = ""
    examples: int = 0
    evaluation: Evaluation = {}
    parent_evaluation: Evaluation = {}
    seconds: float = 0.0
    time_ms: int = 0
    newest_event_ms: int = 0
    request: str = ""
    by: str = ""
    scores: dict[str, float] = {}
    parent_scores: dict[str, float] = {}
    exclusions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.scores and not self.evaluation:
            msgspec.structs.force_setattr(self, "evaluation", from_flat(self.scores))
            msgspec.structs.force_setattr(self, "parent_evaluation", from_flat(self.parent_scores))

    @property
    def id(self) -> str:
        """`model/version/outcome`, and the request of a person; an event with a known id is a redelivery."""
        return "/".join(filter(None, (self.model, self.version, self.outcome, self.request)))
