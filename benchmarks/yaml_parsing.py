"""Our reading of untrusted YAML, limits included, beside `yaml.CSafeLoader` of PyYAML on the same files.

    python -m benchmarks.yaml_parsing            see --help

Both use libyaml. The ratio is of processor time, the best of several rounds, which take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import BadRecord
from streams.fetchers.base.limits import MAX_FILE_BYTES
from streams.fetchers.formats.failsafe_yaml import documents

BAR = 0.7
"""Least speed of ours, in parts of CSafeLoader's."""
ROUNDS = 3

Read = Callable[[bytes], Any]


def main() -> None:
    """Measure the files of a folder, and print the ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.yaml_parsing", description=__doc__.splitlines()[0])
    parser.add_argument("--feeds", type=Path, default=Path("../shared/feeds"), help="folder with YAML files")
    measured = measure(parser.parse_args().feeds)
    reached = "reached" if measured["ratio"] >= BAR else "below its bar"
    print(f"{measured['files']} files, {measured['bytes'] / 1e6:.1f} MB")
    print(f"ours {measured['ours_s']:.2f} s, CSafeLoader {measured['theirs_s']:.2f} s of processor time")
    print(f"yaml ratio  {measured['ratio']:.2f}  bar >= {BAR:g}  {reached}")


def measure(folder: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """The processor time of both sides, seconds, over all files that both can read; and CSafeLoader's time to ours.

    Args:
        folder: All `*.yml` and `*.yaml` below it are read.
        rounds: How often each side reads all files.
    """
    paths = sorted(path for suffix in ("yml", "yaml") for path in folder.rglob(f"*.{suffix}") if path.is_file())
    contents = [data for data in map(Path.read_bytes, paths) if len(data) <= MAX_FILE_BYTES and _both_read(data)]
    if not contents:
        raise SystemExit(f"{folder} has no YAML files: give the folder of feeds with --feeds")
    times = [(_seconds(_ours, contents), _seconds(_theirs, contents)) for _ in range(rounds)]
    ours_s, theirs_s = min(ours for ours, _ in times), min(theirs for _, theirs in times)
    return {
        "files": len(contents),
        "bytes": sum(map(len, contents)),
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "ratio": theirs_s / ours_s,
    }


def _ours(data: bytes) -> Any:
    return list(documents(data))


def _theirs(data: bytes) -> Any:
    return list(yaml.load_all(data, Loader=yaml.CSafeLoader))


def _both_read(data: bytes) -> bool:
    try:
        _ours(data)
        _theirs(data)
    except (BadRecord, yaml.YAMLError, ValueError, TypeError):
        return False
    return True


def _seconds(read: Read, contents: Sequence[bytes]) -> float:
    started_s = time.process_time()
    for data in contents:
        read(data)
    return time.process_time() - started_s


if __name__ == "__main__":
    main()
