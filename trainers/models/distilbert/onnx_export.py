"""`model.onnx` of a `distilbert-mitre` version, made when it is asked for: it is as large as the version itself.

python -m trainers.models.distilbert.onnx_export output/models/distilbert-mitre
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from schemas.errors import Corrupt
from trainers.bases.quiet import quiet_transformers
from trainers.models.distilbert.network import DistilBertWithWords

NAME = "model.onnx"
MAX_DIFFERENCE = 1e-4
"""Largest difference of a logit from torch's; float32 rounding gives about 1e-6."""
_TEXTS = [[101, 102], [101, 2023, 2003, 1037, 3231, 102], [101, *[1996] * 40, 102]]


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export_onnx(folder: Path, target: Path | None = None) -> Path:
    """Write the model of a version as ONNX: `input_ids` and `attention_mask`, (batch, tokens), to `logits`.

    Args:
        folder: Of the version. Its manifest knows nothing of the new file, which therefore goes elsewhere.
        target: The file; `<folder>.onnx` beside the folder where it is None.

    Returns:
        The file, which onnxruntime was asked about: it says what torch says.

    Raises:
        Corrupt: It says something else.
    """
    target = target or folder.with_name(f"{folder.name}.onnx")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it speaks of torchvision, which nothing here needs
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DistilBertWithWords.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, attn_implementation="eager"
        ).eval()
        ids = torch.ones(2, 8, dtype=torch.long)
        mask = torch.ones(2, 8, dtype=torch.long)
        mask[1, 5:] = 0
        longest = model.config.max_position_embeddings
        shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", min=2, max=longest)}
        partial = target.with_name(f"{target.name}.partial")
        torch.onnx.export(
            _Logits(model), (ids, mask), partial, dynamo=True, external_data=False, verbose=False,
            input_names=["input_ids", "attention_mask"], output_names=["logits"],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        )  # fmt: skip
    if (difference := largest_difference(folder, partial)) > MAX_DIFFERENCE:
        raise Corrupt(
            f"{partial} differs from {folder} by {difference:.1e} (limit {MAX_DIFFERENCE:.0e}): other versions of "
            "torch, onnxscript and onnxruntime may agree; requirements/dev.txt has some that do"
        )
    return partial.replace(target)


def largest_difference(folder: Path, exported: Path) -> float:
    """The largest absolute difference of a logit between torch and onnxruntime, over some padded token ids."""
    import onnxruntime

    with quiet_transformers():
        model = DistilBertWithWords.from_pretrained(folder, local_files_only=True).eval()
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    worst = 0.0
    for texts in (_TEXTS, _TEXTS[:1]):
        longest = max(map(len, texts))
        mask = np.array([[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts])
        ids = np.array([ids + [0] * (longest - len(ids)) for ids in texts]) % model.config.vocab_size * mask
        (found,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        with torch.no_grad():
            wanted = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        worst = max(worst, float(np.abs(found - wanted.numpy()).max()))
    return worst


def main() -> None:
    """Export the version in the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="trainers.models.distilbert.onnx_export", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, help="the file; <folder>.onnx where it is left out")
    asked = parser.parse_args()
    print(export_onnx(asked.folder, asked.target))


if __name__ == "__main__":
    main()
