"""Reports in free text for the ontology: TXT, HTML, PDF or JSONL files, read by our own classifier.

    files ──read_report──> texts ──ReportClassifier──> sentences ──> ExtractedReport
                             └───LanguageModel, if one is configured──────^

A technique that a sentence states has the confidence 1. One that its nearest examples have has the share of such
techniques that were right on held-out examples; a tactic has the probability of `distilbert-mitre`.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from schemas.errors import BadConfiguration, BadRecord
from schemas.severity import cves_in
from serving.classify import ClassifiedReport, ClassifiedSentence, ReportClassifier
from serving.reports.read import MAX_BYTES, ReportText, read_report
from streams.content.ontology.model import SourceSpan
from streams.content.ontology.reports import CATEGORY, ExtractedReport, Statement
from streams.content.ontology.terms import tactic_id
from streams.fetchers.sources.folder import read_file, read_without_links, walk
from sx9_ml_models.content.language_model import LanguageModel

log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".md", ".html", ".htm", ".pdf", ".jsonl", ".ndjson")
"""Of the files that are read in a folder. A file that is named itself may have any."""


def extracted_reports(
    place: Path,
    classifier: ReportClassifier,
    rejected: Counter[str] | None = None,
    language_model: LanguageModel | None = None,
) -> Iterator[ExtractedReport]:
    """What the reports in a file, or in a folder and its subfolders, say.

    Args:
        place: The file or folder.
        classifier: From `classifying.classifier_of_events`.
        rejected: Updated with reason -> number of files that can't be used; they are logged in any case.
        language_model: It is asked about each text, too; None: none is.

    Raises:
        BadConfiguration: There is no such file or folder, or the folder has no reports.
        BadRecord: A file that is named itself is too large.
        RetryLater: The language model did not answer.
    """
    for name, data in _files(place, rejected):
        try:
            texts = read_report(name, data)
        except BadRecord as error:
            _reject(name, error, rejected)
            continue
        for text in texts:
            more = language_model.statements(text) if language_model else []
            yield _extracted(text, name, classifier.classify(text), more)


def _files(place: Path, rejected: Counter[str] | None) -> Iterator[tuple[str, bytes]]:
    if not place.is_dir():
        yield place.name, read_file(place, MAX_BYTES)
        return
    names = [name for name in walk(place) if name.lower().endswith(SUFFIXES) and not _is_hidden(name)]
    if not names:
        raise BadConfiguration(f"{place} has no reports: give a file, or a folder with {', '.join(SUFFIXES)}")
    for name in names:
        try:
            yield name, read_without_links(place / name, MAX_BYTES)
        except BadRecord as error:
            _reject(name, error, rejected)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _reject(name: str, error: BadRecord, rejected: Counter[str] | None) -> None:
    log.warning("%s: %s: it is left out", name, error)
    if rejected is not None:
        rejected[error.reason] += 1


def _extracted(text: ReportText, file: str, found: ClassifiedReport, more: Sequence[Statement]) -> ExtractedReport:
    digest = hashlib.blake2b(text.text.encode(errors="replace"), digest_size=8).hexdigest()
    name = text.id if text.id == file else f"{file}:{text.id}"
    statements = (each for sentence in found.sentences for each in _statements(sentence, found))
    return ExtractedReport(f"{CATEGORY}:{digest}", name, (*statements, *more))


def _statements(sentence: ClassifiedSentence, report: ClassifiedReport) -> Iterable[Statement]:
    def span(confidence: float, by: str) -> SourceSpan:
        return SourceSpan(sentence.start, sentence.end, sentence.text, round(confidence, 4), by)

    for technique in sentence.techniques:
        confidence = 1.0 if technique.by == "stated" else report.threshold.precision
        yield Statement(technique.id, span(confidence, technique.by))
    for tactic, probability in zip(sentence.tactics, sentence.probabilities, strict=True):
        yield Statement(tactic_id(tactic), span(probability, report.model))
    for cve in cves_in(sentence.text):
        yield Statement(cve, span(1.0, "stated"))
