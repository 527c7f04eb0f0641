"""Calls that may fail at first: tried again for a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from schemas.errors import RetryLater

T = TypeVar("T")

RETRY_INTERVAL_S = 0.2


def retry(call: Callable[[], T], timeout_s: float = 30.0) -> T:
    """The result of a call, which is repeated while it raises `RetryLater`.

    Brokers answer the first requests about a consumer group with errors that pass by themselves.

    Args:
        call: Takes no arguments; may be called several times.
        timeout_s: No further attempt begins after so many seconds.

    Raises:
        RetryLater: The last attempt raised it.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RetryLater),
        stop=tenacity.stop_after_delay(timeout_s),
        wait=tenacity.wait_fixed(RETRY_INTERVAL_S),
        reraise=True,
    )
    return retrying(call)
