"""A call is repeated while it raises `RetryLater`, for a bounded time."""

from __future__ import annotations

import pytest

from schemas.errors import BadConfiguration, RetryLater
from transport import retry as module
from transport.retry import retry


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_INTERVAL_S", 0.01)


def test_a_call_is_repeated_until_it_succeeds() -> None:
    errors = [RetryLater("one"), RetryLater("two")]

    def call() -> int:
        if errors:
            raise errors.pop(0)
        return 7

    assert retry(call) == 7
    assert errors == []


def test_the_last_error_is_raised_when_the_time_is_over() -> None:
    attempts = []

    def call() -> None:
        attempts.append(1)
        raise RetryLater(f"attempt {len(attempts)}")

    with pytest.raises(RetryLater, match="attempt") as error:
        retry(call, timeout_s=0.05)
    assert str(error.value) == f"attempt {len(attempts)}"
    assert len(attempts) > 1


def test_other_errors_are_not_retried() -> None:
    attempts = []

    def call() -> None:
        attempts.append(1)
        raise BadConfiguration("wrong password")

    with pytest.raises(BadConfiguration):
        retry(call)
    assert len(attempts) == 1
