"""Dead letters of the app: a record and CloudEvents headers, made as the fetchers make them."""

from __future__ import annotations

import contextlib

from kafka import TopicPartition

from schemas.codec import decode
from schemas.dead_letters import rejection_digest
from schemas.errors import BadRecord
from schemas.events import DeadLetter
from schemas.topics import DEAD_LETTERS, TECHNIQUES
from streams.app.dead_letters import dead_letter_writer
from tests.streams.app.messages import message
from transport.kafka import RecordProducer, consumer, end_offset, producer, read_range
from transport.topics import create_topics


def test_a_dead_letter_has_cloudevents_headers_on_its_topic(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap)
    with contextlib.closing(consumer(kafka_bootstrap)) as reader:
        start = end_offset(reader, DEAD_LETTERS.name, 0)
        with contextlib.closing(producer(kafka_bootstrap)) as writer:
            records = RecordProducer(writer)
            dead_letter_writer(records)(
                message(b"{nonsense", 41, 0, TECHNIQUES.name), BadRecord("undecodable", "broken")
            )
            records.flush()
        [letter] = [m for batch in read_range(reader, DEAD_LETTERS.name, 0, start) for m in batch]
        assert reader.assignment() == {TopicPartition(DEAD_LETTERS.name, 0)}
    record, headers = decode(letter.value, DeadLetter), dict(letter.headers)
    assert letter.key.decode() == record.origin == f"{TECHNIQUES.name}/0/41"
    assert (record.reason, record.detail, record.payload) == ("undecodable", "broken", b"{nonsense")
    assert headers["ce_type"] == b"threat.dead-letter.v1"
    assert headers["ce_source"] == b"/streams/app"
    assert headers["ce_id"].decode() == rejection_digest(record.origin, "undecodable", b"{nonsense")
