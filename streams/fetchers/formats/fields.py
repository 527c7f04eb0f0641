"""Fields of untrusted YAML and JSON: what is missing, or is something else than wanted, is empty.

mapping ──text, texts, words, numbers──> what an event takes over
texts ──techniques, cves──> the ids that they name
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from schemas.errors import BadRecord
from schemas.ids import CVE, TECHNIQUE
from streams.fetchers.formats.failsafe_yaml import documents

Fields = Mapping[str, Any]

MODULES = (__name__, "streams.fetchers.formats.failsafe_yaml")
"""What a feed that reads YAML names in its `modules`."""

_CVE = re.compile(CVE)
_TECHNIQUE = re.compile(rf"(?<![A-Z0-9]){TECHNIQUE}(?![A-Z0-9])")
_ID_CHARS = 280
_FRONT_MATTER = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*---\s*\n(.*?)^(?:---|\.\.\.)\s*$", re.DOTALL | re.MULTILINE)


def yaml_mapping(data: bytes) -> Fields:
    """The first document of a YAML file, all others read too, so that a broken file is recognised.

    Raises:
        BadRecord: `bad-yaml`; `not-an-object`: it is no mapping; `empty`: there is none.
    """
    found = [document for document in documents(data) if document is not None]
    if not found:
        raise BadRecord("empty", "the file has no document")
    return as_mapping(found[0], "the file")


def front_matter(data: bytes) -> Fields:
    """The YAML between the first two lines of `---` of a Markdown file.

    Raises:
        BadRecord: As `yaml_mapping`; `empty`: there is no front matter.
    """
    found = _FRONT_MATTER.match(data)
    if found is None:
        raise BadRecord("empty", "the file does not begin with YAML between two lines of ---")
    return yaml_mapping(found[1])


def as_mapping(value: object, what: str) -> Fields:
    """A value that must be a mapping.

    Raises:
        BadRecord: `not-an-object`.
    """
    if not isinstance(value, dict):
        raise BadRecord("not-an-object", f"{what} is a {type(value).__name__}, not a mapping")
    return value


def required(fields: Fields, key: str, max_chars: int = _ID_CHARS) -> str:
    """A text that must be there, such as an id.

    Raises:
        BadRecord: `no-<key>`: it is missing, empty, or no text; `bad-<key>`: it is too long, or has control
            characters.
    """
    value = text(fields, key)
    name = key.strip("@:").lower().replace("_", "-").rpartition(":")[2]
    if not value:
        raise BadRecord(f"no-{name}", f"`{key}` is {fields.get(key)!r:.100}: it must be a text")
    if len(value) > max_chars or not value.isprintable():
        detail = f"`{key}` {value!r:.100} has {len(value)} characters; the limit is {max_chars}, all printable"
        raise BadRecord(f"bad-{name}", detail)
    return value


def text(fields: Fields, key: str) -> str:
    """A text without white space at its ends."""
    value = fields.get(key)
    return value.strip() if isinstance(value, str) else ""


def mapping(fields: Fields, key: str) -> Fields:
    """A mapping."""
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def mappings(fields: Fields, key: str) -> list[Fields]:
    """The mappings of a list of them; one by itself counts as a list."""
    value = fields.get(key)
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]


def texts(fields: Fields, key: str) -> tuple[str, ...]:
    """The texts of a list, or one text, without repetitions."""
    value = fields.get(key)
    found = (each.strip() for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))
    return tuple(dict.fromkeys(filter(None, found)))


def words(fields: Fields, key: str) -> tuple[str, ...]:
    """The words of a list of texts, or of one text, divided at commas; without repetitions.

    >>> words({"tags": ["cve, rce", "rce"]}, "tags")
    ('cve', 'rce')
    """
    found = (word.strip() for each in texts(fields, key) for word in each.split(","))
    return tuple(dict.fromkeys(filter(None, found)))


def number(fields: Fields, key: str) -> float:
    """A finite number from 0 on; 0 where there is none."""
    value = fields.get(key)
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return found if 0.0 <= found < float("inf") else 0.0


def paragraphs(*parts: str) -> str:
    """The parts that say anything, with an empty line between them."""
    return "\n\n".join(filter(None, (part.strip() for part in parts)))


def techniques(found: Iterable[str]) -> tuple[str, ...]:
    """The ids of ATT&CK techniques in some texts, sorted.

    >>> techniques(["attack.t1059.001", "T1105, T10590"])
    ('T1059.001', 'T1105')
    """
    return _matches(_TECHNIQUE, found)


def cves(found: Iterable[str]) -> tuple[str, ...]:
    """The CVE ids in some texts, sorted."""
    return _matches(_CVE, found)


def _matches(pattern: re.Pattern[str], found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({match for each in found for match in pattern.findall(each.upper())}))


def lines_of(value: object, depth: int = 0) -> Iterator[str]:
    """A value of YAML as lines of text, as people would write it.

    >>> list(lines_of({"selection": {"Image|endswith": ["a.exe", "b.exe"]}, "condition": "selection"}))
    ['selection:', '  Image|endswith:', '    - a.exe', '    - b.exe', 'condition: selection']
    """
    indent = "  " * depth
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield f"{indent}{key}:"
                yield from lines_of(inner, depth + 1)
            else:
                yield f"{indent}{key}: {'' if inner is None else inner}"
    elif isinstance(value, list):
        for inner in value:
            first, *rest = list(lines_of(inner, depth + 1)) or [""]
            yield f"{indent}- {first.strip()}"
            yield from rest
    elif value is not None:
        yield f"{indent}{value}"
