"""The recipe of `phi3-mitre-lora`: a Phi-3 that explains a technique, how to detect it, how to mitigate it.

    1 load      the base, frozen, and on it a new adapter or the parent's
    2 ask       questions in the base's own chat template; of an answer at most `max_tokens` tokens
    3 score     the base on the holdout; the parent on what it has not seen: the fresh examples, and the holdout
    4 fit       batches of similar length, each packed into one row; the loss is that of the answers alone
    5 evaluate  the candidate on the same holdout; base and candidate answer some questions in their own words
    6 save      adapter_model.safetensors, adapter_config.json, tokenizer and chat template, samples.md

An example is in the holdout with its technique: the model is judged on techniques that nothing taught it about.
What `PeftModel.from_pretrained` puts on the base is all that is saved; the base stays what and where it is, and the
adapter names it by `base` of the configuration (a folder by its last part, which means something elsewhere too).
A parent's adapter is trained further as it is: its rank, alpha and layers stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AttentionInterface, AutoTokenizer, Phi3ForCausalLM, PreTrainedTokenizerFast
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from schemas.errors import BadConfiguration
from schemas.journal import Instruction
from schemas.scores import ANSWERS, HOLDOUT, OLD, PREQUENTIAL, RECENT, TaskScores
from schemas.versions import Manifest
from trainers.bases.quiet import quiet_transformers
from trainers.bases.resolve import STAND_INS
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.loop import Checkpointer, device_of, fit, make_deterministic
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.core.report import Report
from trainers.models.phi3_lora.answer_loss import Told, answer_loss, answer_scores, told
from trainers.models.phi3_lora.chat import Chat, question
from trainers.models.phi3_lora.config import Phi3LoraConfig
from trainers.models.phi3_lora.generation_evaluation import Quiz, make_quizzes, named_shares
from trainers.models.phi3_lora.packing import Piece, Row, pack, packed_attention, visible

Config = Phi3LoraConfig
BASE_ARCHITECTURE = "phi3"
NEEDS_GRAPH_CONTEXT = False
PIPELINE = "text-generation"

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""Every matrix of a Phi-3's layers."""
ADAPTER_CONFIG, SAMPLES = "adapter_config.json", "samples.md"
PACKED = "sx9_packed"
"""What `transformers` knows `packed_attention` by."""
SORTED_BATCHES = 8
"""So many batches are cut from one sorted piece of the shuffled examples: rows of even size, still random order."""
LEAST_REHEARSED = 8
SCORING_BATCH = 8
ANSWERING_BATCH = 16
SHOWN_SAMPLES = 10

