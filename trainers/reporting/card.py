"""The model card of a version: its manifest in words, as `README.md` in the Hugging Face form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.scores import HOLDOUT, OLD, RECENT, Evaluation, of_split
from schemas.versions import Manifest
from trainers.reporting.summary import metric_name, values_of

if TYPE_CHECKING:
    from trainers.models.recipe import Recipe

SPLITS = (OLD, RECENT, HOLDOUT)


def card(manifest: Manifest, recipe: Recipe) -> str:
    """The card. Nothing in it depends on when the run was, so that a rebuild writes the same bytes.

    Args:
        manifest: Of the version; its `files`, `created_ms` and `seconds` are not looked at.
        recipe: That made it; it says what the model does.
    """
    return f"""---
pipeline_tag: {recipe.PIPELINE}
tags: [mitre-attack, threat-intelligence]
---

# {manifest.model} {manifest.version}

{recipe.introduction(manifest)}

## Where it comes from

| | |
|---|---|
| parent | {manifest.parent or f"none; base model {manifest.base}"} |
| retrained because of | {manifest.reason} ({manifest.trigger}) |
| examples | {manifest.examples_trained}, of them {len(manifest.rehearsal)} rehearsed |
| left out by a sample | {manifest.examples_left_out} |
| labels from | {", ".join(manifest.taxonomies)} |
| promoted | {"yes" if manifest.promoted else "no"} |

`manifest.json` has the journal offsets, the configuration, the library versions and every hash; `curves.png` shows
the loss of every step and the scores on the way, `history.json` has their numbers.

## Scores on examples that no version was trained on

{_scores(manifest)}
{_labels(manifest)}"""


def _scores(manifest: Manifest) -> str:
    """A table for each task: its splits and metrics, with those of the parent and of the simple baselines."""
    return "\n".join(_task(manifest, task) for task in manifest.evaluation)


def _task(manifest: Manifest, task: str) -> str:
    others = {"parent": manifest.parent_evaluation, **manifest.baselines}
    columns = [manifest.evaluation, *others.values()]
    rows = []
    for split in SPLITS:
        scores = manifest.evaluation[task][split]
        for metric in values_of(scores):
            cells = [_cell(evaluation, task, split, metric) for evaluation in columns]
            rows.append([split, metric_name(metric, task), str(scores.examples), *cells])
    title = f"### {task.capitalize()}\n\n"
    return title + _table(["split", "metric", "examples", manifest.version, *others], rows)


def _cell(evaluation: Evaluation, task: str, split: str, metric: str) -> str:
    scores = evaluation.get(task, {}).get(split)
    values = values_of(scores) if scores else {}
    return f"{values[metric]:.3f}" if metric in values else ""


def _labels(manifest: Manifest) -> str:
    """A table of the labels of all tasks on the whole holdout."""
    rows = [
        [label, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", str(s.support)]
        for scores in of_split(manifest.evaluation, HOLDOUT).values()
        for label, s in scores.labels.items()
    ]
    return _table(["label", "precision", "recall", "F1", "support"], rows) if rows else ""


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
