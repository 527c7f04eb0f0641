"""The model card of a version: its manifest in words, as `README.md` in the Hugging Face form."""

from __future__ import annotations

from schemas.models import Manifest
from schemas.taxonomy import is_severity
from trainers.core.evaluate import TASKS


def card(manifest: Manifest) -> str:
    """The card. Nothing in it depends on when the run was, so that a rebuild writes the same bytes.

    Args:
        manifest: Of the version; its `files`, `created_ms` and `seconds` are not looked at.
    """
    return f"""---
pipeline_tag: text-classification
library_name: transformers
tags: [mitre-attack, threat-intelligence, multi-label]
---

# {manifest.model} {manifest.version}

{_says(manifest)}

```python
from transformers import pipeline

classify = pipeline("text-classification", ".", top_k=None, function_to_apply="sigmoid")
classify("APT29 dumped credentials from LSASS memory.")
```

A tactic is predicted from a probability of {manifest.config.get("threshold", 0.5)} on. The severity is the label
with the largest score among those that begin with `severity:`; their probabilities are the softmax over these
alone (`function_to_apply="none"` gives the logits).

## Where it comes from

| | |
|---|---|
| parent | {manifest.parent or f"none; base model {manifest.base}"} |
| retrained because of | {manifest.reason} ({manifest.trigger}) |
| examples | {manifest.examples_trained}, of them {len(manifest.rehearsal)} rehearsed |
| left out by a sample | {manifest.examples_left_out} |
| labels from | {", ".join(manifest.taxonomies)} |
| promoted | {"yes" if manifest.promoted else "no"} |

`manifest.json` has the journal offsets, the configuration, the library versions and every hash.

## Scores on examples that no version was trained on

| split | examples | micro F1 | macro F1 | parent micro F1 | parent macro F1 |
|---|---|---|---|---|---|
{_splits(manifest)}

| label | precision | recall | F1 | support |
|---|---|---|---|---|
{_labels(manifest)}
"""


def _says(manifest: Manifest) -> str:
    tactics = [label for label in manifest.labels if not is_severity(label)]
    severities = [label for label in manifest.labels if is_severity(label)]
    said = []
    if tactics:
        said.append(f"Says which ATT&CK tactics a text speaks of: {', '.join(tactics)}.")
    if severities:
        said.append(f"Says how severe what a template detects is: {', '.join(severities)}.")
    return " ".join(said)


def _splits(manifest: Manifest) -> str:
    return "\n".join(
        f"| {split.replace('_', ', ')} | {manifest.scores[f'{split}_examples']:.0f} "
        f"| {_numbers(manifest.scores, split)} "
        f"| {_numbers(manifest.parent_scores, split)} |"
        for task in TASKS
        for split in (f"old{task}", f"recent{task}", f"holdout{task}")
        if f"{split}_examples" in manifest.scores
    )


def _numbers(scores: dict[str, float], split: str) -> str:
    names = (f"{split}_micro_f1", f"{split}_macro_f1")
    return " | ".join(f"{scores[name]:.3f}" if name in scores else "" for name in names)


def _labels(manifest: Manifest) -> str:
    return "\n".join(
        f"| {label} | {s['precision']:.3f} | {s['recall']:.3f} | {s['f1']:.3f} | {s['support']:.0f} |"
        for label, s in manifest.per_label.items()
    )
