"""`python -m benchmarks.drift_scored`: drift of inputs and of performance, where something changes and where not.

Champions that exist score examples, with the code of the trainer, and the detectors of the fold take the scores in
records of 64. Nothing is trained. Printed for each model and case: the largest statistic of the inputs and of the
losses beside its threshold, after how many scored examples the rule fires, and how far the losses have risen on
average, in standard deviations

    same        held-out examples of 15.1 in a random order, compared with others of them: nothing changed;
                the largest of 50 orders, and in how many of them the rule fires
    later       what was created after all that the champion has learnt, in order of creation
    release     what differs from a release to the next, in the order of the feed, and in a random order
    split       held-out examples of 15.1 again, where `defense-evasion` became two tactics, technique by technique
    templates   Nuclei templates, where the model learns from them

What comes is compared with at most 256 held-out examples, which no version is trained on: of all of 15.1, or, for
`later`, of what the champion has learnt. The last column says how many are left, and what fires, if the champion
scores one new example in so many as the policy says.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import track

from benchmarks.drift import RELEASES, after_split, events_of
from schemas.encoding import EncodedEvent
from schemas.events import Event, Relationship, Technique
from schemas.journal import Example, ExampleScore, Score, Source, held_out, key_hash
from schemas.models import MODELS, model_spec
from schemas.policy import Policy
from streams.core.prequential import Prequential, new_prequential
from streams.core.projections.base import project
from streams.fetchers.feeds import nuclei
from sx9_ml_models import render
from trainers.core.batching import in_batches
from trainers.models.scorer import Scorer, load_scorer
from trainers.runs.execute_scores import BATCH
from trainers.runs.scoring import REFERENCE
from trainers.settings import load_trainer_settings
from trainers.store.registry import Registry

SEEDS = 50
LEAST_REFERENCE = 32
"""With fewer held-out examples of what the champion has learnt there is no case `later`."""
COLUMNS = ("model", "case", "scored", "inputs", "fires after", "losses", "rise", "fires after", "one in so many")

log = logging.getLogger("benchmarks.drift_scored")


class Seen(msgspec.Struct, frozen=True):
    """An example, and when its object was created."""

    example: Example
    created_ms: int


class Scored(msgspec.Struct, frozen=True):
    """An example that the champion has scored."""

    example: Example
    score: ExampleScore

    @property
    def group(self) -> str:
        """What else is on the same side of the holdout."""
        return self.example.group or self.example.key


class Outcome(msgspec.Struct):
    """What the detectors say of a case: the largest statistics, and after how many examples each rule fires.

    `inputs` is -1 if the window was never full.
    """

    inputs: float = -1.0
    inputs_after: int = 0
    losses: float = 0.0
    losses_after: int = 0
    rise: float = 0.0


class Material(msgspec.Struct, frozen=True):
    """What comes, and at most how many held-out and other examples of it are scored."""

    releases: tuple[list[Event], ...]
    templates: list[Event]
    held: int
    limit: int


class Champion:
    """A version that scores examples, each once."""

    def __init__(self, model: str, scorer: Scorer) -> None:
        self._model = model
        self._scorer = scorer
        self._known: dict[tuple[str, str], ExampleScore | None] = {}

    def score(self, case: str, examples: Sequence[Example]) -> list[Scored]:
        """The examples that the version can be judged on, with their scores."""
        found, console = list[Scored](), Console(stderr=True)
        bar = track(
            examples, f"{self._model}, {case}", console=console, transient=True, disable=not sys.stderr.isatty()
        )
        for example in bar:
            identity = (example.key, example.hash)
            if identity not in self._known:
                self._known[identity] = self._scorer.score((0, example))
            if score := self._known[identity]:
                found.append(Scored(example, score))
        return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.drift_scored", description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder of the feeds")
    parser.add_argument("--models", type=Path, default=Path("output/models"), help="folder of the versions")
    parser.add_argument("--only", default=",".join(MODELS), help="models, separated by commas")
    parser.add_argument("--held", type=int, default=2_000, help="most held-out examples of a model")
    parser.add_argument("--limit", type=int, default=2_000, help="most examples of each other case")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # as the trainer does
    registry, material = Registry(arguments.models), _material(arguments.feeds, arguments.held, arguments.limit)
    rows: list[tuple[str, ...]] = []
    for model in arguments.only.split(","):
        version = registry.champion(model)
        if version is None:
            log.warning("%s has no champion in %s", model, arguments.models)
            continue
        scorer = load_scorer(model, registry.folder(model, version), load_trainer_settings().cache_dir)
        rows += _rows(model, Champion(model, scorer), _learnt(registry, model, version), material)
    render.rows(COLUMNS, rows)


def _material(feeds: Path, held: int, limit: int) -> Material:
    releases = tuple(events_of(feeds / "attack" / f"enterprise-attack-{release}.json") for release in RELEASES)
    outcomes = nuclei.parse_folder(feeds / "nuclei-templates")
    templates = [each.event for each in outcomes if isinstance(each, EncodedEvent)]
    return Material(releases, templates, held, limit)


def _learnt(registry: Registry, model: str, version: str) -> int:
    """How many training examples a version and its ancestors have learnt."""
    manifests = {each.version: each for each in registry.versions(model)}
    found, name = 0, version
    while name:
        found += sum(span.examples for span in manifests[name].spans)
        name = manifests[name].parent
    return found


def _rows(model: str, champion: Champion, learnt: int, material: Material) -> Iterator[tuple[str, ...]]:
    """The rows of a model."""
    policy, known = model_spec(model).policy, _seen(model, material.releases[0])
    held = champion.score("same", _few((each.example for each in known if held_out(each.example)), material.held))
    yield _row_of_same(model, policy, held)
    before, after = _cut(known, learnt)
    reference = _reference([each for each in held if each.example.key in before])
    if len(reference) >= LEAST_REFERENCE:
        latest = champion.score("later", _few(after, material.limit))
        yield _row(model, "later", policy, reference, latest)
    reference = _reference(held)
    for case, examples in _releases(model, material.releases):
        latest = champion.score(case, _few(examples, material.limit))
        yield _row(model, case, policy, reference, latest)
        yield _row(model, "the same, random order", policy, reference, _shuffled(latest, 0))
    others = {each.example.key for each in held} - {each.example.key for each in reference}
    split = (each.example for each in _seen(model, map(with_split_tactic, material.releases[0])))
    latest = champion.score("split", _few((each for each in split if each.key in others), material.limit))
    yield _row(model, "split", policy, reference, _shuffled(latest, 0))
    if templates := _few((each.example for each in _seen(model, material.templates)), material.limit):
        yield _row(model, "templates", policy, reference, champion.score("templates", templates))


def _seen(model: str, events: Iterable[Event]) -> list[Seen]:
    """What a model can learn from events, without retractions."""
    source = Source("threat.test.v1", 0, 0)
    found = ((project(model, event, source), event.created_ms) for event in events)
    return [Seen(example, created_ms) for example, created_ms in found if example and not example.retracted]


def _cut(known: Sequence[Seen], learnt: int) -> tuple[set[str], list[Example]]:
    """The keys that came until so many training examples had come, and the examples that came after."""
    before, after = set[str](), list[Example]()
    for each in sorted(known, key=lambda each: each.created_ms):
        if learnt > 0:
            before.add(each.example.key)
            learnt -= not held_out(each.example)
        else:
            after.append(each.example)
    return before, after


def _releases(model: str, releases: Sequence[Iterable[Event]]) -> Iterator[tuple[str, list[Example]]]:
    """What each release after the first has new, or otherwise than the one before, in the order of the feed."""
    seen = [[each.example for each in _seen(model, events)] for events in releases]
    for names, (old, new) in zip(pairwise(RELEASES), pairwise(seen), strict=True):
        published = {each.key: each.hash for each in old}
        yield " to ".join(names), [each for each in new if published.get(each.key) != each.hash]


def _few(examples: Iterable[Example], most: int) -> list[Example]:
    """Those with the least hashes of their keys, in the same order."""
    found = list(examples)
    least = {each.key for each in sorted(found, key=lambda each: key_hash(each.key))[:most]}
    return [each for each in found if each.key in least]


def _reference(held: Sequence[Scored]) -> list[Scored]:
    """Those with the least hashes of their keys, as the trainer chooses them; at most half of them."""
    return sorted(held, key=lambda each: key_hash(each.example.key))[: _size(held)]


def _size(held: Sequence[Scored]) -> int:
    return min(REFERENCE, len(held) // 2)


def _shuffled(latest: Sequence[Scored], seed: int) -> list[Scored]:
    return random.Random(seed).sample(latest, len(latest))


def with_split_tactic(event: Event) -> Event:
    """The event after a release in which the tactic was split by technique."""
    if isinstance(event, Technique):
        return msgspec.structs.replace(event, tactics=after_split(event.id, event.tactics))
    if isinstance(event, Relationship):
        target = msgspec.structs.replace(event.target, tactics=after_split(event.target.id, event.target.tactics))
        return msgspec.structs.replace(event, target=target)
    return event


def _row_of_same(model: str, policy: Policy, held: Sequence[Scored]) -> tuple[str, ...]:
    """The largest of all seeds. What comes is of other groups than what it is compared with."""
    outcomes, sampled, count = list[Outcome](), list[Outcome](), 0
    for seed in range(SEEDS):
        groups = sorted({each.group for each in held})
        random.Random(seed).shuffle(groups)
        place = {group: number for number, group in enumerate(groups)}
        ordered = sorted(held, key=lambda each: place[each.group])
        reference = ordered[: _size(held)]
        taken = {each.group for each in reference}
        latest = _shuffled([each for each in ordered if each.group not in taken], seed)
        outcomes.append(outcome_of(policy, reference, latest))
        sampled.append(outcome_of(policy, reference, _sampled(policy, latest)))
        count += len(latest)
    return (
        model,
        "same",
        f"{count} in {SEEDS}",
        _inputs(policy, max(each.inputs for each in outcomes)),
        f"{sum(each.inputs_after > 0 for each in outcomes)} of {SEEDS}",
        f"{max(each.losses for each in outcomes):.1f} / {policy.performance_drift_threshold:g}",
        f"{max(each.rise for each in outcomes):.2f}",
        f"{sum(each.losses_after > 0 for each in outcomes)} of {SEEDS}",
        f"{sum(each.inputs_after + each.losses_after > 0 for each in sampled)} of {SEEDS}",
    )


def _row(
    model: str, case: str, policy: Policy, reference: Sequence[Scored], latest: Sequence[Scored]
) -> tuple[str, ...]:
    outcome, sample = outcome_of(policy, reference, latest), _sampled(policy, latest)
    sampled = outcome_of(policy, reference, sample)
    fired = {"inputs": sampled.inputs_after, "losses": sampled.losses_after}
    return (
        model,
        case,
        str(len(latest)),
        _inputs(policy, outcome.inputs),
        str(outcome.inputs_after or "-"),
        f"{outcome.losses:.1f} / {policy.performance_drift_threshold:g}",
        f"{outcome.rise:.2f}",
        str(outcome.losses_after or "-"),
        f"{len(sample)}: " + (", ".join(f"{name} after {after}" for name, after in fired.items() if after) or "-"),
    )


def _inputs(policy: Policy, statistic: float) -> str:
    return f"{statistic:.3f} / {policy.input_drift_threshold:g}" if statistic >= 0 else "too few"


def _sampled(policy: Policy, latest: Sequence[Scored]) -> list[Scored]:
    """Those that the trainer would score, as `trainers.store.unscored.to_score` chooses them."""
    return [each for each in latest if key_hash(each.example.key) // 1_000 % policy.score_every == 0]


def outcome_of(policy: Policy, reference: Sequence[Scored], latest: Sequence[Scored]) -> Outcome:
    """Let the detectors take the reference, and then what comes."""
    state, outcome, done = new_prequential(policy), Outcome(), 0
    state.take(_record(reference, 0, is_reference=True), policy)
    for batch in in_batches(latest, BATCH):
        state.take(_record(batch, done), policy)
        done += len(batch)
        _note(outcome, state, policy, done)
    outcome.rise = state.performance.total / max(state.performance.count, 1)
    return outcome


def _note(outcome: Outcome, state: Prequential, policy: Policy, done: int) -> None:
    if state.inputs.support >= state.inputs.size:
        outcome.inputs = max(outcome.inputs, state.input_drift)
    outcome.losses = max(outcome.losses, state.performance_drift)
    if state.inputs_over >= policy.input_drift_in_a_row and not outcome.inputs_after:
        outcome.inputs_after = done
    if state.performance_over >= policy.performance_drift_in_a_row and not outcome.losses_after:
        outcome.losses_after = done


def _record(scored: Sequence[Scored], start: int, *, is_reference: bool = False) -> Score:
    each = tuple(msgspec.structs.replace(one.score, offset=start + n) for n, one in enumerate(scored))
    return Score(trigger="", version="", examples=len(each), each=each, reference=is_reference)


if __name__ == "__main__":
    main()
