"""A tiny configuration, examples, and runs for the tests of `phi3-mitre-lora`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, Phi3ForCausalLM

from schemas.journal import Example, Instruction, Source
from schemas.recipes.phi3_lora import Phi3LoraConfig
from trainers.bases.resolve import Base
from trainers.core.dataset import Dataset
from trainers.core.progress import ProgressCallback, no_progress
from trainers.core.report import Report
from trainers.models.phi3_lora.adapter import load_model
from trainers.models.phi3_lora.chat import Chat
from trainers.models.phi3_lora.packing import PromptAnswer
from trainers.models.phi3_lora.recipe import run
from trainers.models.phi3_lora.scorer import LanguageModelScorer
from transport.files import sha256_of

TINY = Phi3LoraConfig(
    base="tiny-phi3", epochs=3, batch_size=4, learning_rate=2e-2, max_tokens=120, rank=4, alpha=8.0,
    eval_examples=12, sample_answers=4, answer_tokens=8, precision="float32", threads=1, seed=3,
)  # fmt: skip
ADAPTER = "adapter_model.safetensors"
TACTICS = ("execution", "impact", "discovery")
MITIGATIONS = ("User Training", "Audit", "Code Signing")
CPU = torch.device("cpu")


def example_of(number: int) -> Example:
    """Example `number`. A technique has three: one explanation and two mitigations."""
    technique, kind = number // 3, number % 3
    name, tactic = f"T{technique:04}", TACTICS[technique % 3]
    by = MITIGATIONS[(technique + kind) % 3]
    instruction = (
        Instruction(instruction=f"What is {name}?", output=f"{name} serves the tactic {tactic}.")
        if not kind
        else Instruction(
            instruction=f"How is {name} mitigated?",
            input=by if kind == 2 else "",
            output=f"ATT&CK lists the mitigation {by} against {name}, which serves the tactic {tactic}.",
        )
    )
    return Example(
        source=Source("threat.techniques.v1", 0, number),
        key=f"example:{number}",
        hash=f"{number:016x}",
        group=f"technique:{name}",
        instructions=(instruction,),
        labels=(tactic,),
        taxonomy="enterprise-attack/15.1",
    )


def data(train: range, held_out: range = range(90, 102), **parts: range) -> Dataset:
    """Examples to train on, and a holdout of which the first six are old."""
    examples = {name: tuple((n, example_of(n)) for n in numbers) for name, numbers in parts.items()}
    holdout = [(n, example_of(n)) for n in held_out]
    return Dataset(
        fresh=tuple((n, example_of(n)) for n in train),
        old=tuple(holdout[:6]),
        recent=tuple(holdout[6:]),
        **examples,
    )


def trained(
    dataset: Dataset,
    base: Base,
    folder: Path,
    parent: Path | None = None,
    config: Phi3LoraConfig = TINY,
    on_progress: ProgressCallback = no_progress,
) -> Report:
    """Run the recipe into a new folder."""
    folder.mkdir()
    return run(dataset, TACTICS, base.folder, parent, config, folder, on_progress)


def base_model(base: Base) -> Phi3ForCausalLM:
    return Phi3ForCausalLM.from_pretrained(base.folder, dtype=torch.float32)


def encoded(base: Base, numbers: Sequence[int]) -> list[PromptAnswer]:
    chat = Chat(AutoTokenizer.from_pretrained(base.folder), TINY.max_tokens)
    return chat.encode([example_of(n).instructions[0] for n in numbers])


def new_scorer(base: Base) -> LanguageModelScorer:
    """The base model with a new adapter."""
    return LanguageModelScorer(load_model(base.folder, None, TINY, CPU), CPU, "float32")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}
