"""The severity that a text states."""

from __future__ import annotations

import pytest

from schemas.severity import KnownSeverity, StatedSeverity, base_score, stated_severity


@pytest.mark.parametrize(
    ("vector", "score"),
    [  # from the examples of FIRST and the entries of NVD
        ("/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),  # CVE-2021-44228
        ("/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),  # CVE-2014-0160
        ("/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),  # CVE-2013-1937
        ("/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),  # CVE-2013-0375
        ("/AV:L/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 8.8),
        ("/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", 0.0),
    ],
)
def test_the_base_score_of_a_vector_is_that_of_the_specification(vector: str, score: float) -> None:
    assert base_score(vector) == score


@pytest.mark.parametrize(
    ("text", "severity", "by"),
    [
        ("It is rated CVSS 9.8.", "critical", "cvss score"),
        ("a CVSS v3.1 base score of 6.5 was assigned", "medium", "cvss score"),
        ("CVSS v2.0 score: 9.3", "high", "cvss score"),
        ("CVSS score 9.8, vector CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", "high", "cvss vector"),
        ("exploits cve-2021-44228 and CVE-2020-0001", "critical", "cve"),
    ],
)
def test_a_stated_severity_is_looked_up(text: str, severity: str, by: str) -> None:
    known = {
        "CVE-2021-44228": KnownSeverity("critical", "nvd"),
        "CVE-2020-0001": KnownSeverity("low", "nvd"),
    }
    found = stated_severity(text, known)
    assert found is not None
    assert (found.severity, found.by) == (severity, by)


def test_a_cve_names_the_feed_that_gives_its_severity() -> None:
    found = stated_severity("CVE-2021-44228", {"CVE-2021-44228": KnownSeverity("critical", "nuclei-templates")})
    assert found == StatedSeverity("critical", "cve", "CVE-2021-44228 (nuclei-templates)")


@pytest.mark.parametrize(
    "text",
    [
        "APT29 used PowerShell.",
        "CVE-1999-0001 is old",
        "CVSS v3.1 defines metrics",
        "CVSS 3.1 metrics",
        "CVSS:3.1/AV:N/AC:L",
    ],
)
def test_a_text_that_states_no_severity_has_none(text: str) -> None:
    assert stated_severity(text) is None
