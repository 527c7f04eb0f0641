"""Drift of the labels: the distance of those of recent examples from those that the champion was trained on."""

from __future__ import annotations

import msgspec

from streams.core.detectors.jensen_shannon import jensen_shannon
from streams.core.detectors.label_window import LabelWindow


class LabelDrift(msgspec.Struct):
    """The Jensen-Shannon distance of two counts of labels; a `streams.core.detectors.detector.Detector`.

    Attributes:
        window: Labels of the latest training examples.
        reference: Label -> training examples of the champion and its ancestors.
    """

    window: LabelWindow
    reference: dict[str, int] = {}

    def update(self, value: tuple[str, ...]) -> None:
        """Take the labels of the next example."""
        self.window.add(value)

    @property
    def statistic(self) -> float:
        """0 (equal) to 1 (disjoint)."""
        return jensen_shannon(self.window.counts, self.reference) if self.reference else 0.0

    @property
    def support(self) -> int:
        """Examples in the window."""
        return len(self.window)
