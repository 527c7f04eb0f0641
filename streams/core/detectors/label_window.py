"""The labels of the latest training examples, counted."""

from __future__ import annotations

import msgspec

from streams.core.label_counts import add_labels


class LabelWindow(msgspec.Struct):
    """A sliding window over the labels of examples: a ring buffer, with the count of each label.

    Attributes:
        size: How many examples it holds at most, at least 1.
        labels: The labels of each example, from the oldest at `position` to the latest, wrapping around at the end.
        position: Index of the oldest example, which the next one replaces once the window is full.
        counts: Label -> examples in the window that have it, never 0.
    """

    size: int
    labels: list[tuple[str, ...]] = []
    position: int = 0
    counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, labels: tuple[str, ...]) -> None:
        """Add the labels of the latest example. A full window forgets the oldest."""
        if len(self.labels) < self.size:
            self.labels.append(labels)
        else:
            add_labels(self.counts, self.labels[self.position], -1)
            self.labels[self.position] = labels
            self.position = (self.position + 1) % len(self.labels)
        add_labels(self.counts, labels, 1)

    def resize(self, size: int) -> None:
        """Set another size. A smaller window keeps the latest examples."""
        oldest_first = self.labels[self.position :] + self.labels[: self.position]
        self.size, self.labels, self.position, self.counts = size, oldest_first[-size:], 0, {}
        for labels in self.labels:
            add_labels(self.counts, labels, 1)
