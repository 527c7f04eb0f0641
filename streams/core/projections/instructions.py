"""What `phi3-mitre-lora` learns from an event: instructions, what is known, and the answers.

    event                       instructions
    technique                   its explanation, and its detection guidance if the event has any
    mitigates relationship      what mitigates the technique, and how
    detects relationship        what detects it (a data component, a detection strategy), and how

The `input` of an instruction is what its event says of the technique (`schemas.context`), and the answer says
nothing else. The trainer adds what other events said before: see `trainers.models.phi3_lora.contexts`.

Each instruction has many wordings. The hash of the key selects one, so an edited answer keeps its instruction. All
examples of a technique are in one group, so that they are all in the holdout or all in the training set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from schemas.context import Context, Line, Question, Role, answer, as_text
from schemas.events import Event, Relationship, Technique
from schemas.journal import Instruction, key_hash
from schemas.prose import enumerate_words, truncate
from schemas.taxonomy import tactic_labels
from schemas.text import meaningful, means_something
from streams.core.projections.base import Projection, any_end_inactive
from streams.core.projections.text import CleanText

MAX_TEXT_CHARS = 1_500
"""Limit for the text of the feed in a context, in characters."""

PROMPTS: Mapping[Question, Sequence[str]] = {
    "explain": (
        "What is {name} ({id})?",
        "Explain the ATT&CK technique {id}, {name}.",
        "What is {id}?",
        "How does {name} work?",
        "What do adversaries do when they use {name}?",
        "Describe {id} ({name}) and say which tactics it serves.",
        "Which tactics does {name} serve, and how?",
        "An alert mentions {id}. What does it mean?",
        "Summarize {name} ({id}) for an incident report.",
    ),
    "detect": (
        "How can I detect {name} ({id})?",
        "How do defenders notice {name}?",
        "Give detection guidance for {id}, {name}.",
        "What are signs of {name} ({id})?",
        "We want to hunt for {id}, {name}. What do we look for?",
        "Which data helps to detect {name} ({id})?",
        "What should we monitor to find {name}?",
        "What should a SOC watch to catch {id}?",
    ),
    "mitigate": (
        "How can {name} ({id}) be mitigated?",
        "How do we protect ourselves against {name}?",
        "Name mitigations for {id}, {name}, and explain one.",
        "What stops adversaries from using {name} ({id})?",
        "Which mitigations does ATT&CK list for {id}, {name}?",
        "What can we harden against {name}?",
        "How can {id} be mitigated?",
    ),
}
"""Templates of the instructions, with the fields `{name}` and `{id}`."""

_QUERIES = re.compile(r"\bAnalytic \d+\b")
"""Where the search queries begin in a detection text of ATT&CK; the prose is before them."""
_OF_RELATION: Mapping[str, tuple[Question, Role]] = {
    "mitigates": ("mitigate", "mitigation"),
    "detects": ("detect", "detection"),
}
"""Type of a relationship to a technique -> the question that it answers, and what its source is."""


def project(event: Event, clean: CleanText) -> Projection | None:
    """The instructions of an event, in the group of their technique.

    Args:
        event: Any event.
        clean: Removes the markup of a text.

    Returns:
        The projection, or None for other events than those above. It is retracted if the event or one of its ends
        is not active, or if the technique has no tactics.
    """
    if isinstance(event, Technique):
        return _technique(event, clean)
    if isinstance(event, Relationship) and event.relation in _OF_RELATION and event.target.kind == "technique":
        return _relationship(event, clean)
    return None


def _technique(event: Technique, clean: CleanText) -> Projection:
    key = f"technique:{event.id}"
    labels = tactic_labels(event.tactics)
    retracted = event.status != "active" or not labels
    instructions = () if retracted else _explanation_and_detection(key, event, clean)
    return Projection(key=key, group=key, instructions=instructions, labels=labels, retracted=retracted)


def _relationship(event: Relationship, clean: CleanText) -> Projection:
    key, target, source = f"relationship:{event.id}", event.target, event.source
    labels = tactic_labels(target.tactics)
    retracted = any_end_inactive(event) or not labels
    question, role = _OF_RELATION[event.relation]
    line = Line(role=role, name=source.name or source.id, id=source.external_id, text=_prose(event.text, clean))
    known = Context(name=target.name or target.id, id=target.id, tactics=target.tactics, lines=(line,))
    return Projection(
        key=key,
        group=f"technique:{target.id}",
        instructions=() if retracted else (_instruction(question, key, known),),
        labels=labels,
        retracted=retracted,
    )


def _explanation_and_detection(key: str, technique: Technique, clean: CleanText) -> tuple[Instruction, ...]:
    def known(*lines: Line) -> Context:
        name = technique.name or technique.id
        return Context(name=name, id=technique.id, tactics=technique.tactics, lines=lines)

    platforms = [platform for platform in meaningful(technique.platforms) if platform != "PRE"]
    lines = [Line(role="platforms", text=enumerate_words(platforms))] if platforms else []
    if description := _prose(technique.text, clean):
        lines.append(Line(role="description", text=description))
    explanation = _instruction("explain", key, known(*lines))
    guidance = _prose(technique.detection, clean) if means_something(technique.detection) else ""
    if not guidance:
        return (explanation,)
    return explanation, _instruction("detect", key, known(Line(role="guidance", text=guidance)))


def _prose(text: str, clean: CleanText) -> str:
    """The prose of a text of a feed, truncated."""
    return truncate(_QUERIES.split(clean(text), maxsplit=1)[0].rstrip(), MAX_TEXT_CHARS)


def _instruction(question: Question, key: str, known: Context) -> Instruction:
    prompts = PROMPTS[question]
    prompt = prompts[key_hash(f"{prompts[0]} {key}") % len(prompts)]
    return Instruction(
        instruction=prompt.format_map({"name": known.name, "id": known.id}),
        input=as_text([known]),
        output=answer(known, question),
    )
