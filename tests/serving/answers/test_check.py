"""A generated sentence that says more than the evidence is left out."""

from __future__ import annotations

import pytest

from serving.answers.check import check
from tests.serving.answers.samples import PROCESS_INJECTION


@pytest.mark.parametrize(
    "sentence",
    [
        "Process Injection (T1055) serves the tactics defense evasion and privilege escalation.",
        "Adversaries inject code into processes to evade process-based defenses.",
        "Behavior Prevention on Endpoint (M1040) can be configured to block some types of process injection.",
    ],
)
def test_a_sentence_of_the_evidence_is_kept_with_its_source(sentence: str) -> None:
    found = check(sentence, PROCESS_INJECTION)
    assert [kept.text for kept in found.sentences] == [sentence]
    assert found.sentences[0].sources[0] == (
        PROCESS_INJECTION.facts[0].source if "M1040" in sentence else PROCESS_INJECTION.source
    )


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("Process Injection (T1056.002) injects code into processes.", "T1056.002"),
        ("Process Injection serves the tactic execution.", "tactic execution"),
        ("Process Injection is a kind of credential access by code into processes.", "credential access"),
        ("Adversaries such as Lazarus Group inject code into processes.", "Lazarus Group"),
        ("Rebooting every machine twice daily removes malicious drivers.", "of its words"),
    ],
)
def test_a_sentence_that_says_more_is_left_out_with_its_reason(sentence: str, reason: str) -> None:
    found = check(sentence, PROCESS_INJECTION)
    assert found.sentences == ()
    assert [(text, reason in why) for text, why in found.left_out] == [(sentence, True)]
