"""A folder of threat content: what the feeds said, as files, for training without Kafka.

    <topic>.jsonl           events, one a line, as they are on the topic: what `sx9 export content` writes
    *.json                  STIX bundles of ATT&CK, as MITRE publishes them
    *.yaml, *.yml           Nuclei templates, as their project publishes them

`read_events` reads all three, in the folder and below it, in this order: bundles by release, templates, then the
exported events, so that what was exported has the last word. Nothing there is trusted: no link is followed, sizes
are limited, and what can't be used is counted and reported while the rest goes on.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from schemas.codec import decode, encode
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import MAX_EVENT_BYTES, Event
from schemas.taxonomy import release_order
from schemas.topics import EVENT_TOPICS, Topic, topic_of
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Rejected, Unchanged
from streams.fetchers.feeds import attack, nuclei
from streams.fetchers.formats.stix import KILL_CHAINS, Domain
from streams.fetchers.sources.folder import read_unlinked, walk
from transport.files import write_atomically

log = logging.getLogger(__name__)

_KILL_CHAIN = re.compile(rb'"kill_chain_name"\s*:\s*"(mitre-[a-z-]+)"')


def write_events(folder: Path, events: Iterable[Event]) -> dict[str, int]:
    """Write the latest event of each id into a file for each topic, whole or not at all; older files go.

    Args:
        events: In order; the later of two with one id counts.

    Returns:
        Topic -> number of events.
    """
    latest: dict[str, dict[str, bytes]] = {topic.name: {} for topic in EVENT_TOPICS}
    for event in events:
        of_topic = latest[topic_of(event).name]
        of_topic.pop(event.id, None)  # it goes to the end, where its time is
        of_topic[event.id] = encode(event)
    for name, lines in latest.items():
        write_atomically(folder / f"{name}.jsonl", b"".join(line + b"\n" for line in lines.values()))
    return {name: len(lines) for name, lines in latest.items()}


def read_events(folder: Path | str, rejected: Counter[str] | None = None) -> Iterator[Event]:
    """Every event in a folder; the later of two with one id is the one that counts.

    Args:
        folder: See the top of this file.
        rejected: Gets reason -> how many records or files can't be used; they are logged in any case.

    Raises:
        BadConfiguration: There is no such folder.
    """
    root, bad = Path(folder), Counter[str]()
    if not root.is_dir():
        raise BadConfiguration(
            f"{root} is no folder: name one with threat content, or write it: sx9 export content"
        )
    paths = list(walk(root))
    yield from _bundles(root, paths, bad)
    yield from _templates(root, paths, bad)
    yield from _exported(root, paths, bad)
    if bad:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(bad.items()))
        log.warning("%s: what can't be used is left out: %s", root, reasons)
    if rejected is not None:
        rejected.update(bad)


# bundles


def _bundles(root: Path, paths: Iterable[str], bad: Counter[str]) -> Iterator[Event]:
    names = (path for path in paths if path.lower().endswith(".json"))
    for path in sorted(names, key=lambda path: (release_order(Path(path).stem), path)):
        try:
            data = read_unlinked(root / path, limits.MAX_BUNDLE_BYTES)
            outcomes = attack.parse(data, domain_of(path, data), Path(path).name).outcomes
        except BadRecord as error:
            _reject(bad, path, error)
        else:
            yield from _usable(outcomes, bad)


def domain_of(path: str, data: bytes) -> Domain:
    """The ATT&CK domain of a bundle: that in its name, else that of the kill chain in it, else Enterprise.

    >>> domain_of("ics-attack-15.1.json", b""), domain_of("x.json", b'{"kill_chain_name": "mitre-mobile-attack"}')
    ('ics-attack', 'mobile-attack')
    """
    named = (domain for domain in KILL_CHAINS if domain in Path(path).name)
    chain = _KILL_CHAIN.search(data)
    inside = (domain for domain, name in KILL_CHAINS.items() if chain and chain[1] == name.encode())
    return next(named, None) or next(inside, "enterprise-attack")


# templates


def _templates(root: Path, paths: Iterable[str], bad: Counter[str]) -> Iterator[Event]:
    if any(nuclei.is_template_path(path) for path in paths):
        yield from _usable(nuclei.parse(nuclei.folder_files(root), {}).outcomes, bad)


def _usable(outcomes: Iterable[Event | Rejected | Unchanged], bad: Counter[str]) -> Iterator[Event]:
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            _reject(bad, outcome.origin, outcome.error)
        elif not isinstance(outcome, Unchanged):
            yield outcome


# exported events


def _exported(root: Path, paths: list[str], bad: Counter[str]) -> Iterator[Event]:
    for topic in EVENT_TOPICS:
        for path in paths:
            name = Path(path).name
            if name.startswith(topic.name) and name.endswith(".jsonl") and not (root / path).is_symlink():
                with (root / path).open("rb") as file:
                    yield from _lines(file, path, topic, bad)


def _lines(file: BinaryIO, path: str, topic: Topic, bad: Counter[str]) -> Iterator[Event]:
    number = 0
    while line := file.readline(MAX_EVENT_BYTES + 2):
        number += 1
        try:
            if len(line) > MAX_EVENT_BYTES + 1:
                _skip_line(file, line)
                raise BadRecord("too-large", f"the limit of a line is {MAX_EVENT_BYTES} bytes")
            if line.strip():
                yield decode(line, topic.record)
        except BadRecord as error:
            _reject(bad, f"{path}:{number}", error)


def _skip_line(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_EVENT_BYTES)


def _reject(bad: Counter[str], origin: str, error: BadRecord) -> None:
    bad[error.reason] += 1
    log.debug("%s: %s", origin, error)
