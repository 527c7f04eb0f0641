"""Events as feeds publish them: new entities, edits, revocations, and entities that only edges mention."""

from __future__ import annotations

from random import Random

from schemas.events import Entity, Event, NodeRef, Relationship, Technique, Template

TACTICS = ("discovery", "execution", "exfiltration", "impact", "persistence")
FIRST_MS = 1_500_000_000_000


def technique(number: int, modified_ms: int = FIRST_MS, *tactics: str, **fields: str) -> Technique:
    """T1000 plus a number."""
    return Technique(
        id=f"T{1000 + number}",
        stix_id=f"attack-pattern--{number}",
        feed="attack-enterprise",
        release="15.1",
        modified_ms=modified_ms,
        name=f"Technique {number}",
        text=f"Adversaries may do {number} at {modified_ms}.",
        tactics=tactics or ("execution",),
        domain="enterprise-attack",
        **fields,  # type: ignore[arg-type]
    )


def group(number: int, modified_ms: int = FIRST_MS, **fields: str) -> Entity:
    """A group."""
    return Entity(
        id=f"intrusion-set--{number}",
        kind="group",
        name=f"Group {number}",
        feed="attack-enterprise",
        modified_ms=modified_ms,
        **fields,  # type: ignore[arg-type]
    )


def uses(number: int, modified_ms: int = FIRST_MS, *tactics: str, **fields: str) -> Relationship:
    """Edge `number`, always between the same two."""
    return Relationship(
        id=f"relationship--{number}",
        relation="uses",
        source=NodeRef(id=f"intrusion-set--{number % 7}", kind="group", name=f"Group {number % 7}"),
        target=NodeRef(id=f"T{1000 + number % 11}", kind="technique", tactics=tactics or ("execution",)),
        feed="attack-enterprise",
        release="15.1",
        modified_ms=modified_ms,
        text=f"Group {number % 7} has done {number} since {modified_ms}.",
        domain="enterprise-attack",
        **fields,  # type: ignore[arg-type]
    )


def template(number: int, modified_ms: int = FIRST_MS) -> Template:
    """A template that names a technique and a vulnerability."""
    return Template(
        id=f"nuclei-templates:{number}",
        feed="nuclei-templates",
        name=f"Template {number}",
        severity="high",
        techniques=(f"T{1000 + number % 11}",),
        cves=(f"CVE-2024-{number}",),
        modified_ms=modified_ms,
    )


def random_events(count: int, random: Random) -> list[Event]:
    """Random events about a few entities, in random order of their dates."""
    return [_one(random) for _ in range(count)]


def _one(random: Random) -> Event:
    at = FIRST_MS + random.randrange(1_000)
    tactics = random.sample(TACTICS, random.randint(1, 2))
    status = random.choice(("active",) * 6 + ("revoked", "deprecated"))
    kind = random.randrange(10)
    if kind == 0:
        return technique(random.randrange(15), at, *tactics, status=status)
    if kind == 1:
        return group(random.randrange(9), at, status=status)
    if kind == 2:
        return template(random.randrange(9), at)
    return uses(random.randrange(120), at, *tactics, status=status)
