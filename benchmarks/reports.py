"""What reports teach: `distilbert-mitre` with and without them, on reports that it has not seen.

    python -m benchmarks.reports            see --help

All sides are tested on the sentences of AnnoCTR's 16 dev reports, and on procedure sentences that are new in ATT&CK
17.1, where reports must not cost over half a point.

    without     learns ATT&CK 15.1
    with        learns ATT&CK 15.1 and the sentences of AnnoCTR's 70 training reports at once
    child       starts from `without`, and learns these sentences and a sample of ATT&CK, as versions of the stream
                do; its weights are averaged with its parent's

A value is the median over the seeds. A linear model is beside them. Writes reports.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.progress import Progress

from benchmarks.report import processor
from benchmarks.rows import Result, Row, Setup, show
from benchmarks.tasks.material import (
    FeedExample,
    base,
    evaluate,
    examples_of,
    linear,
    temporary_folder,
    train,
    unseen,
)
from benchmarks.tasks.tactics import CONFIG
from schemas.encoding import EncodedEvent
from schemas.events import Report, Technique
from schemas.journal import held_out, key_hash
from schemas.scores import TaskScores
from streams.fetchers.base.feed import FeedState, Outcome, no_progress
from streams.fetchers.base.labels import in_current_words, known_technique
from streams.fetchers.feeds import attack
from streams.fetchers.feeds.reports import ANNOCTR_FEED
from trainers.core.dataset import example_fingerprint, split

DEV = frozenset(
    f"annoctr:{name}"
    for name in (
        "intel471_2021-04-19_china-cybercrime-big-data-privacy",
        "intel471_2021-04-26_financial-cybercrime-2021-jackpotting-atm",
        "intel471_2021-05-10_darkside-ransomware-colonial-pipeline-attack",
        "intel471_2021-05-14_darkside-ransomware-shut-down-revil",
        "lab52_2020-05-14_the-energy-reserves-in-the",
        "lab52_2020-06-02_mustang-panda-recent-activity-dll",
        "lab52_2020-06-09_recent-fk-undead-rootkit-samples",
        "proofpoint_2021-09-29_ta544-targets-italian-organizations-ursnif",
        "proofpoint_2021-10-19_whatta-ta-ta505-ramps-activity",
        "proofpoint_2021-10-20_ta551-uses-sliver-red-team",
        "proofpoint_2021-10-27_new-threat-actor-spoofs-philippine",
        "quoteintelligence_2021-01-27_supply-chain-attacks-cybersecurity-regulations",
        "zscaler_2021-05-21_threat-actors-distribute-malicious-vpn",
        "zscaler_2021-07-04_coverage-advisory-kaseya-vsa-supply",
        "zscaler_2021-07-12_threatlabz-june-2021-report-deconstructing",
        "zscaler_2021-07-14_targeted-attack-government-organizations-delivers",
    )
)
"""The documents of AnnoCTR's dev part, as its repository divides them."""
GAIN, LOSS = 0.15, 0.005
"""The bars: what reports must bring on the dev reports, and what they may cost elsewhere, micro F1."""
SIDES = ("without", "with", "child")
REHEARSED = 5_000
"""Examples of ATT&CK that a child learns again."""
PARENT_SHARE = 0.35
"""`DistilbertConfig.parent_share` of a child."""


class Material(NamedTuple):
    """What both sides learn, what one of them learns, too, and the two test sets."""

    attack: list[FeedExample]
    reports: list[FeedExample]
    dev: list[FeedExample]
    new: list[FeedExample]


