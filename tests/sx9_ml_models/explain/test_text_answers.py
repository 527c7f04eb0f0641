"""What two versions that generate text say differently is counted by fact, and shown by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from schemas.journal import Instruction, held_out
from sx9_ml_models.explain.text_answers import compare, text_diff
from tests.trainers.journals import answers
from trainers.core.progress import RunProgress

GIVEN = """Lua (T1059.011)
Tactics: execution
Mitigation: Audit (M1047): Look at what runs.
Mitigation: Execution Prevention (M1038)"""


def asked(key: str, question: str = "How can Lua be mitigated?") -> tuple[str, Instruction]:
    return key, Instruction(instruction=question, input=GIVEN, output="")


def test_facts_that_were_gained_and_lost_are_counted_and_sentences_are_shown() -> None:
    before = ["Use Audit (M1047). It serves the tactic execution.", "Use Audit.", "It is a technique."]
    after = ["Use Execution Prevention (M1038). It serves the tactic impact.", "Use  Audit.", "It is one."]
    found = compare([asked("a"), asked("b"), asked("c")], before, after)
    assert (found.questions, found.differ, found.facts_differ) == (3, 2, 1), "white space is no difference"
    assert [(f.kind, f.name, f.given, f.before, f.after, f.gained, f.lost) for f in found.facts] == [
        ("id", "M1038", 3, 0, 1, 1, 0),
        ("id", "M1047", 3, 1, 0, 0, 1),
        ("mitigation", "Audit", 3, 2, 1, 0, 1),
        ("mitigation", "Execution Prevention", 3, 0, 1, 1, 0),
        ("tactic", "execution", 3, 1, 0, 0, 1),
        ("tactic", "impact", 0, 0, 1, 1, 0),
    ]
    assert [each.key for each in found.largest] == ["a", "c"], "the one whose facts changed comes first"
    assert found.largest[1].removed == ("It is a technique.",)
    assert found.largest[1].added == ("It is one.",)
    assert not found.largest[1].gained


class Said:
    """A predictor that repeats what it was given, with an end of its own."""

    def __init__(self, end: str) -> None:
        self.end, self.batches = end, list[int]()

    def predict(self, batch: Sequence[Instruction]) -> list[str]:
        self.batches.append(len(batch))
        return [f"{one.output} {self.end}" for one in batch]


def test_every_held_out_question_is_asked_and_the_progress_is_shown() -> None:
    journal = answers(300)
    versions: Any = [SimpleNamespace(version=name) for name in ("v0001", "v0002")]
    steps: list[RunProgress] = []

    def load(manifest: Any) -> Said:
        return Said({"v0001": "It serves the tactic impact.", "v0002": "Nothing more."}[manifest.version])

    found = text_diff(load, *versions, journal, steps.append)
    assert found
    assert found.examples == found.held_out == found.questions == sum(map(held_out, journal)) == found.differ
    assert (found.facts[0].kind, found.facts[0].name) == ("tactic", "impact")
    assert found.facts[0].lost == found.facts_differ
    assert [step.step for step in steps if step.phase.endswith("v0002")][-1] == found.questions
    assert text_diff(load, *versions, [each for each in journal if not held_out(each)]) is None
