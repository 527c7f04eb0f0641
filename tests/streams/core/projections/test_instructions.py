"""The examples of phi3-mitre-lora."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Event, Relationship
from schemas.journal import Example, Instruction, Source, held_out
from schemas.models import MODELS
from streams.core.projections.base import project
from streams.core.projections.instructions import truncate
from tests.streams.core.events import events, relationship, technique

PHI3 = MODELS[1]
SOURCE = Source("threat.test", 0, 0)


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
    assert instruction.output == (
        "Dump (T1003.001) is a sub-technique of ATT&CK that serves the tactic impact. Adversaries may."
    )
    assert (bare.group, bare.labels, bare.text) == ("technique:T1003.001", ("impact",), "")
    more = phi3_example(technique(detection="Watch <code>lsass</code>", platforms=("Linux", "macOS")))
    assert [one.output for one in more.instructions] == [
        "Dump (T1003.001) is a sub-technique of ATT&CK that serves the tactic impact. It concerns Linux and macOS. "
        "Adversaries may.",
        "Dump (T1003.001), which serves the tactic impact, can be detected as follows. Watch lsass.",
    ]
    assert all("T1003.001" in one.instruction + one.input or "Dump" in one.instruction for one in more.instructions)


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (
            relationship("mitigates", "mitigation"),
            "ATT&CK lists the mitigation Audit against Dump (T1003.001), which serves the tactic impact. Do it.",
        ),
        (
            relationship("detects", "data-component", "Monitor it. Analytic 1 - index=main"),
            "Dump (T1003.001), which serves the tactic impact, can be detected with data from Audit. Monitor it.",
        ),
        (
            relationship("detects", "detection-strategy", ""),
            "Dump (T1003.001), which serves the tactic impact, can be detected with the detection strategy Audit.",
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

    wordings = {
        (one.instruction.replace(str(n), "0"), one.input.replace(str(n), "0"))
        for n in range(1000, 1100)
        for one in [explanation(n, "a")]
    }
    assert len(wordings) >= 8
    assert all(explanation(n, "a").instruction == explanation(n, "b").instruction for n in range(1000, 1100))


@given(st.text(max_size=200), st.integers(5, 100))
def test_a_truncated_text_is_within_the_limit_and_a_text_that_fits_is_unchanged(text: str, max_chars: int) -> None:
    assert len(truncate(text, max_chars)) <= max_chars + len(" ...")
    assert truncate(text, len(text)) == text


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
