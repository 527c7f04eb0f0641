"""What the feeds of rules and tests take from a file."""

from __future__ import annotations

from schemas.events import LogSource, Template
from schemas.journal import Source
from streams.core.projections.base import project
from streams.fetchers.base.feed import KnownFile, RejectedItem, UnchangedFile
from streams.fetchers.feeds import atomic, caldera, sigma
from streams.fetchers.sources.file_tree import TreeFile, parse_files
from tests.streams.fetchers.feeds import samples


def rule() -> Template:
    return sigma.parse_rule(samples.SIGMA.encode(), "rules/a.yml", "c0ffee")


def test_a_sigma_rule_says_what_it_reads_what_it_looks_for_and_what_else_it_finds() -> None:
    found = rule()
    assert (found.rule_type, found.rule_status, found.severity, found.release) == (
        "sigma",
        "test",
        "info",
        "c0ffee",
    )
    assert found.log_source == LogSource(category="process_creation", product="windows")
    assert found.detection == "selection:\n  CommandLine|contains:  -enc\ncondition: selection".replace(
        "-enc", "-enc "
    )
    assert (found.false_positives, found.author, found.date) == (
        ("Installers",),
        "A. Writer, B. Reader",
        "2026-01-02",
    )
    assert (found.techniques, found.tactics) == (("T1059.001",), ("defense-evasion", "execution"))
    assert (found.cves, found.tags) == (("CVE-2021-44228",), ("cve.2021-44228", "detection.threat-hunting"))


def test_the_text_that_is_learnt_from_a_rule_names_none_of_its_labels() -> None:
    example = project("distilbert-mitre", rule(), Source("t", 0, 0))
    assert example is not None
    assert example.labels == ("defense-evasion", "execution", "severity:info")
    assert example.text == "Encoded Command. Finds a shell that is given an encoded command."


def test_a_deprecated_rule_is_not_learnt_from() -> None:
    old = sigma.parse_rule(samples.SIGMA.replace("status: test", "status: deprecated").encode(), "a.yml", "")
    example = project("distilbert-mitre", old, Source("t", 0, 0))
    assert old.status == "deprecated"
    assert example is not None
    assert example.retracted


def test_a_rule_without_a_usable_severity_teaches_its_tactics_alone() -> None:
    found = caldera.parse_abilities(samples.ABILITY.encode(), "abilities/a.yml", "")[0]
    example = project("distilbert-mitre", found, Source("t", 0, 0))
    assert example is not None
    assert (example.labels, example.retracted) == (("discovery",), False)
    assert found.detection == "ps aux"


def test_of_several_events_in_files_the_first_with_an_id_counts_and_gives_way_when_it_is_gone() -> None:
    both = samples.ATOMIC.encode()
    second = both.replace(b"000001", b"000009")
    files = [TreeFile("a.yaml", "1", lambda: both), TreeFile("b.yaml", "2", lambda: second)]
    first = parse_files(files, {}, atomic.parse_tests, "atomic-red-team")
    one, two, nine = (f"atomic-red-team:22222222-0000-4000-8000-00000000000{n}" for n in (1, 2, 9))
    assert first.files == {"a.yaml": KnownFile("1", (one, two)), "b.yaml": KnownFile("2", (nine,), (two,))}
    assert sum(isinstance(outcome, RejectedItem) for outcome in first.outcomes) == 1
    again = parse_files(files, first.files, atomic.parse_tests, "atomic-red-team")
    assert [(o.id, o.reason) for o in again.outcomes if isinstance(o, UnchangedFile)] == [
        (one, ""), (two, ""), (two, "duplicate-id"), (nine, ""),
    ]  # fmt: skip
    alone = parse_files(files[1:], first.files, atomic.parse_tests, "atomic-red-team")
    assert alone.files == {"b.yaml": KnownFile("2", (nine, two))}
