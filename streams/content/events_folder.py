"""A folder of threat content: the events of the feeds as files, for training without Kafka.

    <topic>*.jsonl          events, one per line, as they are on the topic; of `sx9 export content`, or of a fetch
    *.json                  STIX bundles of ATT&CK, as MITRE publishes them
    <feed's folder>/        the files of a feed, as its project publishes them: `sigma/`, `atomic-red-team/`, ...
    *.yaml, *.yml           outside of these: Nuclei templates, Sigma rules and Atomic tests, each for what it is

`read_events` reads all of them from the folder and its subfolders, in this order: bundles by the release inside
them, feeds, other files, exported events, so that an exported event replaces another with the same id. Of several
full releases of a domain only the last is read. `source_names.FOLDERS` says which folder is whose. Files are not
trusted: no link is followed, sizes are limited, and items that can't be used are counted and logged while the rest
is read. What is hidden is not read.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.codec import decode, encode
from schemas.encoding import EncodedEvent
from schemas.errors import BadConfiguration, BadRecord
from schemas.events import MAX_EVENT_BYTES, Event, Technique
from schemas.topics import EVENT_TOPICS, Topic, topic_of
from streams.content.source_names import FOLDERS, INDEXES, RAW_FILES
from streams.fetchers.base import limits
from streams.fetchers.base.feed import FeedSpec, FeedState, LeftOut, Outcome, RejectedItem, no_progress
from streams.fetchers.base.feed_folder import EVENTS, STATE
from streams.fetchers.base.labels import (
    OTHER_RELEASE,
    KnownTechnique,
    Techniques,
    in_current_words,
    known_technique,
)
from streams.fetchers.feeds import atomic, attack, nuclei, sigma
from streams.fetchers.feeds.registry import FEEDS
from streams.fetchers.formats.stix import KILL_CHAINS, Domain
from streams.fetchers.sources.file_tree import ParseFile, folder_files, parse_files
from streams.fetchers.sources.folder import read_without_links, walk
from transport.files import write_atomically

log = logging.getLogger(__name__)

_KILL_CHAIN = re.compile(rb'"kill_chain_name"\s*:\s*"(mitre-[a-z-]+)"')


def write_events(folder: Path, events: Iterable[Event]) -> dict[str, int]:
    """Write the latest event of each id into one file per topic. Each file is replaced as a whole.

    Args:
        folder: Created if missing.
        events: In order; of two events with one id the later is written.

    Returns:
        Topic -> number of events; 0 for a topic without events, whose file is empty.
    """
    latest: dict[str, dict[str, bytes]] = {topic.name: {} for topic in EVENT_TOPICS}
    for event in events:
        of_topic = latest[topic_of(event).name]
        of_topic.pop(event.id, None)  # the latest version moves to the end
        of_topic[event.id] = encode(event)
    for name, lines in latest.items():
        write_atomically(folder / f"{name}.jsonl", b"".join(line + b"\n" for line in lines.values()))
    return {name: len(lines) for name, lines in latest.items()}


def read_events(folder: Path | str, rejected: Counter[str] | None = None) -> Iterator[Event]:
    """All events in a folder; of two events with one id the later is the valid one.

    Args:
        folder: See the docstring of this module.
        rejected: Updated with reason -> number of items that can't be used, or whose tactics are set aside
            (`labels.OTHER_RELEASE`); they are logged in any case.

    Raises:
        BadConfiguration: There is no such folder.
    """
    root, reasons = Path(folder), Counter[str]()
    if not root.is_dir():
        raise BadConfiguration(
            f"{root} is not a folder: give a folder with threat content, or write one: sx9 export content"
        )
    paths = [path for path in walk(root) if not any(part.startswith(".") for part in path.split("/"))]
    folders = _folders_of_feeds(paths)
    others = [path for path in paths if not any(path.startswith(f"{folder}/") for folder in folders)]
    techniques: dict[str, KnownTechnique] = {}
    for event in _bundle_events(root, [path for path in others if _can_be_a_bundle(root, path)], reasons):
        if isinstance(event, Technique):
            techniques[event.id] = known_technique(event)
        yield event
    yield from _feed_events(root, folders, techniques, reasons)
    yield from _other_events(root, others, techniques, reasons)
    yield from _exported_events(root, paths, reasons)
    if reasons:
        numbers = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
        log.warning("%s: what can't be used is left out or set aside: %s", root, numbers)
    if rejected is not None:
        rejected.update(reasons)


# bundles


def _bundle_events(root: Path, paths: Iterable[str], reasons: Counter[str]) -> Iterator[Event]:
    for path, domain in _bundles(root, paths):
        try:
            data = read_without_links(root / path, limits.MAX_RESOURCE_BYTES)
            outcomes = attack.parse(data, domain, Path(path).name).outcomes
        except BadRecord as error:
            _reject(reasons, path, error)
        else:
            yield from _usable(outcomes, reasons)


def _can_be_a_bundle(root: Path, path: str) -> bool:
    """Whether a JSON file is none that `threat_content_fetcher.py` made or has read into events already."""
    feed = next((feed for feed, name in RAW_FILES.items() if name == path), "")
    is_read = bool(feed) and (root / STATE / f"{feed}.json").is_file()
    return path.lower().endswith(".json") and path not in INDEXES and not is_read


def _bundles(root: Path, paths: Iterable[str]) -> Iterator[tuple[str, Domain]]:
    """The bundles with their domains, in their order; of the full releases of a domain only the last."""
    of_domain: dict[Domain, list[str]] = {}
    for path in sorted(paths):
        domain = domain_of(path, _read(root, path))
        of_domain.setdefault(domain, []).append(path)
    for domain, of_one in of_domain.items():
        several = len(of_one) > 1
        editions = sorted((_edition(root, path, domain) if several else attack.Edition(), path) for path in of_one)
        older_releases = [path for edition, path in editions if edition.is_complete][:-1]
        yield from ((path, domain) for _, path in editions if path not in older_releases)


def _edition(root: Path, path: str, domain: Domain) -> attack.Edition:
    try:
        return attack.edition(_read(root, path), domain, Path(path).name)
    except BadRecord:  # it is rejected when it is parsed
        return attack.Edition()


def _read(root: Path, path: str) -> bytes:
    """The bytes of a bundle; none if it can't be read, which is rejected when it is parsed."""
    try:
        return read_without_links(root / path, limits.MAX_RESOURCE_BYTES)
    except BadRecord:
        return b""


