"""What `benchmarks.gpu` trains on: random base models of a given size, and examples that can be learned."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.journal import Example, Instruction, Link, Node, Source
from trainers.bases.layout import TOKENIZER_FILES
from trainers.bases.tiny import TINY_WORDS, tiny, tiny_phi3
from trainers.core.dataset import Dataset, split

TACTICS = ("collection", "credential-access", "discovery", "execution", "exfiltration", "impact")
WORDS_PER_TACTIC = len(TINY_WORDS) // len(TACTICS)


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        width: Width of the layers of the random encoder and of the random Phi-3.
        layers: Number of their layers.
        texts: Texts for `distilbert-mitre`.
        instructions: Instructions for `phi3-mitre-lora`.
        sources: Sources of the graph of `gnn-threat`, each with eight techniques.
        techniques: Techniques of that graph.
        text_dim: Numbers in its text vectors.
        epochs: Of each recipe; of `gnn-threat` five times as many.
        memory_batch: Texts in the batch that is too large for memory.
        phi3_layers, phi3_width: Shape of the model that is timed; Phi-3-mini has 32 and 3,072.
        phi3_steps: Timed steps, after `benchmarks.gpu_phi3.WARM_UP_STEPS`.
    """

    width: int
    layers: int
    texts: int
    instructions: int
    sources: int
    techniques: int
    text_dim: int
    epochs: int
    memory_batch: int
    phi3_layers: int
    phi3_width: int
    phi3_steps: int


FULL = Size(256, 4, 1_500, 480, 800, 400, 256, 2, 512, 32, 3072, 20)
TINY = Size(32, 2, 240, 48, 60, 40, 16, 3, 16, 2, 64, 1)


def encoder(folder: Path, size: Size) -> Path:
    """The folder of a DistilBERT with seeded random weights and the tokenizer of the base `tiny`."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    smallest = tiny(folder / "cache")
    config = DistilBertConfig.from_pretrained(smallest)
    config.dim, config.hidden_dim, config.n_layers = size.width, 4 * size.width, size.layers
    config.n_heads = max(2, size.width // 32)
    torch.manual_seed(0)
    return _saved(DistilBertModel(config), smallest, folder / "encoder")


def phi3(folder: Path, size: Size) -> Path:
    """The folder of a Phi-3 with seeded random weights and the tokenizer of the base `tiny-phi3`."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    smallest = tiny_phi3(folder / "cache")
    config = Phi3Config.from_pretrained(smallest)
    config.hidden_size, config.intermediate_size = size.width, 2 * size.width
    config.num_hidden_layers = size.layers
    config.num_attention_heads = max(4, size.width // 64)
    config.num_key_value_heads = config.num_attention_heads // 2
    torch.manual_seed(0)
    model = Phi3ForCausalLM(config)  # type: ignore[no-untyped-call]
    return _saved(model, smallest, folder / "phi3")


def _saved(model: Any, smallest: Path, folder: Path) -> Path:
    model.save_pretrained(folder)
    for name in (*TOKENIZER_FILES, "chat_template.jinja"):
        if (smallest / name).is_file():
            shutil.copy(smallest / name, folder)
    return folder


def texts(size: Size, words: int = 8) -> Dataset:
    """Texts of so many words: three of four are words of the text's tactic, the others any."""
    rng = random.Random(1)
    examples = []
    for number in range(size.texts):
        tactic = number % len(TACTICS)
        own = TINY_WORDS[tactic * WORDS_PER_TACTIC : (tactic + 1) * WORDS_PER_TACTIC]
        text = " ".join(rng.choice(own if i % 4 else TINY_WORDS) for i in range(words))
        examples.append(_example(number, f"text:{number}", text=text, labels=(TACTICS[tactic],)))
    return split(examples, size.texts, 17)


def instructions(size: Size) -> Dataset:
    """Questions about techniques, with answers that name the tactic that the number of the technique decides."""
    examples = []
    for number in range(size.instructions):
        tactic = TACTICS[number % len(TACTICS)]
        instruction = Instruction(
            instruction=f"What is T{number:04}?", output=f"T{number:04} serves the tactic {tactic}."
        )
        examples.append(_example(number, f"technique:{number}", instructions=(instruction,), labels=(tactic,)))
    return split(examples, size.instructions, 17)


def graph(size: Size) -> Dataset:
    """Techniques with tactics, and sources that use techniques of one tactic more often than others."""
    rng = random.Random(2)
    tactic_of = [TACTICS[n % len(TACTICS)] for n in range(size.techniques)]
    examples = [
        _example(n, f"node:T{n}", node=Node(id=f"T{n}", kind="technique", name=f"T{n}"), labels=(tactic_of[n],))
        for n in range(size.techniques)
    ]
    for source in range(size.sources):
        name = f"G{source}"
        examples.append(_example(len(examples), f"node:{name}", node=Node(id=name, kind="group", name=name)))
        preferred = [n for n in range(size.techniques) if n % len(TACTICS) == source % len(TACTICS)]
        chosen = {*rng.sample(preferred, 6), *rng.sample(range(size.techniques), 2)}
        for n in sorted(chosen):
            link = Link(source=name, source_kind="group", relation="uses", target=f"T{n}", target_kind="technique")
            examples.append(_example(len(examples), f"link:{name}:{n}", link=link, labels=("uses:group",)))
    return split(examples, len(examples), 17)


def _example(number: int, key: str, **fields: Any) -> Example:
    digest = hashlib.blake2b(repr((key, fields)).encode(), digest_size=8).hexdigest()
    return Example(source=Source("benchmark", 0, number), key=key, hash=digest, **fields)
