"""The recipe of `phi3-mitre-lora`: a Phi-3 that explains a technique, how to detect it and how to mitigate it.

    1 load      the base model, frozen, with a new adapter or the parent's
    2 encode    instructions, with what was known of their techniques, in the chat template of the base; questions
                and answers of at most `max_tokens` tokens, contexts of at most `context_chars` characters
    3 score     the base model on the holdout; the parent on the new examples and on the holdout
    4 fit       batches of similar length, each packed into one row; only answer tokens count in the loss
    5 evaluate  the candidate on the holdout; base model and candidate generate answers to some questions, which are
                checked against what they were given
    6 save      adapter_model.safetensors, adapter_config.json, generation_config.json, tokenizer and chat template,
                samples.md

Either all examples of a technique are in the holdout or none: a version is evaluated on techniques that it was not
trained on. Only the adapter is saved. It refers to its base model by the `base` of the configuration (of a folder,
the last part of its path). A child continues to train its parent's adapter with the same rank, alpha and layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from schemas.recipes.phi3_lora import Phi3LoraConfig
from schemas.scores import ANSWERS, HOLDOUT, PREQUENTIAL, TaskScores
from trainers.bases.quiet import loading_transformers
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.history import History
from trainers.core.holdout import Holdout
from trainers.core.loop import Checkpointer, device_of
from trainers.core.phases import NOT_MEASURED, Phases
from trainers.core.progress import ProgressCallback
from trainers.core.report import Report
from trainers.models.deterministic import make_deterministic
from trainers.models.phi3_lora.adapter import load_model, precision_of
from trainers.models.phi3_lora.answer_loss import answer_scores
from trainers.models.phi3_lora.card import introduction
from trainers.models.phi3_lora.chat import Chat, max_question_tokens
from trainers.models.phi3_lora.contexts import with_contexts
from trainers.models.phi3_lora.generation import generate
from trainers.models.phi3_lora.generation_evaluation import (
    GenerationCase,
    answer_shares,
    make_cases,
    sample_records,
)
from trainers.models.phi3_lora.packing import PromptAnswer
from trainers.models.phi3_lora.sampling import (
    instructions_of,
    sample_holdout,
    sample_instructions,
    sample_rehearsal,
)
from trainers.models.phi3_lora.saving import save_version
from trainers.models.phi3_lora.scorer import EncodedHoldout, LanguageModelScorer
from trainers.models.phi3_lora.training import train_adapter

__all__ = ["BASE_ARCHITECTURE", "NEEDS_GRAPH_CONTEXT", "PIPELINE", "evaluate", "introduction", "run"]

BASE_ARCHITECTURE = "phi3"
NEEDS_GRAPH_CONTEXT = True
PIPELINE = "text-generation"

SHOWN_SAMPLES = 10
"""Generated answers in `samples.md`, at most."""


def run(
    data: Dataset,
    labels: Sequence[str],
    base: Path,
    parent: Path | None,
    config: Phi3LoraConfig,
    folder: Path,
    on_progress: ProgressCallback,
    *,
    checkpointer: Checkpointer | None = None,
    phases: Phases = NOT_MEASURED,
) -> Report:
    """Train one version.

    Args:
        data: The examples to train on and to evaluate on.
        labels: Tactics that answers may name, in addition to those of the examples.
        base: Folder of the base model.
        parent: Folder of the version to start from, or None; it is not changed.
        config: The configuration of the run.
        folder: Where the version is written; exists and is empty.
        on_progress: Called after every step; what it raises ends the run.
        checkpointer: Loads and saves the checkpoint of a killed run; None for none.
        phases: Measures how long each phase takes.

    Raises:
        ArithmeticError: The loss is no longer a finite number.
        BadConfiguration: The parent is an adapter of another base model.
    """
    make_deterministic(config)
    device = device_of(config)

    # 1 load
    with loading_transformers():
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = load_model(base, parent, config, device)
    scorer = LanguageModelScorer(model, device, precision_of(config, device))

    # 2 encode
    chat = Chat(tokenizer, config.max_tokens, max_question_tokens(config.max_tokens, config.context_chars))
    given, data = data, with_contexts(data, config.context_chars)
    rehearsed = sample_rehearsal(data, config)
    train = chat.encode(instructions_of(data.fresh + rehearsed))
    holdout = EncodedHoldout(*map(chat.encode, sample_holdout(data, config.eval_examples)))

    phases.start("score parent")  # 3 score
    champion = _score_champion(scorer, chat, data, holdout, config, on_progress) if parent else {}
    phases.start("evaluate")
    with model.disable_adapter():
        untuned = holdout.scores(scorer, "scoring the base", on_progress)

    phases.start("fit")  # 4 fit
    history, candidate = _fit(scorer, train, holdout, config, on_progress, checkpointer, phases)

    phases.start("evaluate")  # 5 evaluate
    cases = _generation_cases(data, given, labels, config)
    after = _generate(scorer, chat, cases, config, "generating answers", on_progress)
    with model.disable_adapter():
        before = _generate(scorer, chat, cases, config, "generating answers of the base", on_progress)
    candidate[HOLDOUT].extra.update(answer_shares(cases, after))
    untuned[HOLDOUT].extra.update(answer_shares(cases, before))
    samples = sample_records(cases, before, after, SHOWN_SAMPLES)

    phases.start("write")  # 6 save
    save_version(model, chat, samples, config, folder)
    details = {"samples": samples, "precision": precision_of(config, device)} | _trained(train, rehearsed)
    return _report(labels, candidate, champion, untuned, history, details)


def evaluate(
    holdout: Holdout,
    parts: Sequence[Sequence[int]],
    version: Path,
    base: Path,
    config: Phi3LoraConfig,
    on_progress: ProgressCallback,
) -> list[dict[str, TaskScores]]:
    """Score a version on parts of a holdout; see `trainers.models.recipe.Recipe.evaluate`.

    What was known of a technique is part of the question, so all versions get the contexts of `holdout.current`.
    """
    make_deterministic(config)
    device = device_of(config)
    with loading_transformers():
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = load_model(base, version, config, device)
    scorer = LanguageModelScorer(model, device, precision_of(config, device))
    chat = Chat(tokenizer, config.max_tokens, max_question_tokens(config.max_tokens, config.context_chars))
    asked = with_contexts(Dataset(recent=holdout.examples, context=holdout.current), config.context_chars).recent
    encoded = chat.encode(instructions_of(asked))
    answers = iter(scorer.log_likelihoods(encoded, "scoring the holdout", on_progress))
    of_example = [[next(answers) for _ in example.instructions] for _, example in asked]
    return [
        {ANSWERS: answer_scores([one for i in part for one in of_example[i]], scorer.vocabulary_size)}
        for part in parts
    ]


def _trained(train: Sequence[PromptAnswer], rehearsed: Sequence[OffsetExample]) -> dict[str, Any]:
    """What was trained on, for the report."""
    return {
        "rehearsed": [offset for offset, _ in rehearsed],
        "instructions": len(train),
        "answer_tokens": sum(len(example.answer) for example in train),
    }


def _report(
    labels: Sequence[str],
    candidate: dict[str, TaskScores],
    champion: dict[str, TaskScores],
    untuned: dict[str, TaskScores],
    history: History,
    details: dict[str, Any],
) -> Report:
    return Report(
        labels=tuple(labels),
        candidate={ANSWERS: candidate},
        champion={ANSWERS: champion} if champion else {},
        trivial_baseline={ANSWERS: untuned},
        baselines={"untuned base": {ANSWERS: untuned}},
        history=history,
        details=details,
    )


def _score_champion(
    scorer: LanguageModelScorer,
    chat: Chat,
    data: Dataset,
    holdout: EncodedHoldout,
    config: Phi3LoraConfig,
    on_progress: ProgressCallback,
) -> dict[str, TaskScores]:
    """The parent's scores on a sample of the new examples and on the holdout, split by split."""
    phase = "scoring the champion"
    fresh = chat.encode(sample_instructions(data.fresh, max(1, config.eval_examples // 4)))
    prequential = scorer.scores(fresh, phase, on_progress)
    return {PREQUENTIAL: prequential, **holdout.scores(scorer, phase, on_progress)}


def _fit(
    scorer: LanguageModelScorer,
    train: Sequence[PromptAnswer],
    holdout: EncodedHoldout,
    config: Phi3LoraConfig,
    on_progress: ProgressCallback,
    checkpointer: Checkpointer | None,
    phases: Phases,
) -> tuple[History, dict[str, TaskScores]]:
    """Train the adapter in place.

    Returns:
        The history, and the scores of the trained candidate on the holdout, split by split.
    """
    evaluations: list[dict[str, TaskScores]] = []

    def evaluate() -> Mapping[str, TaskScores]:
        with phases.within("evaluate"):
            evaluations.append(holdout.scores(scorer, "scoring the candidate", on_progress))
        return {ANSWERS: evaluations[-1][HOLDOUT]}

    history = train_adapter(scorer, train, config, on_progress, checkpointer, evaluate)
    if not evaluations:  # nothing to train on, or resumed after the last step
        evaluate()
    return history, evaluations[-1]


def _generation_cases(
    data: Dataset, given: Dataset, labels: Sequence[str], config: Phi3LoraConfig
) -> list[GenerationCase]:
    """Questions of the holdout; what is right is what the journal says, whatever their contexts have of it."""
    holdout = [example for _, example in data.old + data.recent]
    known = [example for _, example in (*given.context, *given.train, *given.old, *given.recent)]
    return make_cases(holdout, known, labels, config.sample_answers)


def _generate(
    scorer: LanguageModelScorer,
    chat: Chat,
    cases: Sequence[GenerationCase],
    config: Phi3LoraConfig,
    phase: str,
    on_progress: ProgressCallback,
) -> list[str]:
    precision = precision_of(config, device_of(config))
    instructions = [case.instruction for case in cases]
    return generate(scorer.model, chat, instructions, config.answer_tokens, precision, phase, on_progress)