AttentionInterface.register(PACKED, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(PACKED, lambda *_, **__: None)


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: Config,
    folder: Path,
    on_progress: ProgressCallback,
    *,
    checkpointer: Checkpointer | None = None,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on.
        labels: The tactics that answers may name, beside those of the examples.
        base: Folder of the base model.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `Phi3LoraConfig`.
        folder: Where the version is written; exists and is empty.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves the checkpoint of a killed run; None for none.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
        BadConfiguration: The parent is an adapter of another base.
    """
    make_deterministic(config)

    # 1 load
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = _load(base, parent, config).to(device_of(config))
    asked = Asked(model, config)

    # 2 ask
    chat = Chat(tokenizer, config.max_tokens)
    rehearsed = _rehearsed(data, config)
    train = chat.pieces(_instructions(data.fresh + rehearsed))
    holdout = Holdout(*map(chat.pieces, _judged(data, config.eval_examples)))

    # 3 score
    champion: dict[str, TaskScores] = {}
    if parent:
        fresh = chat.pieces(_sampled(data.fresh, max(1, config.eval_examples // 4)))
        champion[PREQUENTIAL] = asked.scores(fresh, "scoring the champion", on_progress)
        champion |= holdout.scores(asked, "scoring the champion", on_progress)
    with model.disable_adapter():
        untuned = holdout.scores(asked, "scoring the base", on_progress)

    # 4 fit
    on_the_way: list[dict[str, TaskScores]] = []  # the last of them after the last step

    def evaluate() -> Mapping[str, TaskScores]:
        on_the_way.append(holdout.scores(asked, "scoring the candidate", on_progress))
        return {ANSWERS: on_the_way[-1][HOLDOUT]}

    history = fit(
        asked,
        _plan(train, config),
        lambda model, indices: model(pack([train[i] for i in indices], device_of(config))),
        [{"params": [p for p in model.parameters() if p.requires_grad], "lr": config.learning_rate}],
        config,
        on_progress,
        weight=lambda indices: float(sum(len(train[i].answer) for i in indices)),
        checkpointer=checkpointer,
        evaluate=evaluate,
    )

    # 5 evaluate
    candidate = on_the_way[-1] if on_the_way else holdout.scores(asked, "scoring the candidate", on_progress)
    judged = [example for _, example in data.old + data.recent]
    quizzes = make_quizzes(judged, [example for _, example in data.train], labels, config.sample_answers)
    after = _answer(asked, chat, quizzes, config, "answering", on_progress)
    with model.disable_adapter():
        before = _answer(asked, chat, quizzes, config, "the base answering", on_progress)
    candidate[HOLDOUT].extra.update(named_shares(quizzes, after))
    untuned[HOLDOUT].extra.update(named_shares(quizzes, before))
    samples = _samples(quizzes, before, after)

    # 6 save
    _save(model, tokenizer, config, folder)
    (folder / SAMPLES).write_text(_page(samples), encoding="utf-8")
    return Report(
        labels=tuple(labels),
        candidate={ANSWERS: candidate},
        champion={ANSWERS: champion} if parent else {},
        trivial_baseline={ANSWERS: untuned},
        baselines={"untuned base": {ANSWERS: untuned}},
        history=history,
        details={
            "samples": samples,
            "precision": _precision(config),
            "rehearsed": [offset for offset, _ in rehearsed],
            "instructions": len(train),
            "answer_tokens": sum(len(piece.answer) for piece in train),
        },
    )


# ---- load


def _load(base: Path, parent: Path | None, config: Config) -> PeftModel:
    """The frozen base, and on it the parent's adapter or a new one that changes nothing yet; in evaluation mode."""
    model = Phi3ForCausalLM.from_pretrained(
        base,
        dtype=getattr(torch, _precision(config)),
        attn_implementation=_attention(config),
        use_safetensors=True,
        local_files_only=True,
    )
    torch.manual_seed(config.seed)  # whatever was drawn for the base
    adapted = _adapter_of(parent, model, config) if parent else get_peft_model(model, _new_adapter(model, config))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return adapted.eval()


def _new_adapter(model: Phi3ForCausalLM, config: Config) -> LoraConfig:
    number = model.config.num_hidden_layers
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(TARGETS),
        layers_to_transform=list(range(max(0, number - config.layers), number)) if config.layers else None,
    )


def _adapter_of(parent: Path, model: Phi3ForCausalLM, config: Config) -> PeftModel:
    settings = PeftConfig.from_pretrained(str(parent))
    if settings.base_model_name_or_path != _name(config):
        raise BadConfiguration(
            f"{parent} is an adapter of base model {settings.base_model_name_or_path}, not of {_name(config)}: set "
            "SX9_TRAINER_PHI3_LORA_BASE back to that, or move the model's versions away to start again"
        )
    settings.lora_dropout = config.dropout
    return PeftModel.from_pretrained(model, str(parent), is_trainable=True, config=settings)


def _name(config: Config) -> str:
    """What an adapter calls its base: a hub id or one of ours; of a folder the last part."""
    path = Path(config.base).expanduser()
    return path.resolve().name if path.is_dir() else config.base


def _precision(config: Config) -> str:
    """Of the base's weights and of what is computed; the adapter's weights are float32."""
    if config.precision:
        return config.precision
    able = torch.cpu.get_capabilities()
    on_cpu = device_of(config).type == "cpu"
    return "bfloat16" if not on_cpu or able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def _attention(config: Config) -> str:
    """On a GPU one kernel for a row and a mask; a CPU computes no more than it must."""
    return PACKED if device_of(config).type == "cpu" else "sdpa"


