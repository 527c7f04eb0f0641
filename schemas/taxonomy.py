"""Taxonomies: the sets of labels, by name and release.

ATT&CK renames, splits and retires tactics between releases, so a label has a meaning only together with its
taxonomy. A taxonomy is written `<name>/<release>`, such as `enterprise-attack/15.1`.
"""

from __future__ import annotations

import re

_RELEASE = re.compile(r"\d+")

SEVERITIES = ("info", "low", "medium", "high", "critical")
"""Severities of Nuclei templates, from the lowest to the highest."""
_SEVERITY = "severity:"


def severity_label(severity: str) -> str:
    """The label of a severity; a tactic's label is its name in ATT&CK, without a prefix.

    >>> severity_label("high")
    'severity:high'
    """
    return f"{_SEVERITY}{severity}"


def is_severity(label: str) -> bool:
    """Whether a label is a severity, not a tactic."""
    return label.startswith(_SEVERITY)


def tactic_labels(tactics: tuple[str, ...]) -> tuple[str, ...]:
    """The tactics of an event as labels, without those that would read as a severity.

    >>> tactic_labels(("impact", "severity:high"))
    ('impact',)
    """
    if not any(map(is_severity, tactics)):
        return tactics
    return tuple(tactic for tactic in tactics if not is_severity(tactic))


def taxonomy(name: str, release: str) -> str:
    """The name of a taxonomy with its release.

    >>> taxonomy("enterprise-attack", "15.1")
    'enterprise-attack/15.1'
    """
    return f"{name}/{release or 'unknown'}"


def release_order(release: str) -> tuple[int, ...]:
    """A sort key for releases: by number, not by letter.

    >>> sorted(["16.1", "9.0", "15.1"], key=release_order)
    ['9.0', '15.1', '16.1']
    """
    return tuple(int(number) for number in _RELEASE.findall(release))
