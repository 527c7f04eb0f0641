"""Answers questions with a version of `phi3-mitre-lora`: its adapter on its base model.

>>> question = Instruction(instruction="How can Lua (T1059.011) be mitigated?", output="")
>>> load("output/models/phi3-mitre-lora/champion").predict([question])  # doctest: +SKIP
['ATT&CK lists the mitigation ...']
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from schemas.errors import BadConfiguration
from schemas.journal import Instruction
from trainers.bases.quiet import loading_transformers
from trainers.bases.resolve import resolve
from trainers.core.memory import own_memory
from trainers.models.phi3_lora.adapter import default_precision, load_base
from trainers.models.phi3_lora.chat import Chat
from trainers.models.phi3_lora.generation import generate
from trainers.models.phi3_lora.saving import ADAPTER_CONFIG, GENERATION_CONFIG

ADAPTER_WEIGHTS = "adapter_model.safetensors"
DEFAULT_LIMITS = {"max_new_tokens": 256, "max_question_tokens": 256}
"""Limits of answers and of questions, in tokens, of a version without `generation_config.json`."""
CACHE_DIR = Path(platformdirs.user_cache_dir("sx9"))


class Explainer:
    """Answers instructions about techniques; made by `load`.

    Args:
        model: The base model with its adapter, in evaluation mode.
        chat: Encodes the instructions.
        max_new_tokens: Largest number of tokens of an answer.
        precision: `float32` or `bfloat16`.
    """

    def __init__(self, model: PeftModel, chat: Chat, max_new_tokens: int, precision: str) -> None:
        self._model = model
        self._chat = chat
        self._max_new_tokens = max_new_tokens
        self._precision = precision

    def predict(self, instructions: Sequence[Instruction]) -> list[str]:
        """Generate answers; each token is the most likely one.

        Args:
            instructions: Their outputs are not read. Longer questions than in training are cut. May be empty.

        Returns:
            One answer for each instruction, in order.
        """
        return generate(self._model, self._chat, instructions, self._max_new_tokens, self._precision)


def load(
    folder: Path | str,
    base: Path | str | None = None,
    *,
    max_new_tokens: int | None = None,
    cache_dir: Path | str = CACHE_DIR,
    device: str = "",
) -> Explainer:
    """Load a version.

    Args:
        folder: Folder of the version.
        base: Folder or hub id of the base model, or the name of a stand-in. None: the base model that
            `adapter_config.json` names.
        max_new_tokens: Largest number of tokens of an answer, at least 1. None: the limit in training.
        cache_dir: Where converted stand-ins are kept.
        device: `cpu`, `cuda`, `cuda:1`; empty: `cuda` if there is one.

    Raises:
        BadConfiguration: The folder has no adapter, or its base model is not found.
    """
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, chat, precision = load_adapter(Path(folder), base, Path(cache_dir), on, "sdpa")
    limit = _generation_config(Path(folder))["max_new_tokens"]
    return Explainer(model, chat, max_new_tokens or limit, precision)


def load_adapter(
    folder: Path, base: Path | str | None, cache_dir: Path, device: torch.device, attention: str
) -> tuple[PeftModel, Chat, str]:
    """Load a version, in evaluation mode.

    Args:
        folder, base, cache_dir: As for `load`.
        device: Where it computes.
        attention: Name of an attention implementation of `transformers`.

    Returns:
        The model, what encodes its instructions, and its precision.

    Raises:
        BadConfiguration: As for `load`.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise BadConfiguration(f"{folder} has no {name}: give the folder of a version of phi3-mitre-lora")
    base_folder = _base_folder(folder, base, cache_dir)
    precision = default_precision(device)
    with loading_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = PeftModel.from_pretrained(load_base(base_folder, precision, attention), str(folder))
    own_memory(model)
    limits = _generation_config(folder)
    chat = Chat(tokenizer, limits["max_new_tokens"], limits["max_question_tokens"])
    return model.eval().to(device), chat, precision


def _base_folder(folder: Path, base: Path | str | None, cache_dir: Path) -> Path:
    if base is not None:
        return resolve(str(base), cache_dir, "phi3").folder
    name = json.loads((folder / ADAPTER_CONFIG).read_bytes())["base_model_name_or_path"]
    try:
        return resolve(name, cache_dir, "phi3").folder
    except BadConfiguration as error:
        raise BadConfiguration(
            f"{folder} is an adapter of base model {name}: pass its folder as `base` ({error})"
        ) from error


def _generation_config(folder: Path) -> dict[str, int]:
    path = folder / GENERATION_CONFIG
    return DEFAULT_LIMITS | (json.loads(path.read_bytes()) if path.is_file() else {})