class Asked(nn.Module):
    """A model and what its answers cost; called with a row, it gives the summed loss of the answers there."""

    def __init__(self, model: PeftModel, config: Config) -> None:
        super().__init__()
        self.model = model
        self.precision = getattr(torch, _precision(config))
        self._device = device_of(config)

    def forward(self, row: Row) -> torch.Tensor:
        return answer_loss(self._hidden(row), self._vocabulary, row.answers)

    def computing(self) -> torch.autocast:
        """The precision of whatever is computed."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def scores(self, pieces: Sequence[Piece], phase: str, on_progress: ProgressCallback) -> TaskScores:
        """The figures of some answers."""
        return answer_scores(self.told(pieces, phase, on_progress), len(self._vocabulary))

    def told(self, pieces: Sequence[Piece], phase: str, on_progress: ProgressCallback) -> list[Told]:
        """How each answer is predicted."""
        found: dict[int, Told] = {}
        batches = _batches(sorted(range(len(pieces)), key=lambda i: len(pieces[i].answer)), SCORING_BATCH)
        with torch.inference_mode():
            for step, batch in enumerate(batches, 1):
                row = pack([pieces[i] for i in batch], self._device)
                found |= zip(
                    batch, told(self._hidden(row), self._vocabulary, row.answers, row.lengths), strict=True
                )
                on_progress(RunProgress(phase, step, len(batches)))
        return [found[i] for i in range(len(pieces))]

    @property
    def _vocabulary(self) -> torch.Tensor:
        """(words, dim)."""
        return self.model.get_base_model().lm_head.weight

    def _hidden(self, row: Row) -> torch.Tensor:
        """(k, dim): the last layer where the answer tokens are predicted; there are no logits of any other."""
        phi3 = self.model.get_base_model()
        if phi3.config._attn_implementation == PACKED:
            seen: dict[str, Any] = {"sizes": row.sizes}
        else:
            seen = {"attention_mask": visible(row.sizes, self._device)[None, None]}
        with self.computing():
            states = phi3.model(input_ids=row.ids, position_ids=row.positions, use_cache=False, **seen)
        return states.last_hidden_state[0, row.asked]


# ---- ask


def _instructions(placed: Sequence[OffsetExample]) -> list[Instruction]:
    return [instruction for _, example in placed for instruction in example.instructions]


def _rehearsed(data: Dataset, config: Config) -> tuple[OffsetExample, ...]:
    """Some of the rehearsal: a run costs what is new. Beside a small window there are `LEAST_REHEARSED`."""
    most = max(round(len(data.fresh) * config.rehearsal), LEAST_REHEARSED if config.rehearsal else 0)
    return tuple(sorted(sorted(data.rehearsal, key=lambda at: _rank(at[1].key, config.seed))[:most]))


def _sampled(placed: Sequence[OffsetExample], number: int) -> list[Instruction]:
    """At most so many instructions, always the same ones of the same examples."""
    ranked = [
        (_rank(f"{example.key}:{i}"), instruction)
        for _, example in placed
        for i, instruction in enumerate(example.instructions)
    ]
    return [instruction for _, instruction in sorted(ranked, key=lambda at: at[0])[:number]]


def _judged(data: Dataset, number: int) -> tuple[list[Instruction], list[Instruction]]:
    """Of old and recent holdout, at most so many together: a half of each, or what the other leaves."""
    old, recent = (sum(len(example.instructions) for _, example in part) for part in (data.old, data.recent))
    of_old = min(old, max(number // 2, number - recent))
    return _sampled(data.old, of_old), _sampled(data.recent, number - of_old)


def _rank(name: str, salt: int = 0) -> bytes:
    return hashlib.blake2b(f"{salt}:{name}".encode(), digest_size=8).digest()


class Holdout(NamedTuple):
    """What a version is judged on: instructions about techniques that nobody trained on."""

    old: list[Piece]
    recent: list[Piece]

    def scores(self, asked: Asked, phase: str, on_progress: ProgressCallback) -> dict[str, TaskScores]:
        """The splits `old`, `recent` and `holdout`."""
        found = asked.told([*self.old, *self.recent], phase, on_progress)
        words = asked.model.config.vocab_size
        splits = {OLD: found[: len(self.old)], RECENT: found[len(self.old) :], HOLDOUT: found}
        return {name: answer_scores(part, words) for name, part in splits.items()}


# ---- fit


def _plan(train: Sequence[Piece], config: Config) -> list[list[list[int]]]:
    """Every piece once an epoch, in shuffled batches of similar size."""
    order = random.Random(config.seed)
    return [_shuffled([len(p.prompt) + len(p.answer) for p in train], config, order) for _ in range(config.epochs)]


def _shuffled(lengths: Sequence[int], config: Config, order: random.Random) -> list[list[int]]:
    found: list[list[int]] = []
    for some in _batches(order.sample(range(len(lengths)), len(lengths)), config.batch_size * SORTED_BATCHES):
        found += _batches(sorted(some, key=lambda i: lengths[i]), config.batch_size)
    order.shuffle(found)
    return found


def _batches(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[i : i + size]) for i in range(0, len(indices), size)]


# ---- evaluate: what a version says in its own words


def _answer(
    asked: Asked, chat: Chat, quizzes: Sequence[Quiz], config: Config, phase: str, on_progress: ProgressCallback
) -> list[str]:
    """What a model says by itself, always taking the most likely token."""
    prompts = [chat.prompt(quiz.asked) for quiz in quizzes]
    found: dict[int, str] = {}
    batches = _batches(sorted(range(len(prompts)), key=lambda i: len(prompts[i])), ANSWERING_BATCH)
    with _generating(asked.model.get_base_model()), torch.inference_mode(), asked.computing(), quiet_transformers():
        for step, batch in enumerate(batches, 1):
            ids, mask = _padded([prompts[i] for i in batch], chat.end, device_of(config))
            said = asked.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=config.answer_tokens,
                do_sample=False,
                eos_token_id=chat.end,
                pad_token_id=chat.end,
            )
            texts = chat.tokenizer.batch_decode(said[:, ids.shape[1] :], skip_special_tokens=True)
            found |= zip(batch, (text.strip() for text in texts), strict=True)
            on_progress(RunProgress(phase, step, len(batches)))
    return [found[i] for i in range(len(quizzes))]


@contextlib.contextmanager
def _generating(model: Phi3ForCausalLM) -> Iterator[None]:
    """With the attention that knows padding and what was computed before."""
    attention = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)


def _padded(
    prompts: Sequence[tuple[int, ...]], filler: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(prompts, longest) twice: ids that end where the answer begins, and 1 where they are not filler."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _samples(quizzes: Sequence[Quiz], before: Sequence[str], after: Sequence[str]) -> list[dict[str, str]]:
    """Some questions, turn by turn for a mitigation and for something else, and what was said before and after."""
    shown = list(zip(quizzes, before, after, strict=True))
    halves = [at for at in shown if at[0].mitigations], [at for at in shown if not at[0].mitigations]
    turns = [at for both in itertools.zip_longest(*halves) for at in both if at]
    return [
        {"question": question(quiz.asked), "attack": quiz.asked.output, "before": one, "after": other}
        for quiz, one, other in turns[:SHOWN_SAMPLES]
    ]


# ---- save


def _save(model: PeftModel, tokenizer: PreTrainedTokenizerFast, config: Config, folder: Path) -> None:
    """The adapter as PEFT writes it, its lists sorted (PEFT has sets of them), and the tokenizer of the base."""
    settings = model.peft_config["default"]
    settings.base_model_name_or_path = _name(config)
    with quiet_transformers():
        # "auto" would ask a hub whether the vocabulary is the base's.
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        tokenizer.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    written = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    tidy = {name: sorted(value) if isinstance(value, list) else value for name, value in written.items()}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(tidy, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _page(samples: Sequence[Mapping[str, str]]) -> str:
    """`samples.md`."""
    parts = [
        f"## {_line(sample['question'])}\n\n"
        f"**Before** (the base model): {_line(sample['before'])}\n\n"
        f"**After** (this version): {_line(sample['after'])}\n\n"
        f"**ATT&CK**: {_line(sample['attack'])}\n"
        for sample in samples
    ]
    return "\n".join(["# Answers about techniques that no version was trained on\n", *parts])


def _line(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"


def introduction(manifest: Manifest) -> str:
    """What a version does and how it is used, in Markdown."""
    base = manifest.base
    imports, folder = "", f'"{base}"'
    if base in STAND_INS:
        imports = """
from trainers.bases.resolve import resolve
from trainers.settings import load_trainer_settings
"""
        folder = f'resolve("{base}", load_trainer_settings().cache_dir, "phi3").folder'
    return f"""Explains an ATT&CK technique, how to detect it and how to mitigate it: an adapter (LoRA) of the base
model `{base}`, which it needs and does not contain.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}
base = {folder}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), ".")
tokenizer = AutoTokenizer.from_pretrained(".")
asked = [{{"role": "user", "content": "How can Lua (T1059.011) be mitigated?"}}]
ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0]))
```

What it says is often wrong in its details: read it as a draft. `{SAMPLES}` has answers of the base model and of
this version beside those of ATT&CK. The perplexity is that of a token of ATT&CK's answer, `bits saved` is
1 - log(perplexity) / log(vocabulary). `tactic named` and `mitigation named` are the shares of the version's own
answers that name a right one before any other."""
