"""Exports read every event from the topics or the sources, and count what they skip."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.encoding import encode_event
from schemas.errors import BadConfiguration
from schemas.topics import TECHNIQUES
from streams.fetchers.base.publish import outgoing_event, publish
from sx9_ml_models.exports import events_from_topics, parse_sources
from tests.flow.events import group, technique
from transport.kafka import consumer, producer
from transport.topics import create_topics


def test_events_of_one_id_keep_their_order_and_undecodable_ones_are_counted(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap)
    feed = [technique(900), group(901), technique(900, 1_600_000_000_000)]
    publish(kafka_bootstrap, [outgoing_event(encode_event(event), 0) for event in feed], lambda *_: None)
    writer = producer(kafka_bootstrap)
    writer.send(TECHNIQUES.name, key=b"bad", value=b"{nonsense").get(timeout=30)
    writer.close()
    reader, rejected = consumer(kafka_bootstrap), Counter[str]()
    found = list(events_from_topics(reader, rejected))
    reader.close()
    assert [event for event in found if event.id == "T1900"] == [feed[0], feed[2]]
    assert feed[1] in found
    assert rejected["undecodable"] >= 1


@pytest.mark.parametrize(
    ("words", "named"), [(["nix=a"], "attack-enterprise"), (["attack-ics=a", "attack-ics"], "twice")]
)
def test_a_wrong_source_is_named_and_others_are_parsed(words: list[str], named: str) -> None:
    with pytest.raises(BadConfiguration, match=named):
        parse_sources(words)
    assert parse_sources(["attack-ics=a=b", "attack-mobile"]) == {"attack-ics": "a=b", "attack-mobile": None}
