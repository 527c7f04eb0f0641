"""Which technique comes after which: derived from what groups and campaigns use, since no feed states it.

An actor's techniques are put in order of the kill chain. Each technique of one step is followed by each of the next
step that the actor has. What several actors have in common is kept, the most common first.
"""

from __future__ import annotations

import itertools
from collections import Counter

from streams.content.current import Current

KILL_CHAIN = (
    ("reconnaissance",),
    ("resource-development",),
    ("initial-access",),
    ("execution",),
    ("persistence",),
    ("privilege-escalation",),
    ("defense-evasion", "stealth", "defense-impairment", "evasion"),
    ("credential-access",),
    ("discovery",),
    ("lateral-movement",),
    ("collection",),
    ("command-and-control",),
    ("exfiltration",),
    ("impact", "inhibit-response-function", "impair-process-control"),
)
"""Tactics in the order of ATT&CK's matrix; those of one step belong together."""
MIN_ACTORS = 2
"""Actors that must have a step in common."""
MAX_NEXT = 5
"""Techniques that are kept after one."""

_STEP = {tactic: step for step, tactics in enumerate(KILL_CHAIN) for tactic in tactics}
_ACTORS = ("group", "campaign")


def followed_by(content: Current) -> dict[str, dict[str, int]]:
    """Id of a technique -> ids of those that follow it -> number of actors that use both; most common first.

    A technique with several tactics stands at its first step.
    """
    common = Counter[tuple[str, str]]()
    for entity in content.entities.values():
        if entity.kind in _ACTORS:
            steps = _steps(content, content.used_techniques.get(entity.id, ()))
            for earlier, later in itertools.pairwise(steps):
                common.update((one, other) for one in earlier for other in later)
    found: dict[str, dict[str, int]] = {}
    for (one, other), actors in sorted(common.items(), key=lambda each: (-each[1], each[0])):
        after = found.setdefault(one, {})
        if actors >= MIN_ACTORS and len(after) < MAX_NEXT:
            after[other] = actors
    return {one: after for one, after in sorted(found.items()) if after}


def _steps(content: Current, techniques: tuple[str, ...]) -> list[list[str]]:
    """The techniques of an actor by step, without empty steps."""
    by_step: dict[int, list[str]] = {}
    for id_ in content.valid_techniques(techniques):
        steps = [_STEP[tactic] for tactic in content.techniques[id_].tactics if tactic in _STEP]
        if steps:
            by_step.setdefault(min(steps), []).append(id_)
    return [by_step[step] for step in sorted(by_step)]
