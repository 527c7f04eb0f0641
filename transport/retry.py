"""Repeats a call that may fail at first, for a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from schemas.errors import RetryLater

T = TypeVar("T")

RETRY_INTERVAL_S = 0.2


def retry(call: Callable[[], T], timeout_s: float = 30.0) -> T:
    """Repeat a call while it raises `RetryLater`, and return its result.

    A broker answers the first requests about a consumer group with errors until it has loaded the group.

    Args:
        call: Takes no arguments; may be called several times.
        timeout_s: No attempt starts later than this many seconds after the first.

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
