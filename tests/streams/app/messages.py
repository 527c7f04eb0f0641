"""Messages as they come from Kafka, and a fake producer that keeps what a sink sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.cloudevents import Headers
from schemas.codec import encode, encode_message
from schemas.errors import RestartRequired, RetryLater
from schemas.topics import topic_of
from streams.app.sink import ConsumedMessage


def message(event: Any, offset: int, partition: int = 0, topic: str = "") -> ConsumedMessage:
    """An event, or bytes, at an offset."""
    value = event if isinstance(event, bytes) else encode(event)
    return ConsumedMessage(topic or topic_of(event).name, partition, offset, value, 1_600_000_000_000)


def messages(events: Iterable[Any], first: int = 0, topic: str = "") -> list[ConsumedMessage]:
    """Events at offsets starting with `first`."""
    return [message(event, offset, topic=topic) for offset, event in enumerate(events, first)]


class FakeTopicIds(dict[str, str]):
    """`TopicIds` in which each topic has the same id. While `replaced`, the check fails."""

    def __init__(self, topic_id: str = "id-1", *, replaced: bool = False) -> None:
        self.topic_id = topic_id
        self.replaced = replaced

    def __missing__(self, _name: str) -> str:
        return self.topic_id

    def check(self) -> None:
        if self.replaced:
            raise RestartRequired("a topic was deleted and made again")


class FakeProducer:
    """A `RecordProducer` that keeps the records; the first `failures` flushes fail."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.sent: list[tuple[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[Headers | None] = []
        self.flushed = 0

    def send(
        self, topic: str, record: Any, *, key: str, partition: int | None = None, headers: Headers | None = None
    ) -> None:
        encode_message(record)
        self.sent.append((topic, record))
        self.keys.append(key)
        self.headers.append(headers)

    def flush(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RetryLater("the broker does not answer")
        self.flushed = len(self.sent)

    def of(self, topic: str, key: str = "") -> list[Any]:
        """Records sent to a topic, with one key or any."""
        pairs = zip(self.sent, self.keys, strict=True)
        return [record for (name, record), sent_key in pairs if name == topic and key in ("", sent_key)]
