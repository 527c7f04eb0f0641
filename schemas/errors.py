"""The exceptions of the system, named by what the caller should do.

    Sx9Error
    ├── RetryLater        something outside is not available (broker, network): the same call may succeed later
    ├── RestartRequired   this process can't continue, a new one can: end it, its supervisor starts it again
    ├── BadRecord         one record can't be used: write it to the dead-letter topic and continue
    ├── BadData           the examples of a run can't lead to a version: its trigger is refused with this reason
    ├── BadConfiguration  a person must change a setting or the machine; a retry can't succeed
    └── Corrupt           stored data differs from what was written: stop, and name the file or the offset

A message gives the value, the limit and the remedy. Exceptions of libraries are converted to these where the
library is called.
"""

from __future__ import annotations


class Sx9Error(Exception):
    """Base class of the expected errors; the command line prints them without a traceback."""


class RetryLater(Sx9Error):
    """Something outside is not available; the same call may succeed later."""


class RestartRequired(Sx9Error):
    """A client is in a state that it does not leave; the same call can succeed only in a new process."""


class BadRecord(Sx9Error):
    """A record can't be used; it is written to the dead-letter topic.

    Args:
        reason: A short word from a small fixed set (it becomes a metric label), such as `no-id`.
        detail: Description of the fault, with the value and the limit.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadData(Sx9Error):
    """The examples of a run can't lead to a version, on any machine: a trainer refuses the trigger with this."""


class BadConfiguration(Sx9Error):
    """A person must change a setting or the machine; the message gives the remedy."""


class Corrupt(Sx9Error):
    """Stored data differs from what was written (a hash differs, an offset is missing)."""
