"""The texts in a report file: `read_report(name, data)`.

    .txt, .md, anything else   the file itself, as UTF-8
    .html, .htm                what a browser shows, without scripts and styles
    .pdf                       the text of its pages
    .jsonl                     one text a line: a string, or an object with `text`, and `id` if it has one

What a file is, is told by its first bytes too: a PDF from standard input is read as one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import msgspec

from schemas.errors import BadRecord

MAX_BYTES = 50_000_000
"""Largest file, bytes."""
MAX_PAGES = 2_000
"""Pages that are read of a PDF."""
MAX_CHARS = 2_000_000
"""Longest text of a report, characters: a book has a million."""
MAX_LINES = 100_000
"""Most texts in a JSONL file."""

_HIDDEN = frozenset(("script", "style", "noscript", "template", "svg", "head"))
_BLOCKS = frozenset(
    (
        "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figure", "footer", "form",
        "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section",
        "table", "td", "th", "tr", "ul",
    )
)  # fmt: skip
_HTML = re.compile(rb"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)


class ReportText(msgspec.Struct, frozen=True):
    """One text of a report file: `id` is the name of the file, or that of the line in a JSONL file."""

    id: str
    text: str


def read_report(name: str, data: bytes) -> list[ReportText]:
    """The texts of a report file.

    Args:
        name: Of the file; its ending says what it is. `-` for standard input.
        data: Its bytes.

    Returns:
        One text, or those of the lines of a JSONL file.

    Raises:
        BadRecord: The file is too large, damaged, protected by a password, or has no text.
    """
    if len(data) > MAX_BYTES:
        raise BadRecord("too-large", f"{name} has {len(data)} bytes, the limit is {MAX_BYTES}: split it")
    lower = name.lower()
    if data.startswith(b"%PDF-") or lower.endswith(".pdf"):
        texts = [ReportText(name, _pdf(name, data))]
    elif lower.endswith((".jsonl", ".ndjson")):
        texts = list(_lines(name, data))
    elif lower.endswith((".html", ".htm")) or _HTML.match(data):
        texts = [ReportText(name, _html(_decoded(data)))]
    else:
        texts = [ReportText(name, _decoded(data))]
    for each in texts:
        if len(each.text) > MAX_CHARS:
            raise BadRecord(
                "too-large", f"{each.id} has {len(each.text)} characters, the limit is {MAX_CHARS}: split it"
            )
    if not any(each.text.strip() for each in texts):
        raise BadRecord("no-text", f"{name} has no text; a PDF of scanned pages needs text recognition (OCR) first")
    return texts


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def _lines(name: str, data: bytes) -> Iterator[ReportText]:
    number = 0
    for number, line in enumerate(data.splitlines(), 1):
        if number > MAX_LINES:
            raise BadRecord("too-large", f"{name} has more than {MAX_LINES} lines: split it")
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRecord("not-json", f"{name}, line {number} is no JSON ({error})") from error
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise BadRecord(
                "no-text", f'{name}, line {number} has no text: write a string, or an object with "text"'
            )
        yield ReportText(str(value.get("id") or number) if isinstance(value, dict) else str(number), text)


class _VisibleText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag == "body":
            self._hidden.clear()  # a head may end where the body begins
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def _html(markup: str) -> str:
    parser = _VisibleText()
    parser.feed(markup)
    parser.close()
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", "".join(parser.parts)).strip()


def _pdf(name: str, data: bytes) -> str:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise BadRecord("no-reader", f"{name}: a PDF needs pypdf: pip install 'sx9-ml-models[serve]'") from error
    parts: list[str] = []
    try:
        pages = PdfReader(io.BytesIO(data)).pages
        if len(pages) > MAX_PAGES:
            raise BadRecord("too-large", f"{name} has {len(pages)} pages, the limit is {MAX_PAGES}: split it")
        length = 0
        for page in pages:
            parts.append(page.extract_text())
            length += len(parts[-1])
            if length > MAX_CHARS:
                break
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise BadRecord("bad-pdf", f"{name} can't be read as a PDF ({type(error).__name__}: {error})") from error
    return "\n".join(parts)
