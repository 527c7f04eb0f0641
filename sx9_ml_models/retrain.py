"""`sx9 retrain`: a person's request as a journal record, and the wait for what comes of it."""

from __future__ import annotations

import time
from typing import Any

from schemas.journal import Manual, Promoted, Refused
from schemas.topics import JOURNAL, partition_of
from schemas.windows import Trigger
from streams.app.replay import fold_from, journal, load_state
from streams.core.fold import initial
from streams.settings import Settings
from transport.kafka import RecordProducer, consumer, end_offset, producer

POLL_S = 0.5


def request_retrain(bootstrap: str, model: str, request: str, reason: str) -> dict[str, Any]:
    """Write the request to the journal of a model.

    Args:
        request: Unique; the same one again does nothing.

    Returns:
        What was asked, and at which journal offset it lies at the earliest (`from_offset`).

    Raises:
        RetryLater: Kafka did not acknowledge it.
    """
    reader, writer = consumer(bootstrap), producer(bootstrap)
    try:
        start = end_offset(reader, JOURNAL.name, partition_of(model))
        outbox = RecordProducer(writer)
        record = Manual(request=request, reason=reason, time_ms=int(time.time() * 1000))
        outbox.send(JOURNAL.name, record, key=model, partition=partition_of(model))
        outbox.flush()
    finally:
        reader.close()
        writer.close(timeout=5)
    return {"model": model, "request": request, "reason": reason, "from_offset": start}


def waited_for(bootstrap: str, settings: Settings, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The trigger that a request led to and its answer; waits for both."""
    reader = consumer(bootstrap)
    try:
        trigger = None
        state = load_state(reader, model, settings.snapshots_dir)
        if state.next_offset > asked["from_offset"]:
            state = initial(model)
        while trigger is None:
            for later, outputs in fold_from(reader, state):
                state = later
                for output in outputs:
                    if isinstance(output, Trigger) and output.offset >= asked["from_offset"] and not trigger:
                        trigger = output
            time.sleep(POLL_S)
        place = trigger.offset
        while True:
            for offset, record in journal(reader, model, place):
                place = offset + 1
                if isinstance(record, Promoted | Refused) and record.trigger == trigger.id:
                    return {
                        "trigger": trigger.id,
                        "version": record.version,
                        "answer": type(record).__name__.lower(),
                    }
            time.sleep(POLL_S)
    finally:
        reader.close()
