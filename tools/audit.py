"""Whether a package or jar of the lock files has a known vulnerability, by the database of OSV.

    tools/bill_of_materials.py ──package URLs──> OSV ──> ids ──> those that nobody has accepted

`python -m tools.audit` (`make audit`). What is known and accepted, with the reason, is in
`requirements/accepted-vulnerabilities.txt`. Exit codes: 1, something was found; 2, OSV does not answer, so nothing
is known. `OSV_URL` names a mirror of its API.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tools.bill_of_materials import components

URL = "https://api.osv.dev"
ACCEPTED = Path(__file__).parents[1] / "requirements" / "accepted-vulnerabilities.txt"
BATCH = 500
"""Package URLs of one question; OSV takes up to 1,000."""
TIMEOUT_S = 60.0
FOUND, AWAY = 1, 2
"""Exit codes."""


def vulnerabilities(purls: Sequence[str], url: str = URL) -> dict[str, list[str]]:
    """Package URL -> ids of its known vulnerabilities; those without any are left out.

    Args:
        purls: Package URLs.
        url: Of OSV.

    Raises:
        httpx.HTTPError, ValueError: It does not answer, or with something else.
    """
    found: dict[str, list[str]] = {}
    pending = [(purl, "") for purl in purls]
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        while pending:
            asked, pending = pending[:BATCH], pending[BATCH:]
            answer = client.post("/v1/querybatch", json={"queries": [_query(*each) for each in asked]})
            answer.raise_for_status()
            for (purl, _), result in zip(asked, answer.json()["results"], strict=True):
                found.setdefault(purl, []).extend(each["id"] for each in result.get("vulns", ()))
                if more := result.get("next_page_token"):
                    pending.append((purl, more))
    return {purl: sorted(ids) for purl, ids in found.items() if ids}


def _query(purl: str, page_token: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"package": {"purl": purl.partition("?")[0]}}
    return asked | {"page_token": page_token} if page_token else asked


def accepted(text: str) -> dict[str, str]:
    """Id -> why it is accepted: a line is an id and the reason.

    >>> accepted("# id, reason\\nGHSA-1 not reached: only the tests use it\\n")
    {'GHSA-1': 'not reached: only the tests use it'}

    Raises:
        ValueError: An id has no reason.
    """
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for words in lines:
        if len(words) < 2:
            raise ValueError(f"{ACCEPTED.name}: {words[0]} has no reason: write it behind the id")
    return {words[0]: words[1] for words in lines}


def report(found: Mapping[str, Sequence[str]], known: Mapping[str, str]) -> tuple[list[str], bool]:
    """Lines for a person, and whether something is new: an id that nobody has accepted."""
    lines, is_new = [], False
    for purl, ids in sorted(found.items()):
        for id_ in ids:
            lines.append(f"{purl}: {id_}" + (f" (accepted: {known[id_]})" if id_ in known else ""))
            is_new = is_new or id_ not in known
    gone = sorted(known.keys() - {id_ for ids in found.values() for id_ in ids})
    return [*lines, *(f"{id_} is accepted and no longer found: remove its line" for id_ in gone)], is_new


def main() -> int:
    """Ask about every component, print what was found; the exit code."""
    url = os.environ.get("OSV_URL", URL)
    purls = [each.purl for each in components()]
    print(f"asking {url} about {len(purls)} packages and jars", file=sys.stderr)
    try:
        found = vulnerabilities(purls, url)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        print(
            f"{url} gave no answer ({type(error).__name__}: {error}): nothing is known of {len(purls)} packages "
            "and jars. Try again with a network, or set OSV_URL to a mirror",
            file=sys.stderr,
        )
        return AWAY
    lines, is_new = report(found, accepted(ACCEPTED.read_text(encoding="utf-8")))
    print("\n".join(lines or ["no known vulnerability"]))
    return FOUND if is_new else 0


if __name__ == "__main__":
    sys.exit(main())
