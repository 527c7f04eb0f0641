"""Asks Kafka whether a partition is still ours, from a thread that may not use the consumer.

    training thread ──confirm──> waits ──> answered: goes on, or `Cancelled`
    polling thread  ──answer_with(check)──> check(): a commit, which Kafka refuses to a member that it has given up

What a consumer knows of its assignment is out of date after its process was paused. A commit is not: it names the
generation of the group, and Kafka compares it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from trainers.core.progress import Cancelled

_POLL_S = 0.1


class Assignment:
    """The assignment of one partition during one run.

    Args:
        cancel: Set when the run is to end: then nobody answers any more.
    """

    def __init__(self, cancel: threading.Event) -> None:
        self._cancel = cancel
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._is_ours = False

    def confirm(self) -> None:
        """Wait for the answer.

        Raises:
            Cancelled: The partition belongs to another trainer, or the run is to end.
        """
        self._answered.clear()
        self._asked.set()
        while not self._answered.wait(_POLL_S):
            if self._cancel.is_set():
                raise Cancelled
        if not self._is_ours:
            raise Cancelled

    def answer_with(self, check: Callable[[], bool]) -> None:
        """Answer if somebody asks.

        Args:
            check: Returns whether the partition is still ours.
        """
        if self._asked.is_set():
            self._asked.clear()
            self._is_ours = check()
            self._answered.set()
