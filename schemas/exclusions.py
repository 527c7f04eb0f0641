"""What is taken out of a journal, so that nothing is learnt from it.

feed=NAME                             what was learnt from events of a feed
entity=ID                             the examples, the node and the links of a technique, group, rule, ...
source=TOPIC[/PARTITION[/OFFSET]]     what was learnt from the events of a topic, or from one event
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import msgspec

from schemas.errors import BadConfiguration
from schemas.journal import Example, Source

FORMS = "feed=NAME, entity=ID or source=TOPIC[/PARTITION[/OFFSET]]"
FeedOf = Callable[[Source], str]
"""The feed of the event at a position; empty if it is not known."""


def recorded_feed(source: Source) -> str:
    """The feed that the journal record names; empty in older records."""
    return source.feed


class Exclusion(msgspec.Struct, frozen=True):
    """One thing to take out; see the module."""

    kind: str
    name: str

    def matches(self, example: Example, feed_of: FeedOf = recorded_feed) -> bool:
        """Whether an example comes from it."""
        if self.kind == "feed":
            return feed_of(example.source) == self.name
        if self.kind == "entity":
            return self.name in _entities(example)
        source = example.source
        return f"{source.topic}/{source.partition}/{source.offset}/".startswith(f"{self.name.rstrip('/')}/")

    def __str__(self) -> str:
        return f"{self.kind}={self.name}"


def parse_exclusions(arguments: Sequence[str], option: str = "--exclude") -> tuple[Exclusion, ...]:
    """The exclusions that an option of the command line names, sorted.

    Raises:
        BadConfiguration: One of them has no known form.

    >>> [str(found) for found in parse_exclusions(["entity=T1059"])]
    ['entity=T1059']
    """
    found = []
    for argument in arguments:
        kind, _, name = argument.partition("=")
        if kind not in ("feed", "entity", "source") or not name:
            raise BadConfiguration(f"{option} {argument}: must be {FORMS}")
        found.append(Exclusion(kind, name))
    return tuple(sorted(found, key=str))


def without(exclusions: Iterable[str], lifted: Iterable[str], added: Iterable[str] = ()) -> tuple[str, ...]:
    """What is left out once some of it is taken back and more is added, sorted.

    Raises:
        BadConfiguration: Something is taken back that is not left out.

    >>> without(("feed=a", "feed=b"), ("feed=a",))
    ('feed=b',)
    """
    known = set(exclusions)
    for name in lifted:
        if name not in known:
            raise BadConfiguration(
                f"--lift {name}: it is not left out; left out are {', '.join(sorted(known)) or 'no examples'}"
            )
    return tuple(sorted(known - set(lifted) | set(added)))


def is_excluded(example: Example, exclusions: tuple[str, ...]) -> bool:
    """Whether an example comes from what is taken out.

    >>> is_excluded(Example(source=Source("t", 0, 1, feed="f"), key="k", hash="h"), ("feed=f",))
    True
    """
    return any(exclusion.matches(example) for exclusion in _parsed(exclusions))


@lru_cache(maxsize=64)
def _parsed(exclusions: tuple[str, ...]) -> tuple[Exclusion, ...]:
    return parse_exclusions(exclusions)


def _entities(example: Example) -> set[str]:
    """Ids of what an example is about: those in its key and its group, its node, the ends of its link."""
    found = {example.key, example.key.partition(":")[2], example.group.partition(":")[2]}
    if example.node:
        found.add(example.node.id)
    if example.link:
        found |= {example.link.source, example.link.target}
    return found - {""}
