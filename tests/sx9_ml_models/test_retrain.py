"""A manual request leads to one trigger, and waiting for it returns the verdict of that trigger."""

from __future__ import annotations

import time
import uuid
from itertools import count, islice
from pathlib import Path

import pytest

from schemas.journal import Example, Manual, Promoted, Refused, Source, in_holdout, key_hash
from schemas.models import MODELS
from schemas.topics import JOURNAL, partition_of
from schemas.windows import Trigger
from streams.app.replay import fold_from, journal, save_state, state_now
from streams.core.fold import initial
from sx9_ml_models.retrain import RetrainAnswer, request_retrain, wait_for_answer
from transport.kafka import RecordProducer, consumer, producer
from transport.topics import create_topics

MODEL = MODELS[1]


def examples(size: int, first: int) -> list[Example]:
    """Examples that a model is trained on."""
    keys = (f"retrain-test:{n}" for n in count(first))
    kept = islice((key for key in keys if not in_holdout(key_hash(key))), size)
    return [
        Example(source=Source("threat.techniques.v1", 0, first + n), key=key, hash=f"{first + n:016x}", text=key,
                labels=("explain",), taxonomy="enterprise-attack/15.1")
        for n, key in enumerate(kept)
    ]  # fmt: skip


def write(bootstrap: str, *records: Example | Promoted | Refused) -> None:
    """Append records to the journal of the model."""
    writer = producer(bootstrap)
    outbox = RecordProducer(writer)
    for record in records:
        outbox.send(JOURNAL.name, record, key=MODEL, partition=partition_of(MODEL))
    outbox.flush()
    writer.close()


@pytest.mark.parametrize("verdict", ["promoted", "refused"])
def test_waiting_returns_the_verdict_of_the_trigger_that_the_request_led_to(
    tmp_path: Path, kafka_bootstrap: str, verdict: str
) -> None:
    create_topics(kafka_bootstrap)
    write(kafka_bootstrap, *examples(20, first=int(time.time() * 1000)))
    request = request_retrain(kafka_bootstrap, MODEL, uuid.uuid4().hex, "a new taxonomy")
    reader = consumer(kafka_bootstrap)
    (record,) = (r for offset, r in journal(reader, MODEL, request.from_offset) if isinstance(r, Manual))
    assert (record.request, record.reason) == (request.request, "a new taxonomy")
    decided = [o for _, outputs in fold_from(reader, initial(MODEL)) for o in outputs if isinstance(o, Trigger)]
    trigger = decided[-1]
    assert (trigger.reason, trigger.offset >= request.from_offset) == ("manual", True)
    other = Refused(trigger="another", version="v0009", reason="no", time_ms=1)
    if verdict == "promoted":
        write(kafka_bootstrap, other, Promoted(trigger=trigger.id, version=trigger.version, time_ms=1))
    else:
        write(kafka_bootstrap, other, Refused(trigger=trigger.id, version=trigger.version, reason="no", time_ms=1))
    expected = RetrainAnswer(trigger.id, trigger.version, verdict)
    assert wait_for_answer(kafka_bootstrap, request, tmp_path) == expected
    save_state(reader, state_now(reader, MODEL, tmp_path), tmp_path)  # a snapshot that is past the trigger
    assert wait_for_answer(kafka_bootstrap, request, tmp_path) == expected
    reader.close()
