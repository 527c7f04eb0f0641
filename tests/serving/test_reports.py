"""Report files as text, and their sentences."""

from __future__ import annotations

import io

import pytest

from schemas.errors import BadRecord
from serving.reports import read
from serving.reports.read import read_report
from serving.reports.sentences import MAX_SENTENCE_CHARS, sentences


def pdf_of(text: str) -> bytes:
    """A PDF of one page with one line of text."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    page = writer.add_blank_page(600, 200)
    font = DictionaryObject(
        {NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
         NameObject("/BaseFont"): NameObject("/Helvetica")}
    )  # fmt: skip
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
    )
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def test_the_text_of_an_html_page_is_what_a_browser_shows() -> None:
    page = (
        b"<!doctype html><html><head><title>Not this</title><style>p{}</style></head><body><script>evil()</script>"
        b"<h1>APT29</h1><p>It used <b>cmd</b>&amp;co.</p><p>Then it left.</p></body></html>"
    )
    assert read_report("-", page)[0].text == "APT29\n\nIt used cmd&co.\n\nThen it left."


def test_the_text_of_a_pdf_is_read_whatever_its_name() -> None:
    assert read_report("-", pdf_of("APT29 used PowerShell."))[0].text.strip() == "APT29 used PowerShell."


def test_each_line_of_a_jsonl_file_is_a_text() -> None:
    texts = read_report("a.jsonl", b'{"id": "r1", "text": "One."}\n\n"Two."\n')
    assert [(each.id, each.text) for each in texts] == [("r1", "One."), ("3", "Two.")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", b"%PDF-1.7 damaged", "bad-pdf"),
        ("a.jsonl", b'{"id": 1}', "no-text"),
        ("a.jsonl", b"{", "not-json"),
        ("a.txt", b" \n", "no-text"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_its_reason(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(BadRecord, match=name) as refused:
        read_report(name, data)
    assert refused.value.reason == reason


def test_a_file_over_the_limit_is_refused_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_BYTES", 10)
    with pytest.raises(BadRecord, match="11 bytes, the limit is 10"):
        read_report("a.txt", b"12345678901")


def test_sentences_have_their_place_in_the_text() -> None:
    text = "APT29 (a.k.a. Cozy Bear) ran\ncmd.exe. It used T1059.001, e.g. Empire.\n\n- First item\n- Second item"
    found = sentences(text)
    assert [each.text for each in found] == [
        "APT29 (a.k.a. Cozy Bear) ran cmd.exe.", "It used T1059.001, e.g. Empire.", "- First item", "- Second item",
    ]  # fmt: skip
    assert [" ".join(text[each.start : each.end].split()) for each in found] == [each.text for each in found]


def test_a_text_without_full_stops_is_cut_after_words() -> None:
    text = "word " * 1_000
    found = sentences(text)
    assert max(len(each.text) for each in found) <= MAX_SENTENCE_CHARS
    assert " ".join(each.text for each in found).split() == text.split()
