"""What is known of one technique."""

from __future__ import annotations

from serving.answers.evidence import Evidence, Fact

PROCESS_INJECTION = Evidence(
    id="T1055",
    name="Process Injection",
    kind="Technique",
    source="attack-enterprise 17.1: T1055",
    text="Adversaries may inject code into processes in order to evade process-based defenses.",
    tactics=("defense-evasion", "privilege-escalation"),
    platforms=("Windows", "Linux"),
    facts=(
        Fact(
            role="mitigation", id="M1040", name="Behavior Prevention on Endpoint", kind="Mitigation",
            text="Some endpoint security solutions can be configured to block some types of process injection.",
            source="attack-enterprise 17.1: relationship--1",
        ),
        Fact(
            role="detection", id="DS0009", name="Process Access", kind="DataComponent",
            text="Monitor for processes being viewed that may inject code into processes.",
            source="attack-enterprise 17.1: relationship--2",
        ),
        Fact(role="rule", id="sigma:1", name="CreateRemoteThread", kind="Template", source="sigma abc: sigma:1"),
    ),
    totals={"mitigation": 1, "detection": 1, "rule": 30},
)  # fmt: skip
