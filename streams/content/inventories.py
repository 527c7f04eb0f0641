"""Inventories of tools for other programs: the packages of Kali Linux, and the exploits of Exploit-DB. Pure.

events of `kali-tools` ──> {"tools": [{name, package, homepage, git, categories, ...}], "categories": {...}}
events of `exploitdb`  ──> {"exploits": [{id, file, description, platform, type, ...}], "cves": {...}}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.events import Entity

KALI, EXPLOITDB = "kali-tools", "exploitdb"


def kali_tools_inventory(entities: Iterable[Entity]) -> dict[str, Any]:
    """The tools by name, and category -> names of its packages."""
    found = sorted((each for each in entities if each.feed == KALI), key=lambda each: each.id)
    categories = ((category, each.external_id) for each in found for category in each.tags)
    return {"tools": [_tool(each) for each in found], "categories": _grouped(categories)}


def exploitdb_index(entities: Iterable[Entity]) -> dict[str, Any]:
    """The exploits by number, and CVE -> numbers of its exploits."""
    found = sorted((each for each in entities if each.feed == EXPLOITDB), key=_number)
    cves = ((cve, _edb(each)) for each in found for cve in each.cves)
    return {"exploits": [_exploit(each) for each in found], "cves": _grouped(cves)}


def _tool(each: Entity) -> dict[str, Any]:
    homepage, git = (*each.references, "", "")[:2]
    return {
        "name": each.name, "package": each.external_id, "description": each.text, "homepage": homepage, "git": git,
        "categories": list(each.tags), "architectures": list(each.platforms),
    }  # fmt: skip


def _exploit(each: Entity) -> dict[str, Any]:
    return {
        "id": _edb(each), "file": each.path, "description": each.name, "platform": "".join(each.platforms[:1]),
        "type": each.category, "author": each.author, "date": each.date, "cves": list(each.cves),
        "verified": "verified" in each.tags,
    }  # fmt: skip


def _edb(each: Entity) -> str:
    return each.external_id.removeprefix("EDB-")


def _number(each: Entity) -> tuple[int, str]:
    return len(_edb(each)), _edb(each)


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(sorted(found.items()))
