"""Generation evaluation: which questions are asked, and which answers are right."""

from __future__ import annotations

from msgspec.structs import replace

from schemas.context import Context, Line, answer, as_text, not_there
from schemas.journal import Example, Instruction, Source
from trainers.models.phi3_lora.generation_evaluation import answer_shares, make_cases, mitigation_of, named_first

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
    assert answer_shares(cases, right) == {
        "tactic_named": 1.0, "mitigation_named": 1.0, "grounded": 0.0, "false_no_answer": 0.0,
    }  # fmt: skip
    wrong = ["Filter Network Traffic, or an audit. It has impact, and is defense evasion.", "It is malware."]
    assert answer_shares(cases, wrong).items() >= {"tactic_named": 0.0, "mitigation_named": 0.0}.items()
    assert answer_shares([], []) == {}


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


AUDIT = Line(role="mitigation", name="Audit", id="M1047", text="Look at it.")
LUA = Context(name="Lua", id="T1059.011", tactics=("execution",), lines=(AUDIT,))
OTHER = Context(
    name="Phishing", id="T1566", tactics=("initial-access",),
    lines=(Line(role="mitigation", name="User Training", id="M1017", text="Train them."),),
)  # fmt: skip
ASKED = "How can Lua (T1059.011) be mitigated?"


def asked(context: list[Context], output: str) -> Example:
    one = Instruction(instruction=ASKED, input=as_text(context), output=output)
    return replace(example("T1059.011", "r", one), labels=("execution",))


def shares(context: list[Context], expected: str, generated: str) -> dict[str, float]:
    cases = make_cases([asked(context, expected)], OTHERS, TACTICS, 4)
    return answer_shares(cases, [generated])


def test_an_answer_that_holds_to_its_context_is_right_in_every_way() -> None:
    right = answer(LUA, "mitigate")
    assert shares([OTHER, LUA], right, right) == {
        "tactic_named": 1.0, "mitigation_named": 1.0, "citation_precision": 1.0, "invented_ids": 0.0,
        "grounded": 1.0, "false_no_answer": 0.0,
    }  # fmt: skip


def test_an_id_of_what_does_not_belong_is_wrong_and_one_of_nowhere_invented() -> None:
    said = (
        "Lua (T1059.011), which serves the tactic execution, can be mitigated with User Training (M1017) and M1099."
    )
    found = shares([OTHER, LUA], answer(LUA, "mitigate"), said)
    assert found["citation_precision"] == 1 / 3, "T1059.011 of three ids"
    assert found["invented_ids"] == 1 / 3, "M1099"
    assert (found["mitigation_named"], found["grounded"]) == (0.0, 0.0)


def test_a_question_without_an_answer_is_right_if_the_answer_says_so() -> None:
    bare = replace(LUA, lines=())
    unknown = answer(bare, "mitigate")
    right = {"citation_precision": 1.0, "invented_ids": 0.0, "grounded": 1.0, "no_answer_recall": 1.0}
    assert shares([bare], unknown, unknown) == right
    other = not_there("Lua (T1059.011)")
    assert shares([OTHER], other, other) == right, "only another technique is there"
    invented = shares([bare, OTHER], unknown, "It can be mitigated with User Training (M1017).")
    assert invented == {"citation_precision": 0.0, "invented_ids": 0.0, "grounded": 0.0, "no_answer_recall": 0.0}
    assert shares([LUA], answer(LUA, "mitigate"), unknown)["false_no_answer"] == 1.0


def test_up_to_a_quarter_of_the_cases_has_no_answer() -> None:
    unknown = [replace(asked([OTHER], not_there("Lua")), group=f"technique:T{number}") for number in range(8)]
    cases = make_cases([*HOLDOUT, *unknown], OTHERS, TACTICS, 12)
    assert sum(not case.is_answered for case in cases) == 3


def test_which_mitigations_are_right_is_known_where_a_question_has_no_context() -> None:
    bare = example("T1059.011", "r", Instruction(instruction=ASKED, output=answer(LUA, "mitigate")))
    (case,) = make_cases([bare], [asked([LUA], answer(LUA, "mitigate")), *OTHERS], TACTICS, 4)
    assert (case.mitigations, case.known_mitigations) == (("Audit",), ("Audit", "Filter Network Traffic"))
