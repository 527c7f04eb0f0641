"""The introduction of a version's card."""

from __future__ import annotations

from schemas.taxonomy import is_severity
from schemas.versions import Manifest
from trainers.reporting.markdown import markdown_text

PIPELINE = "text-classification"
"""The task as model hubs name it."""


def introduction(manifest: Manifest) -> str:
    """Describe what a version does and how to use it, in Markdown."""
    tactics = [markdown_text(label) for label in manifest.labels if not is_severity(label)]
    severities = [markdown_text(label) for label in manifest.labels if is_severity(label)]
    tasks = []
    if tactics:
        tasks.append(f"Predicts the ATT&CK tactics that a text describes: {', '.join(tactics)}.")
    if severities:
        tasks.append(f"Predicts the severity of the findings of a detection template: {', '.join(severities)}.")
    return f"""{" ".join(tasks)}

```python
from transformers import pipeline

classify = pipeline("text-classification", ".", top_k=None, function_to_apply="sigmoid", trust_remote_code=True)
classify("APT29 dumped credentials from LSASS memory.")
```

With `trust_remote_code`, `network.py` from this folder adds a regression on words to the encoder. Without it only
the encoder is loaded, and its scores are lower. A tactic is predicted if its probability reaches its threshold,
which is in `thresholds` of `config.json`. The predicted severity is the label with the highest score among those
that start with `severity:`; their probabilities are the softmax over these labels alone (`function_to_apply="none"`
returns the logits). All probabilities are calibrated on the holdout; those of the tactics are conditioned on the
text having at least one. The thresholds maximize the expected F1. No score below was computed on examples on which
its calibration was fitted. `precision_recall.png` shows other thresholds. `ece` is the expected calibration error.
`accuracy if not stated` is that of severities where it matters: in texts without a CVSS vector or score and without
a CVE. Where a text has one of them, `sx9 classify` and `sx9 serve` look the severity up; `share stated` is how many
those are.

With this project installed, `load` applies the thresholds and the softmax too:

```python
from trainers.models.distilbert.predict import load

load(".").predict(["APT29 dumped credentials from LSASS memory."])
```"""
