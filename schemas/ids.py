"""What the ids of ATT&CK, ATLAS and CVE look like: pieces of regular expressions, for all that read ids.

A piece matches an id and nothing around it, and has no group of its own. Whoever searches says what may be beside
it: in prose a word boundary, in a tag such as `attack.t1059.001` less.
"""

from __future__ import annotations

import re

TECHNIQUE = r"T\d{4}(?:\.\d{3})?"
"""A technique or sub-technique of ATT&CK."""
ANY_TECHNIQUE = rf"(?:AML\.)?{TECHNIQUE}"
"""One of ATT&CK or ATLAS."""
CVE = r"CVE-\d{4}-\d{4,19}"
"""A CVE, as long as the CVE programme allows."""
ATTACK_OBJECT = rf"(?:TA\d{{4}}|DET\d{{4}}|AN\d{{4}}|D[SC]\d{{4}}|[GSMC]\d{{4}}|{ANY_TECHNIQUE})"
"""Anything that has an id in ATT&CK, and techniques of ATLAS."""

ID_IN_TEXT = re.compile(rf"\b(?:{CVE}|{ATTACK_OBJECT})\b", re.IGNORECASE)
"""Any of these in prose, in any case."""


def is_technique(name: str) -> bool:
    """Whether a name is the id of a technique of ATT&CK or ATLAS.

    >>> is_technique("T1059.001"), is_technique("AML.T0051"), is_technique("T10590")
    (True, True, False)
    """
    return _ANY_TECHNIQUE.fullmatch(name) is not None


def is_cve(name: str) -> bool:
    """Whether a name is the id of a CVE."""
    return _CVE.fullmatch(name) is not None


_ANY_TECHNIQUE = re.compile(ANY_TECHNIQUE)
_CVE = re.compile(CVE)
