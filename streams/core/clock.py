"""The time of the fold, which it has from ticks alone.

Ticks come from the clocks of machines, and a clock can be wrong. A tick that is ahead is believed, because a system
that was off for months is ahead too. Later ticks set it right: when two ticks in succession are more than
`MAX_AHEAD_MS` behind, and the second is not before the first, the time goes back to the second.
"""

from __future__ import annotations

MAX_AHEAD_MS = 86_400_000
"""A tick that is behind by less than this is from another worker's clock, or late. It never sets the time back."""

MAX_TIME_MS = 253_402_300_799_999
"""The end of the year 9999. A tick after it, or before 1970, is not a time."""


def tick_time(now_ms: int, behind_ms: int, tick_ms: int) -> tuple[int, int]:
    """The time after a tick.

    Args:
        now_ms: The time before it; 0 before the first tick.
        behind_ms: The tick before it, if that was far behind `now_ms`; otherwise 0.
        tick_ms: The tick.

    Returns:
        The new time, which is less than `now_ms` if it was set right, and the new `behind_ms`.

    >>> year = 365 * MAX_AHEAD_MS
    >>> tick_time(11 * year, 0, year)
    (346896000000, 31536000000)
    >>> tick_time(11 * year, year, year + 60_000)
    (31536060000, 0)
    """
    if not 0 < tick_ms <= MAX_TIME_MS:
        return now_ms, behind_ms
    if tick_ms >= now_ms - MAX_AHEAD_MS:
        return max(now_ms, tick_ms), 0
    if 0 < behind_ms <= tick_ms:
        return tick_ms, 0
    return now_ms, tick_ms
