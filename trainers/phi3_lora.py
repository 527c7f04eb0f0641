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
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AttentionInterface, AutoTokenizer, Phi3ForCausalLM, PreTrainedTokenizerFast
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from schemas.errors import BadConfiguration
from schemas.journal import Example, Instruction
from schemas.models import Manifest
from trainers.base_models import quiet_transformers
from trainers.core.answers import Told, answer_loss, answer_scores, mitigation_of, named_first, told
from trainers.core.config import Phi3LoraConfig
from trainers.core.dataset import Dataset, Placed
from trainers.core.evaluate import Scores
from trainers.core.loop import device_of, fit, make_deterministic
from trainers.core.packing import Piece, Row, pack, packed_attention, visible
from trainers.core.report import Report
from trainers.watch import Step, Watch

Config = Phi3LoraConfig
BASE_KIND = "phi3"
CONTEXT = False

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""Every matrix of a Phi-3's layers."""
ADAPTER, SAMPLES = "adapter_model.safetensors", "samples.md"
PACKED = "sx9_packed"
"""The name of `packed_attention` in `transformers`."""
CHARS_PER_TOKEN = 20
"""Texts are cut to `max_tokens` times as many characters before they are tokenised, which 100,000 would take seconds."""
SORTED_BATCHES = 8
"""So many batches are cut from one sorted piece of the shuffled examples: rows of even length, still random order."""
SCORING_BATCH = 8
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
    watch: Watch,
    *,
    checkpoints: Path | None = None,
) -> Report:
    """Train one version.

    Args:
        data: At least one example to train on.
        labels: The tactics that there are; beside those of the examples, an answer may name them.
        base: Folder of the base model.
        parent: Folder of the version to start from, or None. It is not changed.
        config: See `Phi3LoraConfig`.
        folder: Where the version is written; exists and is empty.
        watch: Called after every step; what it raises ends the run.
        checkpoints: Where a killed run goes on from.

    Raises:
        ArithmeticError: The loss is not a finite number any more.
        BadConfiguration: The parent is an adapter of another base.
    """
    make_deterministic(config)

    # 1 load
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = _load(base, parent, config)

    # 2 ask
    chat = _Chat(tokenizer, config)
    train = chat.pieces(_instructions(_mixture(data, config)))
    half = config.eval_examples // 2
    old, recent = (_sampled(_instructions(placed), half) for placed in (data.old, data.recent))
    fresh = chat.pieces(_sampled(_instructions(data.fresh), half)) if parent else []
    holdout = _Holdout(chat.pieces(old), chat.pieces(recent))

    # 3 score
    champion: dict[str, Scores] = {}
    if parent:
        champion = {"prequential": answer_scores(_told(model, fresh, config, "scoring the champion", watch))}
        champion |= holdout.scores(_told(model, holdout.all, config, "scoring the champion", watch))
    with model.disable_adapter():
        untuned = holdout.scores(_told(model, holdout.all, config, "scoring the base", watch))

    # 4 fit
    history = fit(
        _Answering(model, config),
        _plan(train, config),
        lambda answering, indices: answering(pack([train[i] for i in indices], device_of(config))),
        [{"params": [p for p in model.parameters() if p.requires_grad], "lr": config.learning_rate}],
        config,
        watch,
        weight=lambda indices: sum(len(train[i].answer) for i in indices),
        checkpoints=checkpoints,
        identity=_identity(config),
        evaluate=lambda: answer_scores(_told(model, holdout.all, config, "", None)).figures,
    )

    # 5 evaluate
    candidate = holdout.scores(_told(model, holdout.all, config, "scoring the candidate", watch))
    quizzes = _quizzes(data, labels, config)
    before, after = _own_answers(model, chat, quizzes, config, watch)
    candidate["holdout"] = _with_shares(candidate["holdout"], quizzes, after)
    untuned["holdout"] = _with_shares(untuned["holdout"], quizzes, before)

    # 6 save
    _save(model, tokenizer, config, folder)
    samples = _samples(quizzes, before, after)
    (folder / SAMPLES).write_text(_samples_page(samples), encoding="utf-8")
    return Report(
        labels=tuple(labels),
        candidate=candidate,
        champion=champion,
        floor={"holdout": untuned["holdout"]},
        baselines={"untuned base": {"holdout": untuned["holdout"]}},
        history=history,
        details={"samples": samples, "precision": _precision(config), "train_tokens": sum(map(_size, train))},
    )
