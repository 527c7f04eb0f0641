"""`python -m benchmarks.backtest`: a backtest of 1,000,000 journal records, beside a loop that only decodes them.

Each side runs in a process of its own on one core, and reports its processor time and its peak of memory. The
journal is made of texts like those of ATT&CK procedures, with labels that change, edits, and ticks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from schemas.codec import encode
from schemas.journal import Example, PolicyChange, Record, Source, Tick, key_hash
from schemas.models import MODELS, model_spec
from schemas.topics import JOURNAL
from streams.core.backtest import Backtest
from sx9_ml_models.backtest.replay import feed
from transport.partition_file import PartitionFile
from transport.records import decoded

MODEL = MODELS[0]
LABELS = ("execution", "persistence", "discovery", "collection", "impact", "stealth", "lateral-movement")
START_MS = 1_600_000_000_000
TICK_EVERY, TICK_MS = 100, 60_000
TEXT = (
    "has used PowerShell to download and execute a payload from a remote server during operations against targets"
)


def records(count: int) -> Iterator[Record]:
    """So many records: one in a hundred is a tick, and one example in ten is an edit of an earlier one."""
    yield PolicyChange(model_spec(MODEL).policy)
    for number in range(1, count):
        if number % TICK_EVERY == 1:
            yield Tick(START_MS + number // TICK_EVERY * TICK_MS)
            continue
        entity = number // 2 if number % 10 == 0 else number
        label = LABELS[(number + key_hash(str(number // 50_000))) % (3 + number // 100_000 % 5)]
        yield Example(
            source=Source("threat.relationships.v1", 0, number, START_MS + number),
            key=f"relationship:relationship--70f3eaca-179d-4412-ad32-{entity:012d}",
            hash=f"{number:016x}",
            text=f"Actor {entity} {TEXT}.",
            labels=(label,),
            taxonomy="enterprise-attack/17.1",
        )


def write_journal(path: Path, count: int) -> None:
    """Write the records to a file that `PartitionFile` reads."""
    with path.open("wb") as file:
        for offset, record in enumerate(records(count)):
            file.write(b'{"offset":%d,"timestamp":%d,"value":%s}\n' % (offset, START_MS, encode(record)))


def decode_only(log: PartitionFile) -> int:
    """Read and decode every record, and do nothing with it."""
    found = 0
    for messages in log.read(0, log.end()):
        for _ in decoded(messages, Record, log.topic, log.partition):
            found += 1
    return found


def backtest(log: PartitionFile) -> int:
    """Backtest the default policy with answers of the backtest."""
    return feed(log, [Backtest(MODEL, model_spec(MODEL).policy, 600_000)])


SIDES = {"decode": decode_only, "backtest": backtest}


def side(name: str, path: Path) -> None:
    """Run one side, and print what it took as JSON."""
    log = PartitionFile(path, JOURNAL.name, 0)
    started_s = time.process_time()
    found = SIDES[name](log)
    seconds = time.process_time() - started_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"records": found, "seconds": round(seconds, 2), "peak_mb": round(peak_mb)}))


def main() -> None:
    """Make the journal, run both sides on a tenth of it and on all of it, and print the ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.backtest", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="journal records, at least 10")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side(arguments.side, arguments.file)
        return
    with tempfile.TemporaryDirectory(prefix="sx9-bench-") as folder:
        for count in (arguments.records // 10, arguments.records):
            file = Path(folder) / f"{count}.jsonl"
            write_journal(file, count)
            found = {name: _in_process(name, file) for name in SIDES}
            ratio = found["decode"]["seconds"] / found["backtest"]["seconds"]
            print(json.dumps(found | {"ratio": round(ratio, 2)}), flush=True)


def _in_process(name: str, file: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.backtest", "--side", name, "--file", str(file)]
    measured: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return measured


if __name__ == "__main__":
    main()
