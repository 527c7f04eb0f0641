"""Topics whose messages are their own offsets, so that a test sees which ones were read."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence

from kafka import KafkaAdminClient, KafkaProducer

from transport.kafka import consumer, end_offset, producer

_numbers = itertools.count()


def new_name() -> str:
    """A name for a topic or group that no other test uses."""
    return f"test.{next(_numbers)}"


def filled_topic(admin: KafkaAdminClient, writer: KafkaProducer, sizes: Sequence[int]) -> str:
    """Create a topic with a partition for each size, filled with that many messages; returns its name."""
    name = new_name()
    admin.create_topics({name: {"num_partitions": len(sizes), "replication_factor": 1}})
    admin.wait_for_topics([name])
    append(writer, name, sizes)
    return name


def in_transaction(bootstrap: str, name: str, offsets: Sequence[int], *, commit: bool) -> None:
    """Append messages to partition 0 in one transaction; it ends with a marker, which takes an offset too."""
    with contextlib.closing(producer(bootstrap, transactional_id=new_name())) as transactional:
        transactional.init_transactions()
        transactional.begin_transaction()
        for offset in offsets:
            transactional.send(name, value=str(offset).encode(), partition=0)
        transactional.flush()
        if commit:
            transactional.commit_transaction()
        else:
            transactional.abort_transaction()
    with contextlib.closing(consumer(bootstrap)) as reader:
        deadline = time.monotonic() + 30
        while end_offset(reader, name, 0) < offsets[-1] + 2:  # the broker writes the marker after its answer
            assert time.monotonic() < deadline


def append(writer: KafkaProducer, name: str, sizes: Sequence[int], first: int = 0) -> None:
    """Append messages to the partitions of a topic; `first` is the offset of the first one."""
    for partition, size in enumerate(sizes):
        for offset in range(first, first + size):
            writer.send(name, value=str(offset).encode(), partition=partition)
    writer.flush()
