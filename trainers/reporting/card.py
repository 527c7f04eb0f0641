"""The model card of a version: its manifest in prose, as a `README.md` in the format of the Hugging Face hub."""

from __future__ import annotations

from schemas.scores import HOLDOUT, OLD, RECENT, Evaluation, of_split
from schemas.versions import Manifest
from trainers.reporting.markdown import markdown_text
from trainers.reporting.summary import metric_name, values_of

SPLITS = (OLD, RECENT, HOLDOUT)


def card(manifest: Manifest, pipeline: str, introduction: str) -> str:
    """The text of the model card. It does not depend on the time of the run, so a rebuild writes the same bytes.

    Args:
        manifest: Of the version; `files`, `created_ms` and `seconds` are not used.
        pipeline: The pipeline tag of the model on the Hugging Face hub.
        introduction: What the version does and how to use it, in Markdown.
    """
    return f"""---
pipeline_tag: {pipeline}
tags: [mitre-attack, threat-intelligence]
---

# {manifest.model} {manifest.version}

{introduction}

## Provenance

| | |
|---|---|
| parent | {manifest.parent or f"none; trained from the base model {manifest.base}"} |
| reason for retraining | {manifest.reason} ({manifest.trigger}) |
| training examples | {manifest.examples_trained}, including {len(manifest.rehearsal)} rehearsed ones |
| not trained on | {_dropped(manifest)} |
| source of the labels | {markdown_text(", ".join(manifest.taxonomies))} |
| promoted | {"yes" if manifest.promoted else "no"} |

`manifest.json` contains the journal offsets, the configuration, the library versions and all file hashes.
`curves.png` shows the loss of every step and the scores during training; `history.json` has the numbers.

## Scores on the holdout

No version was trained on these examples.

{_scores(manifest)}
{_labels(manifest)}"""


def _dropped(manifest: Manifest) -> str:
    """Why examples were not trained on, and how many."""
    counts = manifest.examples_dropped | {"left out by sampling": manifest.examples_left_out}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "none"


def _scores(manifest: Manifest) -> str:
    """A table for each task: its splits and metrics, compared with the parent and with simple baselines."""
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
    """A table of the labels of all tasks on the holdout; empty for tasks without labels."""
    rows = [
        [markdown_text(label), f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", str(s.support)]
        for scores in of_split(manifest.evaluation, HOLDOUT).values()
        for label, s in scores.labels.items()
    ]
    return _table(["label", "precision", "recall", "F1", "support"], rows) if rows else ""


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
