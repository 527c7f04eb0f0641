"""The errors of the whole system, drawn once and named by what the caller does next.

    Sx9Error
    ├── RetryLater        the world is not ready (broker away, network down): the same call may pass later
    ├── BadRecord         one record is unusable: dead-letter it with its reason and go on
    ├── BadConfiguration  a person must change a setting or the machine; retrying can't help
    └── Corrupt           what we stored is not what we wrote: stop, and say which file or offset

A message says what happened, the value, the limit and the remedy. Foreign exceptions are mapped to these
at the border where they appear, and nowhere else.
"""

from __future__ import annotations


class Sx9Error(Exception):
    """Root of all errors raised on purpose; the command line prints them without a traceback."""


class RetryLater(Sx9Error):
    """Something outside did not answer; the same call may pass later."""


class BadRecord(Sx9Error):
    """One record can't be used; it belongs in the dead-letter topic.

    Args:
        reason: A short word from a small fixed set (it becomes a metric label), such as `no-id`.
        detail: What was wrong, with the value and the limit.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadConfiguration(Sx9Error):
    """A setting, or the machine, must be changed by a person; the message names the remedy."""


class Corrupt(Sx9Error):
    """Stored bytes are not what was written (a hash differs, an offset is missing)."""