def main() -> None:
    """Run the benchmark."""
    arguments = _parse()
    seeds = tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds))
    setup = Setup(feeds=arguments.feeds, output=arguments.output, seeds=seeds, threads=arguments.threads)
    console = Console(width=None if sys.stdout.isatty() else 130)
    material = read(setup, arguments.examples)
    found: dict[str, list[dict[str, TaskScores]]] = {side: [] for side in SIDES}
    with Progress(console=console, transient=True, disable=not sys.stdout.isatty()) as progress:
        for seed in seeds:
            with temporary_folder(setup) as temporary:
                for side in arguments.sides:
                    started_s = time.process_time()
                    found[side].append(_trained(setup, progress, seed, side, material, Path(temporary)))
                    scores = {name: each.metrics["micro_f1"] for name, each in found[side][-1].items()}
                    shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
                    console.print(
                        f"seed {seed}, {side}: {shown}; {time.process_time() - started_s:.0f} s of processor time"
                    )
    result = Result(machine=processor(), seeds=list(seeds), rows=_rows(material, found))
    show(result, console)
    setup.output.mkdir(parents=True, exist_ok=True)
    written = setup.output / "reports.json"
    written.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    console.print(f"written: {written}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.reports", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--feeds", type=Path, default=Path("../shared/feeds"), help="folder of the feeds: attack/ and annoctr/")
    add("--seeds", type=int, default=3, help="number of seeds; the reported values are medians over them")
    add("--first-seed", type=int, default=17, help="first seed; the others follow it")
    add("--threads", type=int, default=2, help="threads of torch")
    add(
        "--sides", nargs="+", choices=SIDES, default=SIDES, help="sides; the first is `without`, which others are "
        "compared with",
    )  # fmt: skip
    add("--examples", type=int, default=100_000, help="examples of ATT&CK, at most; fewer for a quick look")
    add("--output", type=Path, default=Path("output/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.examples < 100:
        parser.error("--seeds must be at least 1, --examples at least 100")
    if arguments.sides[0] != SIDES[0]:
        parser.error(f"--sides must begin with {SIDES[0]}")
    return arguments


def read(setup: Setup, most: int) -> Material:
    """The examples of ATT&CK, the first `most` by the hashes of their keys, and of reports."""
    before, after = (_release(setup, number) for number in ("15.1", "17.1"))
    learnt = sorted(examples_of(before), key=lambda one: key_hash(one.example.key))[:most]
    techniques = {each.id: known_technique(each) for each in _events(before) if isinstance(each, Technique)}
    batch = ANNOCTR_FEED.read(str(setup.feed("annoctr")), FeedState(), setup.cache, no_progress)
    training, dev = divided(in_current_words(batch.outcomes or (), techniques))
    procedures = [one for one in examples_of(after) if one.example.key.startswith("relationship:")]
    return Material(
        learnt, examples_of(training), unseen(examples_of(dev), examples_of(training)),
        unseen(procedures, examples_of(before)),
    )  # fmt: skip


def divided(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """The passages of reports to learn from, and those of the dev reports."""
    training: list[Outcome] = []
    dev: list[Outcome] = []
    for each in outcomes:
        if isinstance(each, EncodedEvent) and isinstance(each.event, Report):
            (dev if each.event.document in DEV else training).append(each)
    return training, dev


def _release(setup: Setup, number: str) -> Sequence[Outcome]:
    path = setup.feed(f"attack/enterprise-attack-{number}.json")
    return attack.parse(path.read_bytes(), "enterprise-attack", path.name).outcomes


def _events(outcomes: Sequence[Outcome]) -> list[object]:
    return [each.event for each in outcomes if isinstance(each, EncodedEvent)]


def _trained(
    setup: Setup, progress: Progress, seed: int, side: str, material: Material, folder: Path
) -> dict[str, TaskScores]:
    """Scores on both test sets of a version of one side, which is written below `folder`."""
    config = setup.configured(CONFIG, seed)
    parent, known = None, set[str]()
    learnt = material.attack + (material.reports if side == "with" else [])
    if side == "child":
        config = msgspec.structs.replace(config, parent_share=PARENT_SHARE)
        parent, known = folder / "without", {example_fingerprint(one.example) for one in material.attack}
        learnt = rehearsed(material.attack, seed) + material.reports
    data = split((one.example for one in learnt), config.max_examples, seed, known=known)
    train(data, base(setup), config, folder / side, progress, f"{side}, seed {seed}", parent)
    return {name: evaluate(folder / side, config, getattr(material, name)) for name in ("dev", "new")}


def rehearsed(learnt: Sequence[FeedExample], seed: int) -> list[FeedExample]:
    """What a child learns again: the holdout, and `REHEARSED` of the other examples, drawn by the seed."""
    holdout = [one for one in learnt if held_out(one.example)]
    others = [one for one in learnt if not held_out(one.example)]
    return holdout + random.Random(seed).sample(others, min(REHEARSED, len(others)))


def _rows(material: Material, found: dict[str, list[dict[str, TaskScores]]]) -> list[Row]:
    rows = []
    both = material.attack + material.reports
    for name, title, change in (
        ("dev", "tactics of AnnoCTR's dev reports", GAIN),
        ("new", "tactics, new in 17.1", -LOSS),
    ):
        test: list[FeedExample] = getattr(material, name)
        simple = [linear(learnt, test, classifier="svm").metrics for learnt in (material.attack, both)]
        for side in (side for side in SIDES[1:] if found[side]):
            for metric in ("micro_f1", "macro_f1"):
                values = {
                    each: [scores[name].metrics[metric] for scores in found[each]] for each in (SIDES[0], side)
                }
                without = statistics.median(values[SIDES[0]])
                rows.append(
                    Row(
                        task=f"{title}, {side}",
                        metric=metric,
                        bar=without + (change if metric == "micro_f1" else min(change, 0.0)),
                        baseline=without,
                        baseline_name="without reports",
                        ours=values[side],
                        note=f"{len(material.attack)} + {len(material.reports)} examples, {len(test)} in the test "
                        f"set; TF-IDF + linear SVM {simple[0][metric]:.3f}, then {simple[1][metric]:.3f}",
                        details=values,
                    )
                )
    return rows


if __name__ == "__main__":
    main()
