"""`python -m benchmarks.drift`: what the drift rule measures where labels really change, and where they do not.

Nothing is trained. The examples are those of the releases of ATT&CK, folded with the policy of each model; a
promotion answers each trigger. Printed for each model: the largest distance of the labels

    same      latest examples drawn from those of 15.1 in a random order, so nothing changed: 10 seeds, 10,000 each
    year      what was new in a year, in order of creation, after all that is older; the median and the largest year
    release   what differs from a release to the next, after a champion has learnt the one before
    split     15.1 again, where `defense-evasion` became two tactics, technique by technique

and its threshold.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from schemas.encoding import EncodedEvent
from schemas.events import Event
from schemas.journal import Example, PolicyChange, Promoted, Source, Tick, held_out, key_hash
from schemas.models import MODELS, model_spec
from schemas.policy import Policy
from schemas.windows import Trigger
from streams.core.detectors.label_drift import LabelDrift
from streams.core.detectors.label_window import LabelWindow
from streams.core.fold import State, initial, step
from streams.core.label_counts import add_labels
from streams.core.projections.base import project
from streams.fetchers.feeds import attack
from sx9_ml_models import render

RELEASES = ("15.1", "16.1", "17.1")
SEEDS, DRAWN = 10, 10_000
DAY_MS = 86_400_000
SPLIT = "defense-evasion"
PARTS = ("stealth", "defense-impairment")

Labels = tuple[str, ...]


class Learnt(msgspec.Struct, frozen=True):
    """An example of a release, and the year in which its object was created."""

    example: Example
    year: int


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.drift", description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder of the feeds")
    folder = parser.parse_args().feeds / "attack"
    events = [events_of(folder / f"enterprise-attack-{release}.json") for release in RELEASES]
    rows = []
    for model in MODELS:
        releases = [[found for event in release if (found := _learnt(model, event))] for release in events]
        rows.append((model, f"{model_spec(model).policy.drift_threshold:g}", *_measured(model, releases)))
    render.rows(("model", "threshold", "same", "year, median", "year, largest", "release", "split"), rows)


def _measured(model: str, releases: Sequence[Sequence[Learnt]]) -> tuple[str, ...]:
    policy = model_spec(model).policy
    labels = [each.example.labels for each in releases[0] if _trains(each.example)]
    years = _by_year(policy, releases[0])
    return (
        f"{_same(policy, labels):.3f}",
        f"{statistics.median(years):.3f}",
        f"{max(years):.3f}",
        _by_release(model, policy, releases),
        f"{_distance(policy, labels, [_split(each.example) for each in releases[0] if _trains(each.example)]):.3f}",
    )


def events_of(bundle: Path) -> list[Event]:
    """The events of a release of ATT&CK, in the order of the feed."""
    outcomes = attack.parse(bundle.read_bytes(), "enterprise-attack", bundle.name).outcomes
    return [each.event for each in outcomes if isinstance(each, EncodedEvent)]


def _learnt(model: str, event: Event) -> Learnt | None:
    found = project(model, event, Source("threat.test.v1", 0, 0))
    return Learnt(found, time.gmtime(event.created_ms / 1000).tm_year) if found else None


def _trains(example: Example) -> bool:
    return not example.retracted and not held_out(example) and bool(example.labels)


def _same(policy: Policy, labels: Sequence[Labels]) -> float:
    largest = 0.0
    for seed in range(SEEDS):
        drawn = random.Random(seed).choices(labels, k=DRAWN)
        largest = max(largest, _distance(policy, labels, drawn))
    return largest


def _by_year(policy: Policy, learnt: Sequence[Learnt]) -> list[float]:
    """The largest distance of each year with enough examples from all that is older."""
    kept = [each for each in learnt if _trains(each.example)]
    found = []
    for year in sorted({each.year for each in kept}):
        before = [each.example.labels for each in kept if each.year < year]
        now = [each.example.labels for each in kept if each.year == year]
        if min(len(before), len(now)) >= policy.drift_min_support:
            found.append(_distance(policy, before, now))
    return found


def _distance(policy: Policy, champion: Iterable[Labels], latest: Iterable[Labels]) -> float:
    """The largest measurement while the latest labels come, with enough of them."""
    reference: dict[str, int] = {}
    for labels in champion:
        add_labels(reference, labels, 1)
    detector, largest = LabelDrift(LabelWindow(policy.drift_window), reference), 0.0
    for number, labels in enumerate(latest, 1):
        detector.update(labels)
        if number % policy.drift_every == 0 and number >= policy.drift_min_support:
            largest = max(largest, detector.statistic)
    return largest


def _by_release(model: str, policy: Policy, releases: Sequence[Sequence[Learnt]]) -> str:
    """The largest measurement of the fold in each release after the first, with the number of examples."""
    state, _ = step(initial(model), 0, PolicyChange(policy))
    published: dict[str, str] = {}
    sent = 0
    found = []
    for number, release in enumerate(releases, 1):
        changed = [each.example for each in release if published.get(each.example.key) != each.example.hash]
        published.update({each.key: each.hash for each in changed})
        state = _tick(state, number * 100 * DAY_MS)
        largest = 0.0
        for example in changed:
            placed = msgspec.structs.replace(example, source=Source("threat.test.v1", 0, sent))
            sent += 1
            state = _step(state, placed)
            if min(state.label_drift.support, state.pending_examples) >= policy.drift_min_support:
                largest = max(largest, state.drift)
        state = _tick(state, number * 100 * DAY_MS + 40 * DAY_MS)
        if number > 1:
            found.append(f"{largest:.3f} ({len(changed)})")
    return ", ".join(found)


def _tick(state: State, time_ms: int) -> State:
    return _step(state, Tick(1_600_000_000_000 + time_ms))


def _step(state: State, record: Example | Tick) -> State:
    """Fold a record, and promote what it leads to."""
    state, outputs = step(state, state.next_offset, record)
    while waiting := next((each for each in outputs if isinstance(each, Trigger)), None):
        answer = Promoted(trigger=waiting.id, version=waiting.version, time_ms=0)
        state, outputs = step(state, state.next_offset, answer)
    return state


def _split(example: Example) -> Labels:
    return after_split(example.group or example.key, example.labels)


def after_split(technique: str, tactics: Sequence[str]) -> Labels:
    """The tactics of a technique after a release in which `SPLIT` became `PARTS`, technique by technique."""
    part = PARTS[key_hash(technique) % 2]
    return tuple(sorted(part if tactic == SPLIT else tactic for tactic in tactics))


if __name__ == "__main__":
    main()
