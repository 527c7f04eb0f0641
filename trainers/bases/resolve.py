"""The model that a first version starts from, by its name in the configuration.

    kind         converted once from a Python   random weights,         on the hub, for example
                 package into the cache         seeded, for tests
    distilbert   minilm, a BERT                 tiny                    distilbert-base-uncased
    phi3         smollm2, a Llama               tiny-phi3               microsoft/Phi-3-mini-4k-instruct

Any other name is a folder, used as it is, or a hub id: from the hub's local cache, or downloaded unless offline.
The result is always a folder with the files of `trainers.bases.layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from trainers.bases.hub import folder_from_hub
from trainers.bases.layout import check_base, weights_sha256
from trainers.bases.minilm import minilm
from trainers.bases.smollm2 import smollm2
from trainers.bases.tiny import tiny, tiny_phi3

_MAKERS: Mapping[str, Callable[[Path], Path]] = {
    "minilm": minilm,
    "tiny": tiny,
    "smollm2": smollm2,
    "tiny-phi3": tiny_phi3,
}
"""Name -> what makes the model's folder in the cache, or finds it there."""
STAND_INS = tuple(_MAKERS)
"""Names of base models that are made here; they are not hub ids."""


class Base(msgspec.Struct, frozen=True):
    """A base model.

    Attributes:
        name: As in the configuration.
        folder: With the files of `trainers.bases.layout`.
        sha256: Of its weights, see `trainers.bases.layout.weights_sha256`.
    """

    name: str
    folder: Path
    sha256: str


def resolve(name: str, cache_dir: Path, kind: str = "distilbert") -> Base:
    """Find a base model, converting or downloading it where necessary.

    Args:
        name: One of `STAND_INS`, a folder, or a hub id.
        cache_dir: Where converted models are kept; several processes may use it at once.
        kind: Architecture that the recipe needs: `distilbert` or `phi3`.

    Raises:
        BadConfiguration: There is no such model, or it is of another kind; the message lists what was tried and
            the remedy.
        Corrupt: A converted model does not compute what its original does.
    """
    if name in _MAKERS:
        folder = _MAKERS[name](cache_dir)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    else:
        folder = folder_from_hub(name, kind)
    check_base(name, folder, kind)
    return Base(name, folder, weights_sha256(folder))
