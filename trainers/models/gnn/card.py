"""The introduction in the model card of a version."""

from __future__ import annotations

from schemas.versions import Manifest
from trainers.reporting.markdown import markdown_text


def introduction(manifest: Manifest) -> str:
    """What a version does and how it is used, in Markdown."""
    tactics = [markdown_text(label) for label in manifest.labels if ":" not in label]
    rows = [markdown_text(label) for label in manifest.labels if ":" in label]
    return f"""Predicts which ATT&CK techniques go with a source ({", ".join(rows) or "none yet"}), from the
techniques that are known of it; the source need not be in the training data. It also predicts the tactics of a
technique ({", ".join(tactics) or "none yet"}), and has an embedding of every node of the threat graph.

```python
import json
from pathlib import Path

from safetensors.torch import load_file

names = [node["id"] for node in json.loads(Path("nodes.json").read_bytes())]
vectors = load_file("embeddings.safetensors")["embeddings"]  # (nodes, width), each of length 1

from trainers.models.gnn.predict import load

load(".").techniques("group", shown=["T1566.001", "T1059.001"], k=5)
```

`embeddings.png` shows the embeddings; `graph.safetensors` has the edges that the network uses, without those of the
holdout."""
