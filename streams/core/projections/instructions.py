"""What `phi3-mitre-lora` learns from an event: instructions and their answers.

    event                       instructions
    technique                   its explanation, and its detection guidance if the event has any
    mitigates relationship      what mitigates the technique, and how
    detects relationship        what detects it (a data component, a detection strategy), and how

Each instruction has many wordings. The hash of the key selects one, so an edited answer keeps its instruction.
Answers are plain prose that names the technique, its tactics, and what mitigates or detects it. All examples of a
technique are in one group, so that they are all in the holdout or all in the training set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from schemas.events import Event, Relationship, Technique
from schemas.journal import Instruction, key_hash
from schemas.taxonomy import tactic_labels
from schemas.text import meaningful, means_something
from streams.core.projections.base import Projection, any_end_inactive
from streams.core.projections.text import CleanText

MAX_ANSWER_CHARS = 1_500
"""Limit for the text of the feed in an answer, in characters."""

Prompt = tuple[str, str]
"""Templates of an instruction and its input, with the fields `{name}`, `{id}` and `{by}`."""

EXPLAIN_PROMPTS: Sequence[Prompt] = (
    ("What is {name} ({id})?", ""),
    ("Explain the ATT&CK technique {id}, {name}.", ""),
    ("Explain this ATT&CK technique.", "{id} {name}"),
    ("How does {name} work?", ""),
    ("What do adversaries do when they use {name}?", ""),
    ("Describe {id} ({name}) and say which tactics it serves.", ""),
    ("Which tactics does {name} serve, and how?", ""),
    ("An alert mentions {id}. What does it mean?", ""),
    ("Summarize the technique for an incident report.", "{name} ({id})"),
)
DETECT_PROMPTS: Sequence[Prompt] = (
    ("How can I detect {name} ({id})?", ""),
    ("How do defenders notice {name}?", ""),
    ("Give detection guidance for this ATT&CK technique.", "{id} {name}"),
    ("What are signs of {name} ({id})?", ""),
    ("We want to hunt for {id}, {name}. What do we look for?", ""),
)
DETECT_BY_PROMPTS: Sequence[Prompt] = (
    ("Which data helps to detect {name} ({id})?", ""),
    ("How can I detect {name} ({id})?", ""),
    ("What should we monitor to find {name}?", ""),
    ("Give detection guidance for this ATT&CK technique.", "{id} {name}"),
    ("What should a SOC watch to catch {id}, {name}?", ""),
    ("How does {by} help to detect {name} ({id})?", ""),
    ("How do I use this to detect {name} ({id})?", "{by}"),
)
MITIGATE_PROMPTS: Sequence[Prompt] = (
    ("How can {name} ({id}) be mitigated?", ""),
    ("How do we protect ourselves against {name}?", ""),
    ("Name a mitigation for this ATT&CK technique and explain it.", "{id} {name}"),
    ("What stops adversaries from using {name} ({id})?", ""),
    ("Which mitigation does ATT&CK list for {id}, {name}?", ""),
    ("What can we harden against {name}?", ""),
    ("How does {by} help against {name} ({id})?", ""),
    ("How do I apply this against {name} ({id})?", "{by}"),
)

_QUERIES = re.compile(r"\bAnalytic \d+\b")
"""Where the search queries begin in a detection text of ATT&CK; the prose is before them."""
_DOMAINS = {"ics-attack": "ATT&CK for ICS", "mobile-attack": "ATT&CK for Mobile", "atlas": "MITRE ATLAS"}
_DETECTED_BY = {"data-component": "data from {by}", "detection-strategy": "the detection strategy {by}"}


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
    key = f"relationship:{event.id}"
    labels = tactic_labels(event.target.tactics)
    retracted = any_end_inactive(event) or not labels
    return Projection(
        key=key,
        group=f"technique:{event.target.id}",
        instructions=() if retracted else (_OF_RELATION[event.relation](key, event, clean),),
        labels=labels,
        retracted=retracted,
    )


def _explanation_and_detection(key: str, technique: Technique, clean: CleanText) -> tuple[Instruction, ...]:
    explanation = _instruction(
        EXPLAIN_PROMPTS, key, technique, answer=_answer(clean, _definition(technique), technique.text)
    )
    if not means_something(technique.detection):
        return (explanation,)
    lead = (
        f"{technique.name} ({technique.id}), which serves {describe_tactics(technique.tactics)}, "
        "can be detected as follows."
    )
    answer = _answer(clean, lead, technique.detection)
    return explanation, _instruction(DETECT_PROMPTS, key, technique, answer=answer)


def _definition(technique: Technique) -> str:
    kind = "sub-technique" if "." in technique.id else "technique"
    domain = _DOMAINS.get(technique.domain, "ATT&CK")
    tactics = describe_tactics(technique.tactics)
    definition = f"{technique.name} ({technique.id}) is a {kind} of {domain} that serves {tactics}."
    platforms = [platform for platform in meaningful(technique.platforms) if platform != "PRE"]
    return f"{definition} It concerns {enumerate_words(platforms)}." if platforms else definition


def _mitigation(key: str, relationship: Relationship, clean: CleanText) -> Instruction:
    catalogue = _DOMAINS["atlas"] if relationship.domain == "atlas" else "ATT&CK"
    lead = f"{catalogue} lists the mitigation {relationship.source.name} against {_target(relationship)}."
    return _instruction(MITIGATE_PROMPTS, key, relationship, answer=_answer(clean, lead, relationship.text))


def _detection(key: str, relationship: Relationship, clean: CleanText) -> Instruction:
    by = _DETECTED_BY.get(relationship.source.kind, "{by}").format(by=relationship.source.name)
    lead = f"{_target(relationship)}, can be detected with {by}."
    return _instruction(DETECT_BY_PROMPTS, key, relationship, answer=_answer(clean, lead, relationship.text))


_OF_RELATION: Mapping[str, Callable[[str, Relationship, CleanText], Instruction]] = {
    "mitigates": _mitigation,
    "detects": _detection,
}
"""Type of a relationship to a technique -> its instruction."""


def describe_tactics(tactics: Sequence[str]) -> str:
    """Tactics as they are written in a sentence. There must be at least one.

    >>> describe_tactics(("command-and-control",)), describe_tactics(("impact", "defense-evasion"))
    ('the tactic command and control', 'the tactics impact and defense evasion')
    """
    words = [tactic.replace("-", " ") for tactic in tactics]
    return f"the tactic{'s' if len(words) > 1 else ''} {enumerate_words(words)}"


def enumerate_words(words: Sequence[str]) -> str:
    """Words as they are listed in a sentence. There must be at least one.

    >>> enumerate_words(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def truncate(text: str, max_chars: int = MAX_ANSWER_CHARS) -> str:
    """Truncate a text after its last whole sentence, or after its last whole word if no sentence fits.

    Args:
        text: Any text; one that fits is returned as it is.
        max_chars: Limit in characters, at least 1. The ` ...` after a truncated sentence is not counted.

    >>> truncate("One is short. Two is longer.", 20), truncate("no sentence ends here", 12)
    ('One is short.', 'no sentence ...')
    """
    if len(text) <= max_chars:
        return text
    head = text[: max_chars + 1]
    sentence_end = max(head.rfind(ending) for ending in (". ", "! ", "? ", ".) "))
    if sentence_end > 0:
        return head[: sentence_end + 1].rstrip()
    return f"{head[: max(head.rfind(' '), 0)] or head[:max_chars]} ..."


def _target(relationship: Relationship) -> str:
    target = relationship.target
    return f"{target.name or target.id} ({target.id}), which serves {describe_tactics(target.tactics)}"


def _answer(clean: CleanText, lead: str, text: str) -> str:
    """The lead, then the prose of the feed, truncated and ended as a sentence."""
    prose = truncate(_QUERIES.split(clean(text), maxsplit=1)[0].rstrip())
    if prose and prose[-1] not in ".!?:)":
        prose += "."
    return " ".join(part for part in (lead, prose) if part)


def _instruction(
    prompts: Sequence[Prompt], key: str, event: Technique | Relationship, *, answer: str
) -> Instruction:
    instruction, given = prompts[key_hash(f"{prompts[0][0]} {key}") % len(prompts)]
    technique, by = (event.target, event.source.name) if isinstance(event, Relationship) else (event, "")
    fields = {"name": technique.name or technique.id, "id": technique.id, "by": by}
    return Instruction(instruction=instruction.format_map(fields), input=given.format_map(fields), output=answer)
