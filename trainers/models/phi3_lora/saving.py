"""Writes the folder of a version: the adapter as PEFT reads it, the tokenizer, and samples of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from peft import PeftModel

from schemas.recipes.phi3_lora import Phi3LoraConfig
from trainers.bases.quiet import quiet_transformers
from trainers.models.phi3_lora.adapter import base_name
from trainers.models.phi3_lora.chat import Chat
from trainers.reporting.markdown import markdown_text

ADAPTER_CONFIG, GENERATION_CONFIG, SAMPLES = "adapter_config.json", "generation_config.json", "samples.md"


def save_version(
    model: PeftModel, chat: Chat, samples: Sequence[Mapping[str, str]], config: Phi3LoraConfig, folder: Path
) -> None:
    """Write all files of a version.

    Args:
        model: The base model with its adapter.
        chat: With the tokenizer of the base model.
        samples: As from `sample_records`; may be empty.
        config: The configuration of the run.
        folder: Exists.
    """
    _save_adapter(model, chat, config, folder)
    _save_generation_config(chat, config, folder)
    _save_samples(samples, folder)


def _save_adapter(model: PeftModel, chat: Chat, config: Phi3LoraConfig, folder: Path) -> None:
    """Write `adapter_model.safetensors`, `adapter_config.json` and the files of the tokenizer."""
    model.peft_config["default"].base_model_name_or_path = base_name(config)
    with quiet_transformers():
        # The default, "auto", would ask the hub whether the vocabulary was resized.
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        chat.tokenizer.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    # PEFT writes sets as lists in any order; sorted, the same version has the same bytes.
    written = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    _write_json({n: sorted(v) if isinstance(v, list) else v for n, v in written.items()}, folder / ADAPTER_CONFIG)


def _save_generation_config(chat: Chat, config: Phi3LoraConfig, folder: Path) -> None:
    """Write `generation_config.json`: greedy decoding; questions and answers as long as in training."""
    settings = {
        "do_sample": False,
        "eos_token_id": chat.end_id,
        "max_new_tokens": config.max_tokens,
        "max_question_tokens": chat.max_question_tokens,  # ours; `transformers` ignores it
        "pad_token_id": chat.end_id,
    }
    _write_json(settings, folder / GENERATION_CONFIG)


def _save_samples(samples: Sequence[Mapping[str, str]], folder: Path) -> None:
    """Write `samples.md`: the answers of the base model, of the version and of ATT&CK to some questions."""
    sections = [
        f"## {_one_line(sample['question'])}\n\n"
        f"**Before** (the base model): {_one_line(sample['before'])}\n\n"
        f"**After** (this version): {_one_line(sample['after'])}\n\n"
        f"**ATT&CK**: {_one_line(sample['attack'])}\n"
        for sample in samples
    ]
    title = "# Answers about techniques that no version was trained on\n"
    (folder / SAMPLES).write_text("\n".join([title, *sections]), encoding="utf-8")


def _one_line(text: str) -> str:
    return markdown_text(text) or "(empty)"


def _write_json(value: Mapping[str, object], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
