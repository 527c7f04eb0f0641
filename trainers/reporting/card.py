"""The model card of a version: its manifest in words, as `README.md` in the Hugging Face form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from schemas.versions import Manifest
from trainers.core.metrics.classification import HOLDOUT, tasks_in

if TYPE_CHECKING:
    from trainers.models.recipe import Recipe

SPLITS = ("old", "recent", HOLDOUT)


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
    """A table per task: its splits and figures, beside the parent and the simple baselines."""
    return "\n".join(_task(manifest, task) for task in tasks_in(manifest.scores))


def _task(manifest: Manifest, task: str) -> str:
    others = {"parent": manifest.parent_scores, **manifest.baseline_scores}
    everything = [manifest.scores, *others.values()]
    rows = []
    for split in SPLITS:
        for figure in _figures(manifest.scores, task):
            name = f"{split}{task}_{figure}"
            cells = [f"{scores[name]:.3f}" if name in scores else "" for scores in everything]
            number = manifest.scores.get(f"{split}{task}_examples", 0.0)
            rows.append([split, figure.replace("_", " "), f"{number:.0f}", *cells])
    title = f"### {task.removeprefix('_').capitalize()}\n\n" if task else ""
    return title + _table(["split", "figure", "examples", manifest.version, *others], rows)


def _figures(scores: Mapping[str, float], task: str) -> list[str]:
    """The figures of a task; the name of another task begins those of the main one only in looks."""
    other = tuple(f"{name.removeprefix('_')}_" for name in tasks_in(scores) if name and name != task)
    start = f"{HOLDOUT}{task}_"
    known = [name.removeprefix(start) for name in scores if name.startswith(start)]
    return [name for name in known if name != "examples" and not (other and name.startswith(other))]


def _labels(manifest: Manifest) -> str:
    if not manifest.per_label:
        return ""
    columns = ["label", "precision", "recall", "F1", "support"]
    rows = [
        [label, *(f"{s[name]:.3f}" for name in ("precision", "recall", "f1")), f"{s['support']:.0f}"]
        for label, s in manifest.per_label.items()
    ]
    return _table(columns, rows)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
