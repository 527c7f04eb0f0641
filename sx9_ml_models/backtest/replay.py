"""One pass over a journal for several backtests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schemas.journal import Record
from streams.core.backtest import Backtest
from transport.partition_log import PartitionLog
from transport.records import decoded


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


def feed(
    log: PartitionLog,
    backtests: Sequence[Backtest],
    on_progress: Callable[[int, int], None] = no_progress,
) -> int:
    """Feed every record of a journal to some backtests. Returns the number of records."""
    end, records = log.end(), 0
    for messages in log.read(0, end):
        for message, record in decoded(messages, Record, log.topic, log.partition):
            records += 1
            for backtest in backtests:
                backtest.feed(message.offset, record)
        on_progress(messages[-1].offset + 1, end)
    return records
