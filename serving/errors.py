"""What a request can't have, with its HTTP status. The message gives the value, the limit and the remedy."""

from __future__ import annotations

from schemas.errors import Sx9Error


class Refused(Sx9Error):
    """A request that gets no answer.

    Attributes:
        status: HTTP status.
        retry_after_s: When another try makes sense, seconds; 0: it does not.
    """

    status = 400
    retry_after_s = 0


class TooLarge(Refused):
    """The request is over a limit."""

    status = 413


class Invalid(Refused):
    """The request has a form that is right and a value that is not."""

    status = 422


class NotFound(Refused):
    """The version or node that the request names is not there."""

    status = 404


class Busy(Refused):
    """The queue is full.

    Args:
        message: With the limit.
        retry_after_s: See `Refused`.
    """

    status = 429

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(Refused):
    """No version serves, or a service that the answer needs is away."""

    status = 503
    retry_after_s = 5


class TimedOut(Refused):
    """The answer was not there in time."""

    status = 504
    retry_after_s = 1
