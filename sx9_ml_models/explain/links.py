"""Where a person reads about what an event is about."""

from __future__ import annotations

import re

from schemas.events import Entity, Event, Relationship, Template
from schemas.ids import is_cve

_PAGES = {"T": "techniques", "G": "groups", "S": "software", "M": "mitigations", "C": "campaigns", "TA": "tactics"}
_ATTACK_ID = re.compile(r"(TA|[TGSMC])\d{4}(\.\d{3})?")


def link_of(event: Event) -> str:
    """The page of a technique, of an entity, of the target of a relationship, or the file of a template.

    Returns:
        An address; of a template, its path in the feed's repository. Empty if none is known.
    """
    if isinstance(event, Template):
        return event.path
    if isinstance(event, Relationship):
        return page_of(event.target.id)
    return page_of(event.external_id or event.id if isinstance(event, Entity) else event.id)


def page_of(name: str) -> str:
    """The page of an id of ATT&CK, or of a CVE; empty for other ids.

    >>> page_of("T1059.001"), page_of("CVE-2024-3094"), page_of("x")
    ('https://attack.mitre.org/techniques/T1059/001/', 'https://nvd.nist.gov/vuln/detail/CVE-2024-3094', '')
    """
    if found := _ATTACK_ID.fullmatch(name):
        return f"https://attack.mitre.org/{_PAGES[found[1]]}/{name.replace('.', '/')}/"
    return f"https://nvd.nist.gov/vuln/detail/{name}" if is_cve(name) else ""
