"""The context of an instruction: what the journal said up to there, at times beside what does not belong."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.context import Context, Line, answer, as_text, from_text, not_there, says_no_answer
from schemas.journal import Example, Instruction, Source, held_out
from trainers.core.dataset import Dataset, OffsetExample
from trainers.models.phi3_lora.contexts import KnownTechniques, with_contexts, with_own_context

NAMES = ("Audit", "Code Signing", "User Training", "Update Software")


def example_of(technique: int, part: int) -> Example:
    """Part 0 describes a technique; each other one is a mitigation of it."""
    name, id_ = f"Trick {technique}", f"T{1000 + technique}"
    line = (
        Line(role="description", text=f"It is trick number {technique}.")
        if not part
        else Line(role="mitigation", name=NAMES[part - 1], id=f"M{part:04}", text=f"Against trick {technique}.")
    )
    known = Context(name=name, id=id_, tactics=("impact",), lines=(line,))
    asked, question = (f"How can {name} be mitigated?", "mitigate") if part else (f"What is {name}?", "explain")
    one = Instruction(instruction=asked, input=as_text([known]), output=answer(known, question))  # type: ignore[arg-type]
    return Example(
        source=Source("threat.test", 0, 0), key=f"{id_}:{part}", hash="0", group=f"technique:{id_}",
        instructions=(one,), labels=("impact",),
    )  # fmt: skip


JOURNAL: list[OffsetExample] = list(
    enumerate(example_of(technique, part) for part in range(5) for technique in range(60))
)
TRAINED = tuple(at for at in JOURNAL if not held_out(at[1]))
HELD_OUT = tuple(at for at in JOURNAL if held_out(at[1]))


def contexts_of(example: Example) -> tuple[Context, ...]:
    return from_text(example.instructions[0].input)


def test_a_context_has_what_was_known_at_its_offset_and_nothing_later() -> None:
    known = KnownTechniques(JOURNAL)
    for offset, example in JOURNAL:
        found = known.at(example.group, offset)
        assert found is not None
        assert len(found.lines) == offset // 60 + 1
    assert known.at("technique:T9", 999) is None


def test_a_later_example_of_a_key_replaces_what_the_earlier_said() -> None:
    (one,) = example_of(1, 1).instructions
    edited = replace(one, input=one.input.replace("Against trick 1.", "Twice."))
    known = KnownTechniques([(5, example_of(1, 1)), (9, replace(example_of(1, 1), instructions=(edited,)))])
    before, after = known.at("technique:T1001", 8), known.at("technique:T1001", 9)
    assert before is not None
    assert after is not None
    assert [line.text for line in (*before.lines, *after.lines)] == ["Against trick 1.", "Twice."]


def test_contexts_are_a_pure_function_of_the_examples_in_any_order() -> None:
    data = Dataset(fresh=TRAINED, recent=HELD_OUT)
    once = with_contexts(data, 800)
    assert with_contexts(replace(data, context=tuple(reversed(JOURNAL))), 800) == replace(
        once, context=tuple(reversed(JOURNAL))
    )
    part = with_contexts(Dataset(fresh=TRAINED[-3:], context=tuple(JOURNAL)), 800)
    assert part.fresh == once.fresh[-3:], "whatever else a run trains on"


def test_every_answer_is_what_the_context_says_of_the_technique() -> None:
    found = with_contexts(Dataset(fresh=TRAINED), 800)
    counts = {"alone": 0, "beside another": 0, "without the answer": 0, "not there": 0}
    for _, example in found.fresh:
        one, id_ = example.instructions[0], example.group.removeprefix("technique:")
        own = next((context for context in contexts_of(example) if context.id == id_), None)
        others = [context for context in contexts_of(example) if context.id != id_]
        if own is None:
            counts["not there"] += 1
            assert one.output == not_there(f"Trick {int(id_[1:]) - 1000}"), "as the question calls it"
        else:
            assert one.output == answer(own, "mitigate" if ":0" not in example.key else "explain")
            unknown = says_no_answer(one.output)
            counts["without the answer" if unknown else "beside another" if others else "alone"] += 1
        assert len(others) <= 1
        assert len(one.input) <= 800
    shares = {name: count / len(found.fresh) for name, count in counts.items()}
    assert 0.05 < shares["not there"] < 0.25
    assert 0.05 < shares["without the answer"] < 0.25
    assert 0.2 < shares["beside another"] < 0.4
    assert shares["alone"] > 0.3


@pytest.mark.parametrize(
    ("question", "called"), [("What is Lua?", "Lua"), ("What is T1?", "T1"), ("Explain Lua, T1.", "Lua (T1)")]
)
def test_a_technique_that_is_not_there_is_called_as_the_question_calls_it(question: str, called: str) -> None:
    known = Context(name="Lua", id="T1", tactics=("impact",))
    found: set[str] = set()
    for number in range(40):
        one = Instruction(instruction=question, input=as_text([known]), output="")
        example = replace(example_of(1, 0), key=f"T1:{number}", group="technique:T1", instructions=(one,))
        (_, changed), *_ = with_contexts(Dataset(fresh=((9, example),)), 800).fresh
        found.add(changed.instructions[0].output)
    assert found == {f"{called} is not in the context.", "Lua (T1) is a technique that serves the tactic impact."}


def test_no_training_example_sees_a_technique_of_the_holdout_and_none_of_the_holdout_a_trained_one() -> None:
    found = with_contexts(Dataset(fresh=TRAINED, recent=HELD_OUT, context=tuple(JOURNAL)), 800)
    trained = {context.id for _, example in found.fresh for context in contexts_of(example)}
    held = {context.id for _, example in found.recent for context in contexts_of(example)}
    assert trained
    assert held
    assert not trained & held


def test_instructions_of_older_journals_are_left_as_they_are() -> None:
    old = Instruction(instruction="How do I apply this?", input="Audit", output="ATT&CK lists it.")
    data = Dataset(fresh=((0, replace(example_of(1, 0), instructions=(old,))),))
    assert with_contexts(data, 800) == data


def test_without_room_there_is_no_context_and_the_answer_stays() -> None:
    (_, example), *_ = with_contexts(Dataset(fresh=TRAINED), 0).fresh
    assert example.instructions[0].input == ""
    assert example.instructions[0].output == TRAINED[0][1].instructions[0].output


def test_an_example_that_is_scored_alone_has_what_its_event_says_and_fits() -> None:
    long = Line(role="description", text="It is a long story. " * 60)
    known = Context(name="Trick", id="T1001", lines=(long,))
    one = Instruction(instruction="What is Trick?", input=as_text([known]), output=answer(known, "explain"))
    example = with_own_context(replace(example_of(1, 0), instructions=(one,)), 300)
    (context,) = contexts_of(example)
    assert len(example.instructions[0].input) <= 300
    assert example.instructions[0].output == answer(context, "explain")
