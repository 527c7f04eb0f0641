"""The severity that a text states: by a CVSS vector, by a CVSS score, or by a CVE whose severity a feed gives.

What is stated is looked up and never predicted. The base score of a vector is computed as the specifications of
CVSS 3.0 and 3.1 say (https://www.first.org/cvss/v3.1/specification-document, section 7.1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import msgspec

from schemas.ids import CVE

_CVE = re.compile(rf"\b{CVE}\b", re.IGNORECASE)
_VECTOR = re.compile(r"\bCVSS:(3\.[01])((?:/[A-Z]{1,3}:[A-Z])+)")
_SCORE = re.compile(
    r"\bCVSS(?:[\s:]*v?\s?(?P<version>[234](?:\.[01])?)\b(?!\s*/\s*10))?(?:\s+base)?(?:\s+score)?(?:\s+(?:of|is|was))?"
    r"\s*[:=(]?\s*(?P<score>10(?:\.0)?|\d\.\d)(?!\d|\.\d|/[A-Z])",
    re.IGNORECASE,
)
_METRICS: Mapping[str, Mapping[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}
"""By the scope, unchanged or changed."""


class StatedSeverity(msgspec.Struct, frozen=True):
    """A severity that was looked up.

    Attributes:
        severity: `info`, `low`, `medium`, `high` or `critical`.
        by: What states it: `cvss vector`, `cvss score`, or `cve`.
        source: The vector, the score or the CVE as the text has it; for a CVE also who gives its severity.
    """

    severity: str
    by: str
    source: str


class KnownSeverity(msgspec.Struct, frozen=True):
    """The severity of a CVE, and the feed that gives it."""

    severity: str
    feed: str


def cves_in(text: str) -> tuple[str, ...]:
    """The CVE ids of a text, in upper case, each once, in order.

    >>> cves_in("cve-2021-44228, and CVE-2021-44228 again")
    ('CVE-2021-44228',)
    """
    return tuple(dict.fromkeys(found.upper() for found in _CVE.findall(text)))


def stated_severity(text: str, known: Mapping[str, KnownSeverity] | None = None) -> StatedSeverity | None:
    """The severity that a text states, the highest if it states several of one kind.

    Args:
        text: Of any length.
        known: CVE -> its severity, for the CVEs of `cves_in(text)` that a feed gives one for. None: no feed does.

    Returns:
        By a vector, else by a score, else by a CVE; None if nothing states it.

    >>> stated_severity("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H").severity
    'critical'
    >>> stated_severity("The CVSS score is 7.5.").severity
    'high'
    """
    vectors = [(score, found[0]) for found in _VECTOR.finditer(text) if (score := base_score(found[2])) is not None]
    if vectors:
        score, vector = max(vectors)
        return StatedSeverity(band(score), "cvss vector", f"{vector} ({score:.1f})")
    scores = [(float(f["score"]), f["version"] or "", f[0]) for f in _SCORE.finditer(text) if _is_score(f)]
    if scores:
        score, version, phrase = max(scores)
        return StatedSeverity(band(score, version), "cvss score", phrase)
    order = ("info", "low", "medium", "high", "critical")
    by_feeds = known or {}
    given = [(order.index(by_feeds[cve].severity), cve) for cve in cves_in(text) if cve in by_feeds]
    if given:
        level, cve = max(given)
        return StatedSeverity(order[level], "cve", f"{cve} ({by_feeds[cve].feed})")
    return None


def is_stated(text: str) -> bool:
    """Whether a text gives its severity by a CVSS vector or score, or names a CVE, whose severity feeds give.

    >>> is_stated("Log4Shell (CVE-2021-44228)"), is_stated("An open panel of a router")
    (True, False)
    """
    return bool(_CVE.search(text)) or stated_severity(text) is not None


def _is_score(found: re.Match[str]) -> bool:
    """Whether it is not the version alone, as in "CVSS 3.1 metrics"."""
    is_version = found["score"] in ("2.0", "3.0", "3.1", "4.0")
    return not is_version or bool(found["version"]) or "score" in found[0].lower()


def band(score: float, version: str = "3.1") -> str:
    """The severity of a base score, 0 to 10, by the qualitative scale of its version of CVSS.

    >>> band(9.8), band(9.8, "2.0"), band(6.9), band(0.0)
    ('critical', 'high', 'medium', 'info')
    """
    if score >= 9.0 and not version.startswith("2"):
        return "critical"
    return "high" if score >= 7.0 else "medium" if score >= 4.0 else "low" if score > 0.0 else "info"


def base_score(metrics: str) -> float | None:
    """The base score of the metrics of a CVSS 3.0 or 3.1 vector; None if a base metric is missing or unknown.

    >>> base_score("/AV:N/AC:L/PR:L/UI:R/S:C/C:L/I:L/A:N"), base_score("/AV:N")
    (5.4, None)
    """
    values = dict(part.split(":") for part in metrics.strip("/").split("/"))
    try:
        scope = values["S"]
        privileges = _PRIVILEGES[scope][values["PR"]]
        weight = {name: levels[values[name]] for name, levels in _METRICS.items()}
    except KeyError:
        return None
    lost = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    changed = scope == "C"
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if changed else 6.42 * lost
    exploitability = 8.22 * weight["AV"] * weight["AC"] * privileges * weight["UI"]
    if impact <= 0:
        return 0.0
    return _round_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def _round_up(value: float) -> float:
    """Up to one decimal, without the errors of binary fractions (appendix A of CVSS 3.1)."""
    scaled = round(value * 100_000)
    return scaled / 100_000 if scaled % 10_000 == 0 else (math.floor(scaled / 10_000) + 1) / 10
