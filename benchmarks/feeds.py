"""All feeds of a folder, parsed and published from nothing, and again; beside pySigma and the `stix2` library.

    python -m benchmarks.feeds            see --help; `make bench-feeds` makes the venv of the other sides first

A real Kafka is started for it. Each run of the fetchers is a process of its own, so that its memory is its own; the
time of a run is that of its fetches, without starting Python. The ratios are of processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import yaml_parsing
from benchmarks.report import processor
from streams.fetchers.base.clients import KafkaClients
from streams.fetchers.base.feed import RejectedItem
from streams.fetchers.base.runner import FetchFailure, parse_events, try_fetch
from streams.local.services import environment_of, services
from streams.settings import Settings, load_settings
from transport.logins import use_kafka_login
from transport.topics import create_topics

RELEASES = ("15.1", "16.1", "17.1")
FOLDERS = {
    "atlas": "atlas", "nuclei-templates": "nuclei-templates", "sigma": "sigma", "cisa-kev": "kev",
    "atomic-red-team": "atomic-red-team", "caldera": "stockpile", "car": "car", "lolbas": "LOLBAS",
    "gtfobins": "GTFOBins", "loldrivers": "LOLDrivers", "hijacklibs": "HijackLibs", "wadcoms": "WADComs",
    "engage": "engage", "awesome-osint": "awesome-osint", "osint-framework": "osint-framework",
    "sherlock": "sherlock", "annoctr": "annoctr",
}  # fmt: skip
"""Feed -> its folder in the folder of feeds, beside `attack`. As in `sx9 fetch`, techniques come first."""
BARS = {
    "first s": 90.0, "memory MB": 1_000.0, "second s": 3.0, "pysigma ratio": 5.0, "stix2 ratio": 5.0,
    "yaml ratio": yaml_parsing.BAR,
}  # fmt: skip
PEERS = Path(".tools/feeds/bin/python")


class Run(msgspec.Struct):
    """One run of all fetches in a process: the time on the clock, that of the processor, and the peak of memory."""

    seconds: float
    cpu_s: float
    memory_mb: float
    published: int
    dead_letters: int
    by_feed: dict[str, float]


def main() -> None:
    """Run the benchmark, or one run of it in a process of its own."""
    arguments = _parse()
    if arguments.run:
        print(msgspec.json.encode(_fetch_all(arguments)).decode())
        return
    if not arguments.peers.exists():
        raise SystemExit(f"{arguments.peers} does not exist: `make bench-feeds` creates it")
    machine = processor()
    with tempfile.TemporaryDirectory(prefix="sx9-bench-feeds-") as folder:
        settings = load_settings(state_dir=Path(folder), cache_dir=Path(folder) / "cache")
        with services(settings, neo4j=False) as endpoints:
            create_topics(endpoints.kafka_bootstrap)
            first, second = (_run(run, arguments, folder, endpoints.kafka_bootstrap) for run in ("first", "second"))
        ours = _parse_alone(arguments.feeds, settings)
    peers, yaml = _peers(arguments), yaml_parsing.measure(arguments.feeds, rounds=1)
    measured = {
        "first s": first.seconds,
        "memory MB": max(first.memory_mb, second.memory_mb),
        "second s": second.seconds,
        "pysigma ratio": peers["pysigma"]["cpu_s"] / ours["sigma"]["cpu_s"],
        "stix2 ratio": peers["stix2"]["cpu_s"] / ours["attack-enterprise"]["cpu_s"],
        "yaml ratio": yaml["ratio"],
    }
    report = {
        "machine": machine, "measured": measured, "bars": BARS, "first": msgspec.to_builtins(first),
        "second": msgspec.to_builtins(second), "ours alone": ours, "peers": peers, "yaml": yaml,
    }  # fmt: skip
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "feeds.json").write_text(json.dumps(report, indent=2) + "\n")
    _show(measured, first, second, arguments.output / "feeds.json")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.feeds", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--feeds",
        type=Path,
        default=Path("../shared/feeds"),
        help="folder with the feeds as upstream publishes them",
    )
    add("--peers", type=Path, default=PEERS, help="Python interpreter with pySigma and stix2")
    add("--output", type=Path, default=load_settings().output_dir / "benchmarks", help="folder for the results")
    add("--run", choices=("first", "second"), help=argparse.SUPPRESS)
    add("--state", type=Path, help=argparse.SUPPRESS)
    add("--kafka", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.feeds / "attack").is_dir():
        parser.error(f"{arguments.feeds} has no folder `attack`: give the folder of feeds with --feeds")
    return arguments


def _run(run: str, arguments: argparse.Namespace, state: str, bootstrap: str) -> Run:
    print(f"{run} run ...", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.feeds", "--run", run, "--feeds", str(arguments.feeds)]
    command += ["--state", state, "--kafka", bootstrap]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | environment_of(bootstrap))
    return msgspec.json.decode(done.stdout, type=Run)


def _fetch_all(arguments: argparse.Namespace) -> Run:
    """All fetches of a run: the first reads each release of ATT&CK in its turn, the second only the last."""
    settings = load_settings(state_dir=arguments.state, cache_dir=arguments.state / "cache")
    use_kafka_login(arguments.kafka, settings.kafka_login)
    releases = RELEASES if arguments.run == "first" else RELEASES[-1:]
    sources = [("attack-enterprise", f"attack/enterprise-attack-{release}.json") for release in releases]
    run, cpu_s, clients = Run(0.0, 0.0, 0.0, 0, 0, {}), time.process_time(), KafkaClients(arguments.kafka)
    for feed, path in (*sources, *FOLDERS.items()):
        started_s = time.monotonic()
        result = try_fetch(feed, str(arguments.feeds / path), settings, clients)
        if isinstance(result, FetchFailure):
            raise SystemExit(f"{feed}: {result.error}")
        seconds = time.monotonic() - started_s
        run.by_feed[feed] = run.by_feed.get(feed, 0.0) + seconds
        run.seconds += seconds
        run.published += result.published
        run.dead_letters += result.dead_letters
        print(f"  {feed}: {result.published} events, {seconds:.1f} s", file=sys.stderr)
    clients.close()
    run.cpu_s = time.process_time() - cpu_s
    run.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1_024 if sys.platform == "linux" else 2**20
    )
    return run


def _parse_alone(feeds: Path, settings: Settings) -> dict[str, Any]:
    """What the other sides do: parsing, without Kafka."""
    measured = {}
    for feed, path in (("sigma", "sigma"), ("attack-enterprise", f"attack/enterprise-attack-{RELEASES[-1]}.json")):
        started_s = time.process_time()
        events = sum(not isinstance(o, RejectedItem) for o in parse_events(feed, str(feeds / path), settings))
        measured[feed] = {"cpu_s": time.process_time() - started_s, "items": events}
    return measured


def _peers(arguments: argparse.Namespace) -> dict[str, Any]:
    print("pySigma and stix2 ...", file=sys.stderr)
    bundle = arguments.feeds / f"attack/enterprise-attack-{RELEASES[-1]}.json"
    script = Path(__file__).with_name("feeds_peers.py")
    command = [arguments.peers, script, arguments.feeds / "sigma", bundle]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def _show(measured: dict[str, float], first: Run, second: Run, written: Path) -> None:
    print(f"published {first.published}, then {second.published}; {first.dead_letters} dead letters")
    print(f"processor time: {first.cpu_s:.1f} s, then {second.cpu_s:.1f} s")
    for name, value in measured.items():
        at_least = name.endswith("ratio")
        reached = value >= BARS[name] if at_least else value <= BARS[name]
        sign = ">=" if at_least else "<="
        print(f"{name:>14}  {value:8.2f}  bar {sign} {BARS[name]:g}  {'reached' if reached else 'below its bar'}")
    print(f"written: {written}")


if __name__ == "__main__":
    main()
