"""What each feed is worth: a rebuild with all feeds, and one without each, scored on one holdout.

    journal ──> rebuild with all feeds ────────> champion ──┐
           ├──> rebuild without feed A ────────> champion ──┤
           └──> rebuild without feed B ────────> champion ──┴──> scores on the same examples ──> differences

All sides are decided anew by the recorded rules, end at the same offset, and are trained and resumed by the same
code as `sx9 rebuild`. The holdout is that of the whole journal. What a feed is worth is measured on the examples of
all other feeds: on its own ones, any feed is worth something, even one that is wrong. Both are shown.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec

from schemas.errors import BadConfiguration
from schemas.exclusions import FeedOf, parse_exclusions
from schemas.journal import Example, Record, held_out
from schemas.scores import TaskScores
from streams.settings import Settings
from sx9_ml_models.journals import open_journal
from sx9_ml_models.rebuild.command import check_output, feeds_of, progress_of
from sx9_ml_models.rebuild.holdout import (
    Parts,
    common_holdout,
    score_version,
    standard_error,
    value_of,
    with_each_group_left_out,
)
from sx9_ml_models.rebuild.remaining import RemainingJournal
from sx9_ml_models.rebuild.run import PLAN, Rebuild, Rebuilt, keep_plan
from sx9_ml_models.rebuild.scope import Plan, Scope, scope_of
from trainers.core.dataset import OffsetExample
from trainers.runs.evaluation import Evaluate, PartScores, evaluate_in_process
from trainers.runs.run_process import Run, run_in_process
from trainers.settings import TrainerSettings
from trainers.store.shared_registry import open_registry
from transport.partition_log import PartitionLog

log = logging.getLogger(__name__)

ALL = "with-all"
"""Folder of the side that has every feed."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

