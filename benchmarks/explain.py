"""`python -m benchmarks.explain`: how long `sx9 explain` takes on a journal of 1,000,000 records, as a command.

    journal in a file ───> sx9 explain MODEL@VERSION, sx9 explain --example ID
    journal on Kafka  ──┘  each a first time and later, from the start of the process to its end

No trainer has run there, so on Kafka the first call copies the journal. The bar is 2 s for the calls after it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.backtest import MODEL, records, write_journal
from schemas.models import model_spec
from schemas.topics import JOURNAL, partition_of
from schemas.versions import Manifest
from schemas.windows import Trigger
from streams.core.backtest import Backtest
from streams.local.services import environment_of, services
from streams.settings import load_settings
from trainers.store import manifest as manifests
from transport.kafka import RecordProducer, producer
from transport.partition_file import PartitionFile
from transport.records import decoded
from transport.topics import create_topics

CALLS = 3
FLUSH_EVERY = 20_000


def last_trigger(journal: Path) -> Trigger:
    """The last trigger of the default policy."""
    log = PartitionFile(journal, JOURNAL.name, partition_of(MODEL))
    backtest, triggers = Backtest(MODEL, model_spec(MODEL).policy, 0), list[Trigger]()
    for messages in log.read(0, log.end()):
        for message, record in decoded(messages, JOURNAL.record, log.topic, log.partition):
            triggers = backtest.feed(message.offset, record) or triggers
    return triggers[-1]


def write_version(folder: Path, trigger: Trigger) -> None:
    """Write the manifest of the version that answers a trigger."""
    made = folder / "output/models" / MODEL / trigger.version
    made.mkdir(parents=True)
    manifest = Manifest(
        model=MODEL, version=trigger.version, trigger=trigger.id, reason=trigger.reason, parent=trigger.parent,
        decided_ms=trigger.at_ms, measures=trigger.measures, spans=trigger.spans, rehearsal=trigger.rehearsal,
        promoted=True,
    )  # fmt: skip
    manifests.write(made, manifest)


def publish(bootstrap: str, count: int) -> None:
    """Write the records to the journal topic."""
    create_topics(bootstrap)
    writer = producer(bootstrap)
    outbox = RecordProducer(writer)
    for number, record in enumerate(records(count)):
        outbox.send(JOURNAL.name, record, key=MODEL, partition=partition_of(MODEL))
        if number % FLUSH_EVERY == 0:
            outbox.flush()
    outbox.flush()
    writer.close()


def seconds(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a command takes, whose output is thrown away."""
    started_s = time.monotonic()
    command = [sys.executable, "-m", "sx9_ml_models", "explain", *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=dict(environment))
    return time.monotonic() - started_s


def measure(source: str, trigger: Trigger, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Call both commands several times, and print how long it took."""
    example = f"relationship--70f3eaca-179d-4412-ad32-{trigger.rehearsal[0]:012d}"
    asked = {"version": [f"{MODEL}@{trigger.version}"], "example": ["--example", example]}
    for name, question in asked.items():
        taken = [round(seconds([*question, *arguments], environment), 2) for _ in range(CALLS)]
        print(json.dumps({"journal": source, "asked": name, "first_s": taken[0], "later_s": taken[1:]}), flush=True)


def main() -> None:
    """Make the journal, and measure in a file and on Kafka."""
    parser = argparse.ArgumentParser(prog="benchmarks.explain", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="journal records, at least 10,000")
    parser.add_argument("--file-only", action="store_true", help="without Kafka")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sx9-bench-") as name:
        folder = Path(name)
        journal = folder / "journal.jsonl"
        write_journal(journal, arguments.records)
        trigger = last_trigger(journal)
        write_version(folder, trigger)
        environment = os.environ | {
            "SX9_OUTPUT_DIR": str(folder / "output"),
            "SX9_STATE_DIR": str(folder / "state"),
        }
        measure("file", trigger, ["--journal", str(journal)], environment)
        if arguments.file_only:
            return
        settings = load_settings(state_dir=folder / "services", tick_interval_s=0)
        with services(settings, neo4j=False) as endpoints:
            publish(endpoints.kafka_bootstrap, arguments.records)
            measure("kafka", trigger, [], environment | environment_of(endpoints.kafka_bootstrap))


if __name__ == "__main__":
    main()
