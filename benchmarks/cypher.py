"""The Cypher file of the ontology of all feeds, loaded into a real Neo4j, twice: the second time changes nothing.

    python -m benchmarks.cypher            see --help

The feeds are those of `benchmarks.feeds`, with the last release of ATT&CK. A Neo4j of its own is started. The
graphs after the two loads are compared by a digest of all nodes and edges, with labels and properties. Writes
cypher.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.feeds import FOLDERS, RELEASES
from benchmarks.report import processor
from streams.content.ontology.files import CYPHER_FILE, write_ontology
from streams.local.services import services
from streams.settings import load_settings
from sx9_ml_models.exports import events_from_sources
from transport.neo4j import neo4j_driver

if TYPE_CHECKING:
    from neo4j import Driver

BAR_S = 60.0
"""Longest first load, seconds, on two cores."""
NODES = "MATCH (n) RETURN labels(n), properties(n)"
EDGES = (
    "MATCH (a)-[r]->(b) RETURN type(r), properties(r), labels(a), coalesce(a.key, a.id), "
    "labels(b), coalesce(b.key, b.id)"
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.cypher", description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder of the feeds")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    if not (arguments.feeds / "attack").is_dir():
        parser.error(f"{arguments.feeds} has no folder `attack`: give the folder of feeds with --feeds")
    with tempfile.TemporaryDirectory(prefix="sx9-bench-cypher-") as folder:
        report: dict[str, Any] = {"machine": processor(), "bar s": BAR_S}
        report |= _measured(arguments.feeds, Path(folder))
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = arguments.output / "cypher.json"
    written.write_text(json.dumps(report, indent=2) + "\n")
    first, second = report["loads"]
    print(
        f"{report['statements']} statements, {report['MB']:.1f} MB: {first['nodes']} nodes, {first['edges']} edges"
    )
    print(f"first load {first['seconds']:.1f} s (bar {BAR_S:g}), second load {second['seconds']:.1f} s")
    print("the second load changed nothing" if report["same"] else "the second load CHANGED the graph")
    print(f"written: {written}")
    if not report["same"]:
        raise SystemExit(1)


def _measured(feeds: Path, folder: Path) -> dict[str, Any]:
    settings = load_settings(state_dir=folder, cache_dir=folder / "cache")
    enterprise = feeds / f"attack/enterprise-attack-{RELEASES[-1]}.json"
    sources: dict[str, str | None] = {"attack-enterprise": str(enterprise)}
    sources |= {feed: str(feeds / path) for feed, path in FOLDERS.items()}
    rejected = Counter[str]()
    started_s = time.monotonic()
    summary = write_ontology(events_from_sources(sources, settings, rejected), folder / "ontology")
    written_s = time.monotonic() - started_s
    text = (folder / "ontology" / CYPHER_FILE).read_text(encoding="utf-8")
    statements = [each for each in text.split(";\n") if each.strip()]
    with services(settings, kafka=False) as endpoints, neo4j_driver(endpoints.neo4j_uri) as driver:
        loads = [_loaded(driver, statements, name) for name in ("first", "second")]
    return {
        "summary": msgspec.to_builtins(summary) | {"output": ""}, "written s": written_s, "MB": len(text) / 1e6,
        "statements": len(statements), "loads": loads, "same": loads[0]["digest"] == loads[1]["digest"],
    }  # fmt: skip


def _loaded(driver: Driver, statements: list[str], name: str) -> dict[str, Any]:
    """Load the statements one by one; how long that took, the slowest, and what the graph then is."""
    slowest, started_s = (0.0, ""), time.monotonic()
    for number, statement in enumerate(statements, 1):
        before_s = time.monotonic()
        driver.execute_query(statement)
        slowest = max(slowest, (time.monotonic() - before_s, statement[-200:]))
        if number % 50 == 0:
            print(f"{name} load: {number} of {len(statements)} statements", file=sys.stderr)
    seconds = time.monotonic() - started_s
    digests = {what: _digest(driver, query) for what, query in (("nodes", NODES), ("edges", EDGES))}
    return {
        "seconds": seconds, "slowest": slowest, "nodes": digests["nodes"][0], "edges": digests["edges"][0],
        "digest": [digest for _, digest in digests.values()],
    }  # fmt: skip


def _digest(driver: Driver, query: str) -> tuple[int, str]:
    """The number of rows of a query, and a sum of their hashes, in any order."""
    count = total = 0
    with driver.session() as session:
        for record in session.run(query):
            row = json.dumps(record.values(), sort_keys=True, default=str).encode()
            total = (total + int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big")) % 2**64
            count += 1
    return count, f"{total:016x}"


if __name__ == "__main__":
    main()
