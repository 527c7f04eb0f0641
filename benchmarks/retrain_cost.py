"""`python -m benchmarks.retrain_cost`: what a retrain reads and derives, after 10,000 and after 1,000,000 records.

    techniques and relationships, edited again and again ──> journal ──> local copy and trigger
                                                        └──> dataset ──> graph, contexts

Training itself is left out: it grows with what it is given. Each side runs in a process of its own, and reports the
processor time of the best of several runs, and the bytes that it read from the local copy (on Linux).
With `--entities` the number of entities that stand can be changed: the graph and the contexts have all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from schemas.codec import encode
from schemas.events import Event, NodeRef, Relationship, Technique
from schemas.journal import PolicyChange, Record, Source, Tick, key_hash
from schemas.models import MODELS, model_spec
from schemas.topics import JOURNAL, partition_of
from schemas.windows import Trigger
from streams.core.backtest import Backtest
from streams.core.projections.base import project
from trainers.core.dataset import Dataset, run_id
from trainers.store.journal_copy import JournalCopy
from trainers.store.journal_reader import JournalReader
from transport.partition_file import PartitionFile
from transport.partition_log import PartitionLog
from transport.records import ConsumerRecord, decoded

TACTICS = ("execution", "persistence", "discovery", "collection", "impact", "stealth", "lateral-movement")
START_MS = 1_600_000_000_000
TICK_EVERY, TICK_MS = 100, 3_600_000
NEW_RECORDS = 1_000
"""Records at the end of the journal whose copying is measured."""
RUNS = 5
SHORT = 10_000
"""Records of the short journal."""
TEXT = "Adversaries may use it to run commands on remote systems, and to hide what they do from those who defend."


def event_of(entity: int, entities: int) -> Event:
    """A technique, or what uses or mitigates one: a fifth of the entities are techniques."""
    number = entity // 5
    if entity % 5 == 0:
        return Technique(
            id=f"T{number:06d}", feed="bench", stix_id=f"attack-pattern--{number}", name=f"Technique {number}",
            text=f"{TEXT} {number}", tactics=(TACTICS[number % len(TACTICS)],), domain="enterprise-attack",
            release="17.1",
        )  # fmt: skip
    kind, relation = ("group", "uses") if entity % 2 else ("mitigation", "mitigates")
    target = key_hash(str(entity)) % (entities // 5)
    return Relationship(
        id=f"relationship--{entity:012d}", feed="bench", relation=relation, text=f"{TEXT} {entity}",
        domain="enterprise-attack", release="17.1",
        source=NodeRef(id=f"{kind}--{entity % 300}", kind=kind, name=f"{kind} {entity % 300}"),
        target=NodeRef(
            id=f"T{target:06d}", kind="technique", name=f"Technique {target}",
            tactics=(TACTICS[target % len(TACTICS)],),
        ),
    )  # fmt: skip


def records(model: str, count: int, entities: int) -> Iterator[Record]:
    """So many records: all examples of the entities, then edits of them in an order that a hash decides."""
    source = Source("bench", 0, 0)
    found = [project(model, event_of(entity, entities), source) for entity in range(entities)]
    examples = [example for example in found if example]
    yield PolicyChange(model_spec(model).policy)
    for number in range(1, count):
        if number % TICK_EVERY == 1:
            yield Tick(START_MS + number // TICK_EVERY * TICK_MS)
            continue
        at = number if number < len(examples) else key_hash(str(number)) % len(examples)
        source = Source("threat.relationships.v1", 0, number, START_MS + number)
        yield msgspec.structs.replace(examples[at], source=source, hash=f"{number:016x}")


def write_journal(path: Path, model: str, count: int, entities: int) -> None:
    """Write the records to a file that `PartitionFile` reads."""
    with path.open("wb") as file:
        for offset, record in enumerate(records(model, count, entities)):
            file.write(b'{"offset":%d,"timestamp":%d,"value":%s}\n' % (offset, START_MS, encode(record)))


def last_trigger(model: str, log: PartitionLog) -> Trigger:
    """The last trigger of the default policy, whose versions are all promoted at once."""
    backtest, triggers = Backtest(model, model_spec(model).policy, 0), list[Trigger]()
    for messages in log.read(0, log.end()):
        for message, record in decoded(messages, JOURNAL.record, log.topic, log.partition):
            triggers = backtest.feed(message.offset, record) or triggers
    return triggers[-1]


class Beginning:
    """The records of a log before an offset."""

    def __init__(self, log: PartitionLog, end: int) -> None:
        self.topic, self.partition = log.topic, log.partition
        self._log, self._end = log, end

    def end(self) -> int:
        """See `PartitionLog.end`."""
        return self._end

    def read(self, start: int, end: int) -> Iterator[Sequence[ConsumerRecord]]:
        """See `PartitionLog.read`."""
        return self._log.read(start, end)


def prepare(folder: Path, model: str, count: int, entities: int) -> dict[str, float]:
    """Make a journal, its copy and its last trigger. Returns how long the last records took to copy."""
    journal, copy_file = folder / f"{model}.{count}.jsonl", folder / f"{model}.{count}.sqlite"
    write_journal(journal, model, count, entities)
    log = PartitionFile(journal, JOURNAL.name, partition_of(model))
    with contextlib.closing(JournalCopy(copy_file, Beginning(log, log.end() - NEW_RECORDS))) as copy:
        copy.catch_up()
    (folder / f"{model}.{count}.trigger").write_bytes(encode(last_trigger(model, log)))
    with contextlib.closing(JournalCopy(copy_file, log)) as copy:
        started_s = time.process_time()
        copy.catch_up()
        taken_s = time.process_time() - started_s
    journal.unlink()
    return {"copy_new_s": round(taken_s, 3)}


def derive(model: str, data: Dataset) -> None:
    """What the recipe makes of a dataset before it trains."""
    if model == "gnn-threat":
        from trainers.models.gnn.examples import graph_examples, holdout_links
        from trainers.models.gnn.graph import build_graph, link_rows

        link_rows(build_graph(graph_examples(data), holdout_links(data)))
    elif model == "phi3-mitre-lora":
        from schemas.context import MAX_CONTEXT_CHARS
        from trainers.models.phi3_lora.contexts import with_contexts

        with_contexts(data, MAX_CONTEXT_CHARS)


def side(model: str, count: int, folder: Path) -> dict[str, float]:
    """Read and derive what the run of a trigger needs."""
    from trainers.models.recipe import recipe
    from trainers.runs.execute_run import config_of, load_dataset

    trigger = msgspec.json.decode((folder / f"{model}.{count}.trigger").read_bytes(), type=Trigger)
    needs_context, config = recipe(model).NEEDS_GRAPH_CONTEXT, config_of(trigger, {})
    seconds, read, before = list[float](), 0, _bytes_read()
    for _ in range(RUNS):
        started_s = time.process_time()
        with contextlib.closing(JournalReader(folder / f"{model}.{count}.sqlite")) as journal:
            data = load_dataset(journal, trigger, context=needs_context)
        run_id(data, trigger.labels, trigger.parent, config)
        read = read or _bytes_read() - before
        derive(model, data)
        seconds.append(time.process_time() - started_s)
    found = {"new": len(data.fresh), "rehearsed": len(data.rehearsal), "standing": len(data.context)}
    return {"seconds": round(min(seconds), 4), "megabytes": round(read / 1e6, 2), **found}


def _bytes_read() -> int:
    """Bytes that this process has read from files, cached or not; 0 where the system does not say."""
    file = Path("/proc/self/io")
    return int(file.read_text().split()[1]) if file.is_file() else 0


def main() -> None:
    """Measure each model on a short and on a long journal, and print the ratios."""
    parser = argparse.ArgumentParser(prog="benchmarks.retrain_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="of the long journal, more than 10,000")
    parser.add_argument("--entities", type=int, default=5_000, help="that the journals are about")
    parser.add_argument("--model", choices=MODELS, action="append", help="only this model")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        model, count, folder = arguments.side
        print(json.dumps(side(model, int(count), Path(folder))))
        return
    with tempfile.TemporaryDirectory(prefix="sx9-bench-") as folder:
        for model in arguments.model or MODELS:
            short, long = (
                _measured(Path(folder), model, count, arguments.entities) for count in (SHORT, arguments.records)
            )
            ratios = {
                name: round(long[name] / short[name], 2) for name in ("seconds", "megabytes", "copy_new_s")
                if short[name]
            }  # fmt: skip
            print(json.dumps({"model": model, "short": short, "long": long, "ratio": ratios}), flush=True)


def _measured(folder: Path, model: str, count: int, entities: int) -> dict[str, float]:
    prepared = prepare(folder, model, count, entities)
    command = [sys.executable, "-m", "benchmarks.retrain_cost", "--side", model, str(count), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    (folder / f"{model}.{count}.sqlite").unlink()
    return measured | prepared


if __name__ == "__main__":
    main()
