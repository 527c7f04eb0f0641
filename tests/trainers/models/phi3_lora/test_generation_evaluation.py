"""Generation evaluation: which questions are asked, and which answers are right."""

from __future__ import annotations

from schemas.journal import Example, Instruction, Source
from trainers.models.phi3_lora.generation_evaluation import make_cases, mitigation_of, named_first, named_shares

TACTICS = ("execution", "impact")


def example(technique: str, key: str, *instructions: Instruction) -> Example:
    return Example(
        source=Source("t", 0, 0), key=key, hash="0", group=f"technique:{technique}", instructions=instructions,
        labels=("defense-evasion",),
    )  # fmt: skip


def mitigated(technique: str, by: str, question: str, given: str = "") -> Example:
    answer = (
        f"ATT&CK lists the mitigation {by} against {technique}, which serves the tactic defense evasion. Do it."
    )
    return example(technique, by, Instruction(instruction=question, input=given, output=answer))


HOLDOUT = [
    example("T1", "e", Instruction(instruction="What is T1?", output="T1 serves the tactic defense evasion.")),
    mitigated("T1", "Audit", "How is T1 mitigated?"),
    mitigated("T1", "Code Signing", "How do I apply this against T1?", "Code Signing"),
    mitigated("T2", "User Training", "How does user training help against T2?"),
]
OTHERS = [mitigated("T3", "Filter Network Traffic", "How is T3 mitigated?")]


def test_no_question_names_the_mitigation_that_it_asks_for() -> None:
    cases = make_cases(HOLDOUT, OTHERS, TACTICS, 4)
    assert [case.instruction.instruction for case in cases] == ["How is T1 mitigated?", "What is T1?"]
    assert cases[0].mitigations == ("Audit", "Code Signing"), "all that ATT&CK lists, not only that of the answer"
    assert cases[0].known_mitigations == ("Audit", "Code Signing", "Filter Network Traffic", "User Training")
    assert cases[0].known_tactics == ("defense-evasion", "execution", "impact")
    assert cases[1].mitigations == ()
    assert make_cases(HOLDOUT, OTHERS, TACTICS, 0) == []


def test_the_first_name_in_an_answer_decides_whether_it_is_right() -> None:
    cases = make_cases(HOLDOUT, OTHERS, TACTICS, 4)
    right = [
        "Use code signing, for Defense-Evasion, or filter network traffic.",
        "It serves defense evasion, not impact.",
    ]
    assert named_shares(cases, right) == {"tactic_named": 1.0, "mitigation_named": 1.0}
    wrong = ["Filter Network Traffic, or an audit. It has impact, and is defense evasion.", "It is malware."]
    assert named_shares(cases, wrong) == {"tactic_named": 0.0, "mitigation_named": 0.0}
    assert named_shares([], []) == {}


def test_a_name_is_found_as_whole_words_and_the_longest_of_several() -> None:
    assert named_first("The impactful auditor", ["impact", "audit"]) == ""
    assert named_first("limit software installation", ["Limit Software", "Limit Software Installation"]) == (
        "Limit Software Installation"
    )
    assert named_first("anything", []) == ""
    assert named_first("C++ (x) [y]", ["(x)"]) in ("", "(x)"), "no name is a pattern"


def test_only_an_answer_about_a_mitigation_has_one() -> None:
    assert mitigation_of(HOLDOUT[1].instructions[0].output) == "Audit"
    assert mitigation_of(HOLDOUT[0].instructions[0].output) == ""
    assert mitigation_of("ATT&CK lists the mitigation " + "x" * 1000) == ""
