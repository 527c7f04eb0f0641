"""Messages as they come from Kafka, and a box for what a sink sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.cloudevents import Headers
from schemas.codec import encode
from schemas.errors import RetryLater
from schemas.topics import topic_of
from streams.app.sink import Message


def message(event: Any, offset: int, partition: int = 0, topic: str = "") -> Message:
    """An event, or bytes, at an offset."""
    value = event if isinstance(event, bytes) else encode(event)
    return Message(topic or topic_of(event).name, partition, offset, value, 1_600_000_000_000)


def messages(events: Iterable[Any], first: int = 0, topic: str = "") -> list[Message]:
    """Events at offsets from `first` on."""
    return [message(event, offset, topic=topic) for offset, event in enumerate(events, first)]


class Box:
    """An outbox that keeps what it is given; `away` times it can't be emptied."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.sent: list[tuple[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[Headers | None] = []
        self.flushed = 0

    def send(
        self, topic: str, record: Any, *, key: str, partition: int | None = None, headers: Headers | None = None
    ) -> None:
        self.sent.append((topic, record))
        self.keys.append(key)
        self.headers.append(headers)

    def flush(self) -> None:
        if self.away:
            self.away -= 1
            raise RetryLater("the broker is away")
        self.flushed = len(self.sent)

    def of(self, topic: str, key: str = "") -> list[Any]:
        """What was sent to a topic, under one key or any."""
        pairs = zip(self.sent, self.keys, strict=True)
        return [record for (name, record), of in pairs if name == topic and key in ("", of)]
