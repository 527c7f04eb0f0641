"""Export a version of `distilbert-mitre` as ONNX. Not part of training: the file is as large as the version itself.

python -m trainers.models.distilbert.onnx_export output/models/distilbert-mitre
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from schemas.errors import Corrupt
from trainers.bases.quiet import loading_transformers
from trainers.models.distilbert.network import DistilBertWithWords

MAX_DIFFERENCE = 1e-4
"""Largest difference between a logit of torch and of onnxruntime; rounding in float32 gives about 1e-6."""
_TEST_TOKENS = [[101, 102], [101, 2023, 2003, 1037, 3231, 102], [101, *[1996] * 40, 102]]


class _Logits(nn.Module):
    """A model that returns a tensor, as the exporter needs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export_onnx(folder: Path, target: Path | None = None) -> Path:
    """Export the model of a version, with calibrated logits, and compare it with torch.

    The inputs are `input_ids` and `attention_mask`, (batch, tokens) int64; the output is `logits`, (batch, labels)
    float32.

    Args:
        folder: Folder of the version. It is not changed, because the manifest lists all of its files.
        target: The file to write; None for `<folder>.onnx`.

    Returns:
        The path of the file.

    Raises:
        Corrupt: A logit of onnxruntime differs from torch's by more than `MAX_DIFFERENCE`.
    """
    target = target or folder.with_name(f"{folder.name}.onnx")
    partial = target.with_name(f"{target.name}.partial")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision, which is not needed
    with loading_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _export(_load(folder, attn_implementation="eager"), partial)
    if (difference := largest_difference(folder, partial)) > MAX_DIFFERENCE:
        raise Corrupt(
            f"{partial} differs from {folder} by {difference:.1e} (limit {MAX_DIFFERENCE:.0e}): try the versions "
            "of torch, onnxscript and onnxruntime in requirements/dev.txt"
        )
    return partial.replace(target)


def _load(folder: Path, attn_implementation: str | None = None) -> DistilBertWithWords:
    model = DistilBertWithWords.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, attn_implementation=attn_implementation
    )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _export(model: DistilBertWithWords, target: Path) -> None:
    ids = torch.ones(2, 8, dtype=torch.long)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 5:] = 0
    longest = model.config.max_position_embeddings
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", min=2, max=longest)}
    torch.onnx.export(
        _Logits(model), (ids, mask), target, dynamo=True, external_data=False, verbose=False,
        input_names=["input_ids", "attention_mask"], output_names=["logits"],
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
    )  # fmt: skip


def largest_difference(folder: Path, exported: Path) -> float:
    """Compare an exported model with torch on a few padded texts.

    Args:
        folder: Folder of the version.
        exported: The ONNX file.

    Returns:
        The largest absolute difference of a logit, at least 0.
    """
    import onnxruntime  # type: ignore[import-untyped]

    with loading_transformers():
        model = _load(folder)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    largest = 0.0
    for tokens in (_TEST_TOKENS, _TEST_TOKENS[:1]):
        ids, mask = _padded(tokens, model.config.vocab_size)
        (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        with torch.no_grad():
            expected = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        largest = max(largest, float(np.abs(logits - expected.numpy()).max()))
    return largest


def _padded(tokens: list[list[int]], vocabulary_size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids, below the size of the vocabulary, and attention mask; both (texts, tokens)."""
    longest = max(map(len, tokens))
    mask = np.array([[1] * len(ids) + [0] * (longest - len(ids)) for ids in tokens])
    padded = np.array([ids + [0] * (longest - len(ids)) for ids in tokens])
    return padded % vocabulary_size * mask, mask


def main() -> None:
    """Export the version that the command line names."""
    parser = argparse.ArgumentParser(
        prog="trainers.models.distilbert.onnx_export", description="Export a version of distilbert-mitre as ONNX."
    )
    parser.add_argument("folder", type=Path, help="folder of the version")
    parser.add_argument("--target", type=Path, help="file to write (default: <folder>.onnx)")
    arguments = parser.parse_args()
    print(export_onnx(arguments.folder, arguments.target))


if __name__ == "__main__":
    main()
