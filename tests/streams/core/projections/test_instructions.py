"""The examples of phi3-mitre-lora."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.context import as_text, from_text
from schemas.events import Event, NodeRef, Relationship
from schemas.grounding import ungrounded
from schemas.journal import Example, Instruction, Source, held_out
from schemas.models import MODELS
from streams.core.projections.base import project
from tests.streams.core.events import events, relationship, technique

PHI3 = MODELS[1]
SOURCE = Source("threat.test", 0, 0)
AUDIT = NodeRef(id="course-of-action--1", kind="mitigation", name="Audit", external_id="M1047")


def phi3_example(event: Event) -> Example:
    found = project(PHI3, event, SOURCE)
    assert found is not None
    return found


@given(st.lists(events(), max_size=40))
@settings(max_examples=100, deadline=None)
def test_all_examples_of_a_technique_are_on_the_same_side_of_the_holdout(feed: Iterable[Event]) -> None:
    sides: dict[str, set[bool]] = {}
    for event in feed:
        found = project(PHI3, event, SOURCE)
        if found is not None:
            name = event.target.id if isinstance(event, Relationship) else event.id
            assert found.group == f"technique:{name}"  # retractions too
            sides.setdefault(name, set()).add(held_out(found))
    assert all(len(side) == 1 for side in sides.values())


def test_a_technique_gives_its_explanation_and_its_detection_guidance_if_it_has_any() -> None:
    bare = phi3_example(technique(platforms=("PRE",)))
    (instruction,) = bare.instructions
    assert (
        instruction.output == "Dump (T1003.001) is a sub-technique that serves the tactic impact. Adversaries may."
    )
    assert instruction.input == "Dump (T1003.001)\nTactics: impact\nDescription: Adversaries may."
    assert (bare.group, bare.labels, bare.text) == ("technique:T1003.001", ("impact",), "")
    more = phi3_example(technique(detection="Watch <code>lsass</code>", platforms=("Linux", "macOS")))
    assert [one.output for one in more.instructions] == [
        "Dump (T1003.001) is a sub-technique that serves the tactic impact. It concerns Linux and macOS. "
        "Adversaries may.",
        "Dump (T1003.001), which serves the tactic impact, can be detected as follows. Watch lsass.",
    ]
    assert all("T1003.001" in one.instruction or "Dump" in one.instruction for one in more.instructions)


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (
            relationship("mitigates", "mitigation", source=AUDIT),
            "Dump (T1003.001), which serves the tactic impact, can be mitigated with Audit (M1047). Audit: Do it.",
        ),
        (
            relationship("detects", "data-component", "Monitor it. Analytic 1 - index=main"),
            "Dump (T1003.001), which serves the tactic impact, can be detected with Audit. Audit: Monitor it.",
        ),
        (
            relationship("detects", "detection-strategy", ""),
            "Dump (T1003.001), which serves the tactic impact, can be detected with Audit.",
        ),
    ],
)
def test_a_relationship_gives_what_mitigates_or_detects_the_technique(event: Relationship, answer: str) -> None:
    found = phi3_example(event)
    assert [one.output for one in found.instructions] == [answer]
    assert (found.key, found.group) == ("relationship:relationship--1", "technique:T1003.001")


def test_instructions_have_many_wordings_and_an_edited_answer_keeps_its_instruction() -> None:
    def explanation(number: int, text: str) -> Instruction:
        return phi3_example(msgspec.structs.replace(technique(text), id=f"T{number}", name="Dump")).instructions[0]

    wordings = {explanation(n, "a").instruction.replace(str(n), "0") for n in range(1000, 1100)}
    assert len(wordings) >= 8
    assert all(explanation(n, "a").instruction == explanation(n, "b").instruction for n in range(1000, 1100))


@given(st.lists(events(), max_size=20))
@settings(max_examples=50, deadline=None)
def test_every_input_is_read_back_as_it_was_written(feed: Iterable[Event]) -> None:
    found = (project(PHI3, event, SOURCE) for event in feed)
    inputs = [one.input for example in found if example for one in example.instructions]
    assert all(as_text(from_text(given)) == given for given in inputs)


def test_an_answer_says_nothing_that_its_input_does_not() -> None:
    (one,) = phi3_example(relationship("mitigates", "mitigation", "Do it.", source=AUDIT)).instructions
    assert ungrounded(one.output, one.input, ("impact",)) == ""


def test_values_that_mean_nothing_are_not_said() -> None:
    silent = msgspec.structs.replace(
        technique(), platforms=("None",), detection="N/A", text="None", tactics=("impact",), status="active"
    )
    found = phi3_example(silent).instructions
    assert len(found) == 1
    assert "None" not in found[0].output
    assert "It concerns" not in found[0].output
    some = msgspec.structs.replace(silent, platforms=("None", "Linux"))
    assert phi3_example(some).instructions[0].output.endswith("It concerns Linux.")
