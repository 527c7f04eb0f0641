"""The decisions of RFC-9021's filter, as simple stated rules: no thalamic model has been trained.

gate      full_processing  if the query asks (a question mark or a word such as `how`), names an id, or is long
          reflexive        otherwise: what the classifier says is the answer
pathway   creative         if it asks to write something
          operational      if it asks how to detect, mitigate, hunt, respond
          threat_analysis  if it names a technique, actor or CVE, or is long enough to be a report
          informational    otherwise
priority  the severity that the classifier gives; `info` and `low` are low
"""

from __future__ import annotations

import re
from typing import Literal

from schemas.ids import ID_IN_TEXT

Gate = Literal["reflexive", "full_processing"]
Pathway = Literal["threat_analysis", "operational", "informational", "creative"]
Priority = Literal["low", "medium", "high", "critical"]
PATHWAYS: tuple[Pathway, ...] = ("threat_analysis", "operational", "informational", "creative")

LONG_WORDS = 30
_ASKS = re.compile(
    r"\?|^\s*(?:how|what|which|why|who|when|where|explain|describe|list|show|is|are|can|does)\b", re.I
)
_WRITES = re.compile(r"\b(?:write|draft|generate|compose|create)\b", re.I)
_ACTS = re.compile(
    r"\b(?:detect\w*|mitigat\w*|hunt\w*|respon[ds]\w*|block\w*|prevent\w*|contain\w*|harden\w*|monitor\w*)\b", re.I
)
_PRIORITIES: dict[str, Priority] = {"medium": "medium", "high": "high", "critical": "critical"}


def gate(query: str) -> Gate:
    """Whether a query needs more than the classifier.

    >>> gate("How do I detect T1055?"), gate("powershell downloads a file")
    ('full_processing', 'reflexive')
    """
    long = len(query.split()) > LONG_WORDS
    return "full_processing" if long or ID_IN_TEXT.search(query) or _ASKS.search(query) else "reflexive"


def pathway(query: str, wanted: str = "auto") -> Pathway:
    """What kind of answer a query wants.

    Args:
        query: The query.
        wanted: One of `PATHWAYS`, which then holds; anything else is decided here.

    >>> pathway("Write a rule"), pathway("How do I detect T1055?"), pathway("Tell me of APT29 (G0016)")
    ('creative', 'operational', 'threat_analysis')
    """
    for each in PATHWAYS:
        if wanted == each:
            return each
    if _WRITES.search(query):
        return "creative"
    if _ACTS.search(query):
        return "operational"
    if ID_IN_TEXT.search(query) or len(query.split()) > LONG_WORDS:
        return "threat_analysis"
    return "informational"


def priority(severity: str | None) -> Priority:
    """The priority of a severity.

    >>> priority("critical"), priority("info"), priority(None)
    ('critical', 'low', 'low')
    """
    return _PRIORITIES.get(severity or "", "low")