def domain_of(path: str, data: bytes) -> Domain:
    """The ATT&CK domain of a bundle: from the file name, else from the first kill chain in it, else Enterprise.

    Args:
        path: Its file.
        data: Its bytes.

    >>> domain_of("ics-attack-15.1.json", b""), domain_of("x.json", b'{"kill_chain_name": "mitre-mobile-attack"}')
    ('ics-attack', 'mobile-attack')
    """
    chain = _KILL_CHAIN.search(data)
    by_name = [domain for domain in KILL_CHAINS if domain in Path(path).name]
    by_chain = [domain for domain, name in KILL_CHAINS.items() if chain and chain[1] == name.encode()]
    return next(iter(by_name + by_chain), "enterprise-attack")


# the feeds


def _folders_of_feeds(paths: Iterable[str]) -> dict[str, FeedSpec]:
    """Folder with the files of a feed -> the feed; the outermost folder of a path counts."""
    owners = {name: FEEDS[feed] for feed, names in FOLDERS.items() for name in names}
    found: dict[str, FeedSpec] = {}
    for path in paths:
        parts = path.split("/")
        if parts[0] == EVENTS:
            continue
        for depth, part in enumerate(parts[:-1], 1):
            if part.lower() in owners:
                found["/".join(parts[:depth])] = owners[part.lower()]
                break
    return found


def _feed_events(
    root: Path, folders: Mapping[str, FeedSpec], techniques: Techniques, reasons: Counter[str]
) -> Iterator[Event]:
    for folder, spec in folders.items():
        try:
            batch = spec.read(str(root / folder), FeedState(), root, no_progress)
        except BadConfiguration as error:  # a folder that only has the feed's name
            log.info("%s: nothing of %s is in it: %s", folder, spec.name, error)
            continue
        outcomes = batch.outcomes or ()
        yield from _usable(
            in_current_words(outcomes, techniques) if spec.labels_by_technique else outcomes, reasons
        )


def _other_events(
    root: Path, paths: Iterable[str], techniques: Techniques, reasons: Counter[str]
) -> Iterator[Event]:
    """The events of YAML files that are in no feed's folder."""
    own = {path for path in paths if nuclei.is_template_path(path)}
    if own:
        outcomes = parse_files(folder_files(root, own.__contains__), {}, _parse_by_content, nuclei.NAME).outcomes
        yield from _usable(in_current_words(outcomes, techniques), reasons)


def _parse_by_content(data: bytes, path: str, release: str) -> Event | Sequence[Event]:
    for key, parse in _PARSER_BY_KEY.items():
        if re.search(rb"^" + key + rb"\s*:", data, re.MULTILINE):
            return parse(data, path, release)
    return nuclei.parse_template(data, path, release)


_PARSER_BY_KEY: Mapping[bytes, ParseFile] = {
    b"info": nuclei.parse_template,
    b"atomic_tests": atomic.parse_tests,
    b"detection": sigma.parse_rule,
}
"""Key of a YAML file -> the parser of the files that have it."""


def _usable(outcomes: Iterable[Outcome], reasons: Counter[str]) -> Iterator[Event]:
    for outcome in outcomes:
        if isinstance(outcome, RejectedItem):
            _reject(reasons, outcome.origin, outcome.error)
        elif isinstance(outcome, EncodedEvent):
            yield outcome.event
        elif isinstance(outcome, LeftOut) and outcome.reason == OTHER_RELEASE:
            reasons[OTHER_RELEASE] += 1


# exported events


def _exported_events(root: Path, paths: list[str], reasons: Counter[str]) -> Iterator[Event]:
    for topic in EVENT_TOPICS:
        for path in paths:
            name = Path(path).name
            if name.startswith(topic.name) and name.endswith(".jsonl") and not (root / path).is_symlink():
                with (root / path).open("rb") as file:
                    yield from _lines(file, path, topic, reasons)


def _lines(file: BinaryIO, path: str, topic: Topic, reasons: Counter[str]) -> Iterator[Event]:
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
            _reject(reasons, f"{path}:{number}", error)


def _skip_line(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_EVENT_BYTES)


def _reject(reasons: Counter[str], origin: str, error: BadRecord) -> None:
    reasons[error.reason] += 1
    log.debug("%s: %s", origin, error)
