"""What all detectors of drift have in common."""

from __future__ import annotations

from typing import Protocol, TypeVar

Value_contra = TypeVar("Value_contra", contravariant=True)


class Detector(Protocol[Value_contra]):
    """Compares the latest values with a reference, which each kind of detector has in its own form.

    A detector is a `msgspec.Struct` of plain data: what it knows is in its fields, their size is bounded, and the
    same values give the same fields. So it is part of the snapshot of the fold.
    """

    def update(self, value: Value_contra, /) -> None:
        """Take the next value of the stream."""

    @property
    def statistic(self) -> float:
        """How far the latest values are from the reference, 0 or more; 0 without a reference or values."""

    @property
    def support(self) -> int:
        """The number of values that the statistic rests on."""
