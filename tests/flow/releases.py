"""Releases of a feed that grow: each brings events that all go to one partition of one topic.

So the order of the events in the journals is the same in every run, whatever is killed in the meantime, and with it
what the windows hold and what a version learns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from kafka.partitioner.default import murmur2

from schemas.topics import RELATIONSHIPS, TECHNIQUES
from tests.streams.fetchers.stix_bundles import Object, group, relationship, stix_id, technique, written

FEED = "attack-enterprise"
WORDS = {
    "collection": ("archive", "email", "file", "download"),
    "credential-access": ("password", "credential", "hash", "token"),
    "execution": ("powershell", "script", "shell", "command"),
    "exfiltration": ("upload", "exfiltrate", "traffic", "cloud"),
}
GROUPS = 8
NEW = 60
"""New techniques, or new relationships, of one release."""
EDITED = 40


class Releases:
    """The releases of one run, written one after the other to the same file.

    Args:
        folder: Of the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._objects: dict[str, Object] = {}
        self._techniques: list[Object] = []
        self._technique_numbers, self._relationship_numbers = count(), count()
        self._written = 0

    def next(self) -> str:
        """Write the next release; returns its path."""
        number, self._written = self._written, self._written + 1
        kinds = (self._new_techniques, self._new_relationships, self._edited_techniques)
        changed = kinds[(number - 1) % len(kinds)](number) if number else self._groups()
        self._objects |= {one["id"]: one for one in changed}
        return written(self._folder, *self._objects.values())

    def _groups(self) -> list[Object]:
        return [group(n) for n in _numbers(GROUPS, lambda n: stix_id("intrusion-set", n), 0, count())]

    def _new_techniques(self, release: int) -> list[Object]:
        found = []
        for n in _numbers(NEW, lambda n: f"T{1000 + n}", release, self._technique_numbers):
            tactic = tuple(WORDS)[len(found) % len(WORDS)]
            found.append(technique(n, tactics=(tactic,), description=_sentence(n, tactic)))
        self._techniques += found
        return found

    def _new_relationships(self, release: int) -> list[Object]:
        groups = [one for one in self._objects.values() if one["type"] == "intrusion-set"]
        found = []
        for n in _numbers(NEW, lambda n: stix_id("relationship", n), release, self._relationship_numbers):
            target = self._techniques[n % len(self._techniques)]
            text = _sentence(n, target["kill_chain_phases"][0]["phase_name"])
            found.append(relationship(n, groups[n % len(groups)], target, description=text))
        return found

    def _edited_techniques(self, release: int) -> list[Object]:
        """Some of those of the release before last, which are all of one partition, with other texts."""
        found = []
        for one in self._techniques[-NEW:][:EDITED]:
            text = f"{one['description']} It was seen again in release {release}."
            found.append(
                one
                | {"description": text, "modified": f"2022-01-01T{release // 60:02d}:{release % 60:02d}:00.000Z"}
            )
        return found


def _sentence(number: int, tactic: str) -> str:
    words = WORDS[tactic]
    return f"Adversaries {' '.join(words[(number + n) % 4] for n in range(3))} on system-{number}."


def _numbers(how_many: int, key_of: Any, partition: int, numbers: Iterator[int]) -> list[int]:
    """The next numbers whose keys go to a partition."""
    partitions = TECHNIQUES.partitions
    assert partitions == RELATIONSHIPS.partitions
    wanted = partition % partitions
    found = (n for n in numbers if (murmur2(key_of(n).encode()) & 0x7FFFFFFF) % partitions == wanted)
    return list(islice(found, how_many))
