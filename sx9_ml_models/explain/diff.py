"""Two versions of a model side by side: their labels, their scores, and what they were made from."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from schemas.errors import BadConfiguration
from schemas.scores import HOLDOUT, of_split
from schemas.versions import Manifest
from sx9_ml_models.explain.answers import AnyDiff, answer_diff
from trainers.runs.progress import progress_bars
from trainers.settings import TrainerSettings
from trainers.store.shared_registry import open_registry


class ScoreDiff(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a task, or the F1 of a label, on the holdout of each version; None where it has none."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """After minus before; None if one of them is missing."""
        return None if self.before is None or self.after is None else self.after - self.before


class VersionDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions.

    Attributes:
        model, before, after: Names.
        same_holdout: Whether `after` was scored on the very examples that `before` was, as a parent and its child
            are; then the scores of both are from the manifest of the child.
        labels_added, labels_removed: Labels of the head.
        metrics, labels: Scores on the whole holdout; the labels with the largest change first.
        facts: What they were made from: (name, before, after), where it differs.
    """

    model: str
    before: str
    after: str
    same_holdout: bool
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    metrics: tuple[ScoreDiff, ...]
    labels: tuple[ScoreDiff, ...]
    facts: tuple[tuple[str, str, str], ...]


def version_diff(before: Manifest, after: Manifest) -> VersionDiff:
    """Compare two versions of a model by their manifests."""
    child = after.parent == before.version and bool(after.parent_evaluation)
    then = of_split(after.parent_evaluation if child else before.evaluation, HOLDOUT)
    now = of_split(after.evaluation, HOLDOUT)
    metrics, labels = [], []
    for task in dict.fromkeys((*then, *now)):
        old, new = then.get(task), now.get(task)
        metrics += _scores(task, old.metrics if old else {}, new.metrics if new else {})
        f1s = [{name: s.f1 for name, s in each.labels.items()} if each else {} for each in (old, new)]
        labels += _scores(task, *f1s)
    return VersionDiff(
        model=after.model,
        before=before.version,
        after=after.version,
        same_holdout=child,
        labels_added=tuple(sorted(set(after.labels) - set(before.labels))),
        labels_removed=tuple(sorted(set(before.labels) - set(after.labels))),
        metrics=tuple(metrics),
        labels=tuple(sorted(labels, key=lambda each: (-abs(each.change or 0.0), each.name))),
        facts=tuple(_facts(before, after)),
    )


def answers_or_why(settings: TrainerSettings, before: Manifest, after: Manifest) -> tuple[AnyDiff | None, str]:
    """Where the answers of two versions differ, or why that can't be said."""
    copy = settings.trainer_dir / f"{before.model}.sqlite"
    try:
        with progress_bars(f"{before.version} and {after.version}", threading.Event()) as on_progress:
            return answer_diff(open_registry(settings), copy, before, after, on_progress), ""
    except BadConfiguration as error:
        return None, str(error)


def _scores(task: str, before: dict[str, float], after: dict[str, float]) -> list[ScoreDiff]:
    names = dict.fromkeys((*before, *after))
    return [ScoreDiff(name=f"{task}/{name}", before=before.get(name), after=after.get(name)) for name in names]


def _facts(before: Manifest, after: Manifest) -> list[tuple[str, str, str]]:
    """What differs in the data, the configuration, and the libraries."""
    sides = [_described(before), _described(after)]
    names = dict.fromkeys((*sides[0], *sides[1]))
    values = [(name, sides[0].get(name, ""), sides[1].get(name, "")) for name in names]
    return [each for each in values if each[1] != each[2]]


def _described(manifest: Manifest) -> dict[str, str]:
    spans = manifest.spans
    facts: dict[str, Any] = {
        "parent": manifest.parent or "none",
        "reason": manifest.reason,
        "journal offsets": f"{spans[0].start}-{spans[-1].end}" if spans else "",
        "examples": manifest.examples_trained,
        "rehearsed": len(manifest.rehearsal),
        "taxonomies": ", ".join(manifest.taxonomies),
        "base": manifest.base,
        "gate": "promoted" if manifest.promoted else "refused",
        "machine": manifest.machine,
    }
    facts |= {f"config {name}": value for name, value in manifest.config.items()}
    facts |= {f"library {name}": value for name, value in manifest.libraries.items()}
    return {name: str(value) for name, value in facts.items()}
