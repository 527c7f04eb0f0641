"""How the champion does on what each feed says, beside what the other feeds say: pure.

    score of the champion on its holdout ──> mean and deviation of each task ──┐
    score on a new example ──> loss in these deviations ──> mean of its feed ──┴──> excess over the other feeds

A loss is measured in standard deviations, because the losses of two tasks can't be compared. If the champion gets
worse on everything, all feeds do; if one feed contradicts what it learnt from the others, only that feed does.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import msgspec

from schemas.journal import Score
from streams.core.detectors.performance_drift import TaskLosses, mean_deviation

WINDOW = 100
"""Scored examples that the mean of a feed is made of, about: an older one counts less."""
MAX_RUNS = 1_024
"""Changes from one feed to another in the journal that are remembered; scores of older examples are passed over."""
MAX_FEEDS = 64
"""Feeds with a mean of their own; scores of others are passed over."""
MAX_TASKS = 8


class Mean(msgspec.Struct):
    """An exponentially weighted mean of `WINDOW` values, and how many there were."""

    number: int = 0
    mean: float = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.number += 1
        self.mean += (value - self.mean) / min(self.number, WINDOW)


class FeedLosses(msgspec.Struct, kw_only=True):
    """The losses of one champion, by feed.

    Attributes:
        version: The champion.
        reference: Task -> its losses on the champion's holdout.
        reference_end, end: The journal offsets after the latest examples that were taken.
        feeds: Feed -> mean of its losses, in standard deviations.
        starts, names: Journal offsets from which on examples are of a feed, and the feeds.
    """

    version: str = ""
    reference: dict[str, TaskLosses] = {}
    reference_end: int = 0
    end: int = 0
    feeds: dict[str, Mean] = {}
    starts: list[int] = []
    names: list[str] = []

    def came(self, offset: int, feed: str) -> None:
        """Note the feed of an example of the journal."""
        if self.names and self.names[-1] == feed:
            return
        self.starts.append(offset)
        self.names.append(feed)
        if len(self.starts) > MAX_RUNS:
            del self.starts[: MAX_RUNS // 2], self.names[: MAX_RUNS // 2]

    def take(self, score: Score) -> None:
        """Take a score. A champion begins with its reference; examples that were taken before have no effect."""
        if score.trigger or (score.version != self.version and not score.reference):
            return
        if score.version != self.version:
            self.version, self.reference, self.feeds = score.version, {}, {}
            self.reference_end = self.end = 0
        for each in score.each:
            losses = {task: loss for task, loss in each.losses.items() if math.isfinite(loss)}
            if score.reference and each.offset >= self.reference_end:
                self.reference_end = each.offset + 1
                self._learn(losses)
            elif not score.reference and each.offset >= self.end:
                self.end = each.offset + 1
                self._count(each.offset, losses)

    def excess(self, feed: str, least: int) -> float:
        """By how many standard deviations the losses of a feed are above those of all others.

        Args:
            feed: The feed.
            least: Scored examples without which there is no answer, of the feed and of the others together.

        Returns:
            The excess; 0 without an answer.
        """
        own = self.feeds.get(feed)
        others = [mean for name, mean in self.feeds.items() if name != feed]
        number = sum(min(mean.number, WINDOW) for mean in others)
        if own is None or own.number < least or number < least:
            return 0.0
        return own.mean - sum(mean.mean * min(mean.number, WINDOW) for mean in others) / number

    def forget(self, feed: str) -> None:
        """Begin anew with a feed."""
        self.feeds.pop(feed, None)

    def _learn(self, losses: dict[str, float]) -> None:
        for task, loss in losses.items():
            if task in self.reference or len(self.reference) < MAX_TASKS:
                self.reference.setdefault(task, TaskLosses()).add(loss)

    def _count(self, offset: int, losses: dict[str, float]) -> None:
        at = bisect_right(self.starts, offset) - 1
        deviation = mean_deviation(self.reference, losses)
        if at < 0 or deviation is None:
            return
        feed = self.names[at]
        if feed in self.feeds or len(self.feeds) < MAX_FEEDS:
            self.feeds.setdefault(feed, Mean()).add(deviation)
