"""The phase of HD4 of a tactic: one table (docs/decisions/2026-11-27-the-tables-of-the-dsl.md)."""

from __future__ import annotations

from collections.abc import Iterable

PHASE_OF_TACTIC = {
    # Enterprise
    "reconnaissance": "HUNT",
    "resource-development": "HUNT",
    "initial-access": "DETECT",
    "execution": "DETECT",
    "persistence": "DISABLE",
    "privilege-escalation": "DISABLE",
    "defense-evasion": "DISRUPT",
    "stealth": "DISRUPT",
    "defense-impairment": "DISRUPT",
    "credential-access": "DISRUPT",
    "discovery": "DETECT",
    "lateral-movement": "DISRUPT",
    "collection": "DISRUPT",
    "command-and-control": "DISABLE",
    "exfiltration": "DOMINATE",
    "impact": "DOMINATE",
    # ICS
    "evasion": "DISRUPT",
    "inhibit-response-function": "DOMINATE",
    "impair-process-control": "DOMINATE",
    # Mobile
    "network-effects": "DOMINATE",
    "remote-service-effects": "DOMINATE",
    # ATLAS
    "ai-model-access": "DETECT",
    "ml-model-access": "DETECT",
    "ai-attack-staging": "HUNT",
    "ml-attack-staging": "HUNT",
}
"""Short name of a tactic -> phase."""

PRIORITY = ("DOMINATE", "DISRUPT", "DISABLE", "DETECT", "HUNT")
"""Of several phases the first of these counts."""
PHASE_OF_UNKNOWN = "DETECT"
"""Of a thing without a known tactic."""
PHASE_OF_RULE = "DETECT"
PHASE_OF_EXPLOIT = "DISRUPT"

PHASE_OF_CATEGORY_WORD = (
    (("detect", "monitor"), "DETECT"),
    (("exploit", "attack"), "DISRUPT"),
    (("disable", "block"), "DISABLE"),
    (("dominate", "control"), "DOMINATE"),
)
"""Parts of the category of a tool, and its phase; the first that fits counts."""
PHASE_OF_TOOL = "HUNT"
"""Of a tool without such a category and without techniques."""


def phase_of_tactics(tactics: Iterable[str]) -> str:
    """The phase of a thing with some tactics.

    >>> phase_of_tactics(["execution", "impact"]), phase_of_tactics([])
    ('DOMINATE', 'DETECT')
    """
    phases = {PHASE_OF_TACTIC[tactic] for tactic in tactics if tactic in PHASE_OF_TACTIC}
    return next((phase for phase in PRIORITY if phase in phases), PHASE_OF_UNKNOWN)


def phase_of_tool(categories: Iterable[str], tactics: Iterable[str]) -> str:
    """The phase of a tool: from its categories, else from the tactics of its techniques.

    >>> phase_of_tool(["exploitation"], []), phase_of_tool(["forensics"], ["impact"]), phase_of_tool([], [])
    ('DISRUPT', 'DOMINATE', 'HUNT')
    """
    lower = [category.lower() for category in categories]
    for words, phase in PHASE_OF_CATEGORY_WORD:
        if any(word in category for word in words for category in lower):
            return phase
    known = [tactic for tactic in tactics if tactic in PHASE_OF_TACTIC]
    return phase_of_tactics(known) if known else PHASE_OF_TOOL
