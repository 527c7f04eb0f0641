"""Answers about the techniques that are new in ATT&CK 17.1, by adapters trained on 15.1, against the untuned base.

Every instruction is about one technique, and has what the release says of it as its context. No instruction about a
technique of the test set is trained on. The settings are those of the environment (`SX9_TRAINER_PHI3_LORA_*`), but
answers have up to 384 tokens, and all are scored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import Progress

from benchmarks.rows import Row, Setup
from schemas.encoding import EncodedEvent
from schemas.events import Relationship, Technique
from schemas.journal import Example, Source
from schemas.models import model_spec
from schemas.recipes.phi3_lora import Phi3LoraConfig
from schemas.scores import ANSWERS, HOLDOUT
from streams.core.projections.base import project
from streams.fetchers.base.runner import parse_events
from streams.settings import load_settings
from trainers.bases.resolve import resolve
from trainers.core.dataset import Dataset, OffsetExample, split
from trainers.core.progress import RunProgress
from trainers.core.report import Report
from trainers.settings import load_machine_fields, load_trainer_settings

MODEL = "phi3-mitre-lora"
BAR = 0.6
OVERRIDES = {"max_tokens": 384, "eval_examples": 100_000, "sample_answers": 40, "eval_steps": 10**6}


def run(setup: Setup, progress: Progress) -> list[Row]:
    """Train one adapter per seed."""
    known, test = material(setup)
    examples = model_spec(MODEL).policy.run_examples
    return _rows([trained(known, test, examples, seed, progress, OVERRIDES) for seed in setup.seeds])


def material(setup: Setup) -> tuple[list[Example], tuple[OffsetExample, ...]]:
    """The examples of 15.1, and those of the techniques that 17.1 has and 15.1 has not.

    Raises:
        Skipped: The feeds are not there.
    """
    old, new = (setup.feed(f"attack/enterprise-attack-{release}.json") for release in ("15.1", "17.1"))
    known = _examples(old)
    groups = {example.group for example in known}
    return known, tuple(enumerate((e for e in _examples(new) if e.group not in groups), len(known)))


def _examples(bundle: Path) -> list[Example]:
    """The examples of the model in a release."""
    outcomes = parse_events("attack-enterprise", str(bundle), load_settings())
    projected = [
        project(MODEL, outcome.event, Source("benchmark", 0, offset))
        for offset, outcome in enumerate(outcomes)
        if isinstance(outcome, EncodedEvent) and isinstance(outcome.event, Technique | Relationship)
    ]
    return [example for example in projected if example and not example.retracted]


def trained(
    known: list[Example],
    test: tuple[OffsetExample, ...],
    examples: int,
    seed: int,
    progress: Progress,
    overrides: Mapping[str, Any],
) -> Report:
    """Train a first version.

    Args:
        known: What may be trained on, and what contexts are made of.
        test: What is evaluated on.
        examples: How many examples to train on.
        seed: Of the sample and of the training.
        progress: Shows the steps.
        overrides: Values of the recipe's configuration.
    """
    from trainers.models.phi3_lora import recipe as phi3_lora

    config: Any = msgspec.structs.replace(Phi3LoraConfig(**load_machine_fields(MODEL)), seed=seed, **overrides)
    base = resolve(config.base, load_trainer_settings().cache_dir, phi3_lora.BASE_ARCHITECTURE)
    parts = split(known, examples, seed)
    data = Dataset(fresh=parts.fresh, recent=test, context=parts.context)
    labels = tuple(sorted({label for example in known for label in example.labels}))
    task = progress.add_task(f"phi3, seed {seed}")

    def on_progress(step: RunProgress) -> None:
        progress.update(task, description=f"phi3, seed {seed}: {step.phase}", completed=step.step, total=step.steps)

    with tempfile.TemporaryDirectory() as folder:
        return phi3_lora.run(data, labels, base.folder, None, config, Path(folder), on_progress)


def _rows(reports: list[Report]) -> list[Row]:
    ours = [report.candidate[ANSWERS][HOLDOUT] for report in reports]
    base = reports[0].trivial_baseline[ANSWERS][HOLDOUT]
    perplexities = ", ".join(f"{scores.extra['perplexity']:.2f}" for scores in ours)
    ratios = [scores.extra["perplexity"] / base.extra["perplexity"] for scores in ours]
    title = f"techniques new in 17.1, {base.examples} answers"
    rows = [
        Row(
            task=title,
            metric="perplexity, relative to the base model",
            initial_baseline=1.0,
            bar=BAR,
            at_most=True,
            baseline=1.0,
            baseline_name=f"untuned base ({base.extra['perplexity']:.1f})",
            ours=ratios,
            note=f"perplexities {perplexities}",
            details={"samples": [report.details["samples"] for report in reports]},
        )
    ]
    for name, words in (
        ("tactic_named", "names a correct tactic"),
        ("mitigation_named", "names a listed mitigation"),
    ):
        rows.append(
            Row(
                task=title,
                metric=f"generated answer {words}",
                bar=base.extra[name],
                baseline=base.extra[name],
                baseline_name="untuned base",
                ours=[scores.extra[name] for scores in ours],
            )
        )
    return rows
