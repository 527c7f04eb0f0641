"""The files of a base model's folder: which there must be, and the hash of the weights.

`config.json`, the weights as safetensors, and `tokenizer.json`; a phi3 needs a chat template too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from schemas.errors import BadConfiguration
from trainers.bases.kinds import KINDS
from transport.files import sha256_of

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
"""Instead of `WEIGHTS` where the weights are in several files."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
CHAT_TEMPLATE = "chat_template.jinja"


def check_base(name: str, folder: Path, kind: str) -> None:
    """Check that a folder has the files of a base model of one kind.

    Args:
        name: Of the base model, for the message.
        folder: Its folder.
        kind: Architecture that the recipe needs: a key of `trainers.bases.kinds.KINDS`.

    Raises:
        BadConfiguration: A file is missing, the model has another architecture, or a phi3 has no chat template.
    """
    weights = WEIGHTS_INDEX if (folder / WEIGHTS_INDEX).is_file() else WEIGHTS
    for file in (CONFIG, weights, TOKENIZER_FILES[0]):
        if not (folder / file).is_file():
            raise BadConfiguration(
                f"base model {name}: {folder} has no {file}; needed are {CONFIG}, {WEIGHTS} (pickled weights "
                f"are not loaded) and {TOKENIZER_FILES[0]}: save it again with transformers 5"
            )
    expected = KINDS[kind]
    found = msgspec.json.decode((folder / CONFIG).read_bytes()).get("model_type")
    if found != kind:
        raise BadConfiguration(
            f"base model {name} is a {found}, but this recipe needs a {kind}: set {expected.variables} "
            f"to one, such as {expected.stand_in} or {expected.example}"
        )
    if kind == "phi3" and not _has_chat_template(folder):
        raise BadConfiguration(
            f"base model {name}: {folder} has no chat template, neither {CHAT_TEMPLATE} nor in "
            f"{TOKENIZER_FILES[1]}: use a model that was trained to chat, such as {expected.example}"
        )


def _has_chat_template(folder: Path) -> bool:
    settings = folder / TOKENIZER_FILES[1]
    inside = settings.is_file() and bool(msgspec.json.decode(settings.read_bytes()).get("chat_template"))
    return inside or (folder / CHAT_TEMPLATE).is_file()


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights as safetensors, in one file or in several."""
    return (folder / WEIGHTS).is_file() or (folder / WEIGHTS_INDEX).is_file()


def weights_sha256(folder: Path) -> str:
    """The sha256 of a base model's weights, 64 hex digits.

    Weights in several files have the sha256 of the files' own hashes, in the order of their names.
    """
    if (folder / WEIGHTS).is_file():
        return sha256_of(folder / WEIGHTS)
    index = msgspec.json.decode((folder / WEIGHTS_INDEX).read_bytes())
    names = sorted(set(index["weight_map"].values()))
    return hashlib.sha256("".join(sha256_of(folder / name) for name in names).encode()).hexdigest()
