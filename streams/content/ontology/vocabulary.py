"""Which category a thing has in the ontology, and which relation an edge is. Everything else follows from here."""

from __future__ import annotations

from schemas.events import Entity, Template
from streams.content.identity import TEST_RULE_TYPES

CATEGORIES = (
    "primitive", "hash", "database", "protocol", "framework", "cognitive", "interface", "infrastructure", "domain",
    "tactic", "technique", "detection", "mitigation", "tool", "actor", "platform",
    "campaign", "vulnerability", "indicator", "report",
)  # fmt: skip
"""The sixteen of RFC-9105, and four more, of things that are none of them."""

RELATION_TYPES = (
    "is_a", "part_of", "uses", "implements", "related_to", "supersedes",
    "belongs_to", "detects", "mitigates", "targets", "attributed_to", "mentions",
)  # fmt: skip
"""The six of RFC-9105, and six more. A relation goes from the thing that does something to what it does it to."""

CATEGORY_OF_KIND = {
    "group": "actor",
    "malware": "tool",
    "tool": "tool",
    "campaign": "campaign",
    "mitigation": "mitigation",
    "countermeasure": "mitigation",
    "engagement-activity": "mitigation",
    "tactic": "tactic",
    "data-source": "detection",
    "data-component": "detection",
    "detection-strategy": "detection",
    "analytic": "detection",
    "asset": "infrastructure",
    "matrix": "framework",
    "vulnerability": "vulnerability",
    "exploit": "tool",
    "package": "tool",
    "osint-site": "interface",
    "indicator": "indicator",
    "case-study": "report",
    "lolbin": "tool",
    "vulnerable-driver": "tool",
    "hijackable-library": "tool",
    "offensive-command": "tool",
}
"""Kind of an entity -> category. Other kinds are `domain`."""

RELATION_OF_STIX = {
    "uses": "uses",
    "mitigates": "mitigates",
    "detects": "detects",
    "subtechnique-of": "is_a",
    "attributed-to": "attributed_to",
    "targets": "targets",
}
"""STIX relationship type -> relation. Others are `related_to`."""


def category_of(event: Template | Entity) -> str:
    """The category of a template or an entity."""
    if isinstance(event, Template):
        return "tool" if event.rule_type in TEST_RULE_TYPES else "detection"
    return CATEGORY_OF_KIND.get(event.kind, "domain")


def relation_to_technique(category: str) -> str:
    """How a thing of a category is related to a technique that it names.

    >>> relation_to_technique("tool"), relation_to_technique("detection")
    ('implements', 'detects')
    """
    return {
        "tool": "implements",
        "detection": "detects",
        "mitigation": "mitigates",
        "actor": "uses",
        "campaign": "uses",
        "report": "mentions",
    }.get(category, "related_to")