ScoredOn = Literal["the other feeds", "its own"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a task, with and without a feed.

    Attributes:
        scored_on: The holdout examples of the other feeds, or those of the feed.
        task, metric: What is compared.
        examples: How many there are.
        with_feed, without_feed: The values; 0 for a version that does not have the task.
        worth: With the feed, less without it.
        error: Standard error of `worth`, by which examples are held out; None: there are too few groups of them.
    """

    scored_on: ScoredOn
    task: str
    metric: str
    examples: int
    with_feed: float
    without_feed: float
    worth: float
    error: float | None


class FeedWorth(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed is worth.

    Attributes:
        feed: Its name.
        examples: Training examples that came of it.
        champion: The last version that the gate promoted without the feed; empty: none.
        versions: The versions without it, oldest first.
        differences: Of every metric that the gate compares; empty without a champion.
    """

    feed: str
    examples: int
    champion: str
    versions: tuple[Rebuilt, ...]
    differences: tuple[Difference, ...] = ()


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What the feeds of a journal are worth to a model.

    Attributes:
        model: The model.
        end: Journal offset at which all sides end.
        examples: Training examples of all feeds.
        holdout: Examples that all sides are scored on.
        champion, versions: Of the side with all feeds.
        feeds: Most examples first.
    """

    model: str
    end: int
    examples: int
    holdout: int
    champion: str
    versions: tuple[Rebuilt, ...]
    feeds: tuple[FeedWorth, ...]


class _Side(msgspec.Struct, frozen=True):
    rebuild: Rebuild
    versions: tuple[Rebuilt, ...]
    champion: str


def feeds_worth(
    model: str,
    feeds: Sequence[str],
    file: Path | None,
    folder: Path,
    settings: Settings,
    trainer: TrainerSettings,
    *,
    holdout: int,
    run: Run = run_in_process,
    evaluate: Evaluate = evaluate_in_process,
) -> Worth:
    """Rebuild a lineage with all feeds and without each of some, and compare them. What serves is not touched.

    Args:
        model: The model.
        feeds: Names; empty: all feeds of the journal.
        file: A file of the journal; None: read it from Kafka.
        folder: Of all sides. A call with the same folder continues, up to the same offset of the journal.
        settings, trainer: Name Kafka and the folders.
        holdout: Examples to score on, at most.
        run: Trains a version.
        evaluate: Scores a version.

    Raises:
        BadConfiguration: A feed is not in the journal, or no version with all feeds passed the gate.
        RetryLater: A run failed; the next call continues.
    """
    check_output(folder, trainer)
    plan = Plan(model=model, anew=True)
    keep_plan(folder / PLAN, plan)
    with open_journal(model, file, settings) as journal:
        scope = scope_of(plan, journal, folder)
        with feeds_of(("feed=",), file, settings) as feed_of:
            left = RemainingJournal(journal, scope.end, parse_exclusions(scope.exclusions), feed_of)
            counts = examples_by_feed(left.records(), feed_of)
            chosen = _chosen(feeds, counts, scope)
            sides = _Sides(plan, scope, journal, feed_of, folder, trainer, run, len(chosen))
            whole = sides.build("")
            if not whole.champion:
                raise BadConfiguration(
                    f"{model}: with all feeds no version passes the gate, so there is nothing to compare with; "
                    f"{_why(whole)}"
                )
            examples = common_holdout(whole.rebuild.copy_path, scope.end, holdout)
            without = {feed: sides.build(feed) for feed in chosen}
            parts = {feed: _parts(examples, feed, feed_of) for feed in chosen}
            found = _scored(whole, without, examples, parts, evaluate)
    measured = (
        FeedWorth(
            feed=feed, examples=counts[feed], champion=side.champion, versions=side.versions,
            differences=tuple(found[feed]),
        )
        for feed, side in without.items()
    )  # fmt: skip
    return Worth(
        model=model, end=scope.end, examples=counts.total(), holdout=len(examples), champion=whole.champion,
        versions=whole.versions, feeds=tuple(measured),
    )  # fmt: skip


def examples_by_feed(records: Iterable[tuple[int, Record]], feed_of: FeedOf) -> Counter[str]:
    """Feed -> training examples that came of it, superseded ones too."""
    return Counter(
        feed_of(record.source)
        for _, record in records
        if isinstance(record, Example) and not record.retracted and not held_out(record)
    )


def _chosen(feeds: Sequence[str], counts: Mapping[str, int], scope: Scope) -> list[str]:
    """The feeds to leave out, the one with the most examples first."""
    known = [name for name in sorted(counts, key=lambda name: (-counts[name], name)) if name]
    if unknown := [name for name in feeds if name not in known]:
        taken_out = f"feed={unknown[0]}" in scope.exclusions
        why = "it was taken out of the lineage" if taken_out else f"it has {', '.join(known) or 'none'}"
        raise BadConfiguration(f"the journal has no training examples of the feed {unknown[0]!r:.80}: {why}")
    return [name for name in known if not feeds or name in feeds]


class _Sides:
    """Builds one side after the other; says how much time is left, by that of the side with all feeds."""

    def __init__(
        self, plan: Plan, scope: Scope, journal: PartitionLog, feed_of: FeedOf, folder: Path,
        trainer: TrainerSettings, run: Run, feeds: int,
    ) -> None:  # fmt: skip
        self._plan, self._scope, self._journal, self._feed_of = plan, scope, journal, feed_of
        self._folder, self._trainer, self._run, self._number = folder, trainer, run, feeds + 1
        self._done = 0
        self._side_s = sum(m.seconds for m in open_registry(trainer).versions(plan.model))

    def build(self, feed: str) -> _Side:
        """Rebuild without a feed; empty: with all."""
        what = f"feed={feed}" if feed else ""
        left_s = (self._number - self._done) * self._side_s
        log.info(
            "%s (%d of %d)%s", f"without {feed}" if feed else "with all feeds", self._done + 1, self._number,
            f"; about {left_s / 60:.0f} min left" if left_s else "",
        )  # fmt: skip
        exclusions = tuple(sorted({*self._scope.exclusions, *([what] if what else [])}))
        scope = msgspec.structs.replace(self._scope, exclusions=exclusions)
        plan = msgspec.structs.replace(self._plan, exclusions=(what,) if what else ())
        journal = RemainingJournal(self._journal, scope.end, parse_exclusions(exclusions), self._feed_of)
        rebuild = Rebuild(
            plan, scope, journal, self._folder / folder_name(feed), self._trainer, self._run, progress_of
        )
        versions = rebuild.versions()
        self._done += 1
        if not feed:
            self._side_s = sum(m.seconds for m in rebuild.registry.versions(plan.model))
        promoted = [each.version for each in versions if each.promoted]
        return _Side(rebuild, tuple(versions), promoted[-1] if promoted else "")


def folder_name(feed: str) -> str:
    """The folder of the side without a feed; empty: of that with all.

    >>> folder_name(""), folder_name("sigma")
    ('with-all', 'without-sigma')
    """
    if not feed:
        return ALL
    return (
        f"without-{feed if _PLAIN.fullmatch(feed) else hashlib.blake2b(feed.encode(), digest_size=8).hexdigest()}"
    )


_PartsOf = dict[ScoredOn, Parts]
"""The examples of the other feeds, and those of a feed, each with its jackknife."""


def _parts(examples: Sequence[OffsetExample], feed: str, feed_of: FeedOf) -> _PartsOf:
    own = {i for i, (_, example) in enumerate(examples) if feed_of(example.source) == feed}
    return {
        "the other feeds": with_each_group_left_out(examples, [i for i in range(len(examples)) if i not in own]),
        "its own": with_each_group_left_out(examples, sorted(own)),
    }


def _scored(
    whole: _Side,
    without: Mapping[str, _Side],
    examples: Sequence[OffsetExample],
    parts: Mapping[str, _PartsOf],
    evaluate: Evaluate,
) -> dict[str, list[Difference]]:
    """Feed -> differences. The side with all feeds is scored once, on the parts of all feeds."""
    found: dict[str, list[Difference]] = {feed: [] for feed in without}
    if not examples:
        return found

    def score(side: _Side, wanted: Iterable[_PartsOf]) -> Iterator[dict[str, TaskScores]]:
        flat = tuple(part for of_feed in wanted for of_kind in of_feed.values() for part in of_kind)
        return iter(score_version(side.rebuild, side.champion, examples, flat, whole.rebuild.copy_path, evaluate))

    with_all = score(whole, parts.values())
    for feed, side in without.items():
        with_feed = {kind: list(islice(with_all, len(of_kind))) for kind, of_kind in parts[feed].items()}
        if side.champion:
            without_feed = score(side, [parts[feed]])
            for kind, scores in with_feed.items():
                found[feed] += differences(kind, scores, list(islice(without_feed, len(scores))))
    return found


def differences(scored_on: ScoredOn, with_feed: PartScores, without_feed: PartScores) -> list[Difference]:
    """Every metric of two sides.

    Args:
        scored_on: Which examples.
        with_feed, without_feed: The scores on all of them, and then without each group.
    """
    found = []
    for task, scores in _tasks(with_feed[0], without_feed[0]).items():
        for metric in scores.metrics:
            pairs = [
                (value_of(one, task, metric), value_of(other, task, metric))
                for one, other in zip(with_feed, without_feed, strict=True)
            ]
            worths = [one - other for one, other in pairs]
            found.append(
                Difference(
                    scored_on=scored_on,
                    task=task,
                    metric=metric,
                    examples=scores.examples,
                    with_feed=pairs[0][0],
                    without_feed=pairs[0][1],
                    worth=worths[0],
                    error=standard_error(worths[1:]),
                )
            )
    return found


def _tasks(*sides: Mapping[str, TaskScores]) -> dict[str, TaskScores]:
    """The tasks that there are examples of, as a side that has them scores them."""
    return {task: scores for side in sides for task, scores in side.items() if scores.examples}


def _why(side: _Side) -> str:
    if not side.versions:
        return "its rules never decided to train one (`sx9 triggers --declined` says why)"
    return f"{side.versions[-1].version} was refused: {side.versions[-1].why_not}"
