"""Until when a partition can be read from its first offset, by retention and archive; on a real Kafka."""

from __future__ import annotations

import math
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from schemas.topics import Topic
from tests.transport.filled_topics import filled_topic
from transport.archive.horizon import Horizon, horizon_of
from transport.archive.reading import Archive
from transport.archive.writing import archive_partition
from transport.storage import FolderStorage
from transport.topics import TopicIds

WEEK_S = 604_800.0


def test_the_first_record_that_is_not_archived_decides(
    admin: KafkaAdminClient, writer: KafkaProducer, reader: KafkaConsumer, tmp_path: Path
) -> None:
    name = filled_topic(admin, writer, [0])
    for at in range(4):
        writer.send(name, value=b"v", partition=0, timestamp_ms=1_700_000_000_000 + at)
    writer.flush()
    assert horizon_of(reader, None, math.inf, name, 0) == Horizon(0, math.inf)
    found = horizon_of(reader, None, WEEK_S, name, 0)
    assert found == Horizon(0, 1_700_000_000_000 + WEEK_S * 1000)
    assert (found.of(4), found.of(0)) == (found.until_ms, math.inf)  # what needs no record is never lost
    assert math.isnan(horizon_of(reader, None, None, name, 0).until_ms)

    ids = TopicIds(admin, [Topic(name=name, key="", partitions=1, record=None)])
    storage = FolderStorage(tmp_path)
    assert horizon_of(reader, Archive(storage, ids), WEEK_S, name, 0) == found
    archive_partition(storage, reader, ids, TopicPartition(name, 0))
    assert horizon_of(reader, Archive(storage, ids), WEEK_S, name, 0) == Horizon(4, math.inf)
    for at in (4, 5):
        writer.send(name, value=b"v", partition=0, timestamp_ms=1_700_000_000_000 + at)
    writer.flush()
    partly = horizon_of(reader, Archive(storage, ids), WEEK_S, name, 0)
    assert (partly.of(4), partly.of(5)) == (math.inf, 1_700_000_000_004 + WEEK_S * 1000)

    admin.delete_records({TopicPartition(name, 0): 5})
    lost = horizon_of(reader, Archive(storage, ids), WEEK_S, name, 0)
    assert (lost.of(4), lost.of(5)) == (math.inf, 0.0)
    assert horizon_of(reader, None, math.inf, name, 0) == Horizon(0, 0.0)
