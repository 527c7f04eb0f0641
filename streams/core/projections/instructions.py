"""What `phi3-mitre-lora` is asked and answers: instructions made of one event, in the words that people use.

    technique                   explanation, and detection guidance where the event has it
    mitigates relationship      what mitigates the technique, and how
    detects relationship        what detects it (a data component, a detection strategy), and how

A question has many wordings; which one a key gets follows from its hash, so an edit of the answer keeps the
question. Answers are plain prose that names the technique, its tactics, and what mitigates or detects it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from schemas.events import Relationship, Technique
from schemas.journal import Instruction, key_hash

MAX_ANSWER_CHARS = 1_500
"""Of the prose of a feed in an answer; it is cut at the end of a sentence."""

Clean = Callable[[str], str]
"""Prose of a feed without its markup."""

Asked = tuple[str, str]
"""Instruction and input, with `{name}`, `{id}` and `{by}` to be filled in."""

EXPLAIN: Sequence[Asked] = (
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
DETECT: Sequence[Asked] = (
    ("How can I detect {name} ({id})?", ""),
    ("How do defenders notice {name}?", ""),
    ("Give detection guidance for this ATT&CK technique.", "{id} {name}"),
    ("What are signs of {name} ({id})?", ""),
    ("We want to hunt for {id}, {name}. What do we look for?", ""),
)
DETECT_BY: Sequence[Asked] = (
    ("Which data helps to detect {name} ({id})?", ""),
    ("How can I detect {name} ({id})?", ""),
    ("What should we monitor to find {name}?", ""),
    ("Give detection guidance for this ATT&CK technique.", "{id} {name}"),
    ("What should a SOC watch to catch {id}, {name}?", ""),
    ("How does {by} help to detect {name} ({id})?", ""),
    ("How do I use this to detect {name} ({id})?", "{by}"),
)
MITIGATE: Sequence[Asked] = (
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
"""From here on a detection text of ATT&CK has queries of search engines, not prose."""
_DOMAINS = {"ics-attack": "ATT&CK for ICS", "mobile-attack": "ATT&CK for Mobile"}
_BY = {"data-component": "data from {by}", "detection-strategy": "the detection strategy {by}"}


def of_technique(key: str, technique: Technique, clean: Clean) -> tuple[Instruction, ...]:
    """What an active technique with tactics teaches."""
    sort = "sub-technique" if "." in technique.id else "technique"
    lead = (
        f"{technique.name} ({technique.id}) is a {sort} of {_DOMAINS.get(technique.domain, 'ATT&CK')} that serves "
        f"{tactics_in_words(technique.tactics)}."
    )
    platforms = [platform for platform in technique.platforms if platform != "PRE"]
    where = f" It concerns {listed(platforms)}." if platforms else ""
    found = [_asked(EXPLAIN, key, technique, answer=_prose(clean, lead + where, technique.text))]
    if technique.detection.strip():
        lead = (
            f"{technique.name} ({technique.id}), which serves {tactics_in_words(technique.tactics)}, "
            "can be detected as follows."
        )
        found.append(_asked(DETECT, key, technique, answer=_prose(clean, lead, technique.detection)))
    return tuple(found)


def of_mitigation(key: str, relation: Relationship, clean: Clean) -> tuple[Instruction, ...]:
    """What an active `mitigates` relationship to a technique teaches."""
    lead = f"ATT&CK lists the mitigation {relation.source.name} against {_target(relation)}."
    return (_asked(MITIGATE, key, relation, answer=_prose(clean, lead, relation.text)),)


def of_detection(key: str, relation: Relationship, clean: Clean) -> tuple[Instruction, ...]:
    """What an active `detects` relationship to a technique teaches."""
    by = _BY.get(relation.source.kind, "{by}").format(by=relation.source.name)
    lead = f"{_target(relation)}, can be detected with {by}."
    return (_asked(DETECT_BY, key, relation, answer=_prose(clean, lead, relation.text)),)


def tactics_in_words(tactics: Sequence[str]) -> str:
    """Tactics as a sentence says them.

    >>> tactics_in_words(("command-and-control",)), tactics_in_words(("impact", "defense-evasion"))
    ('the tactic command and control', 'the tactics impact and defense evasion')
    """
    words = [tactic.replace("-", " ") for tactic in tactics]
    return f"the tactic{'s' if len(words) > 1 else ''} {listed(words)}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def cut(text: str, most: int = MAX_ANSWER_CHARS) -> str:
    """Prose of at most so many characters that ends with a sentence; where no sentence ends, with a word.

    >>> cut("One is short. Two is longer.", 20), cut("no sentence ends here", 12)
    ('One is short.', 'no sentence ...')
    """
    if len(text) <= most:
        return text
    head = text[: most + 1]
    end = max(head.rfind(mark) for mark in (". ", "! ", "? ", ".) "))
    if end > 0:
        return head[: end + 1].rstrip()
    return f"{head[: max(head.rfind(' '), 0)] or head[:most]} ..."


def _target(relation: Relationship) -> str:
    target = relation.target
    return f"{target.name or target.id} ({target.id}), which serves {tactics_in_words(target.tactics)}"


def _prose(clean: Clean, lead: str, text: str) -> str:
    said = cut(_QUERIES.split(clean(text), maxsplit=1)[0].rstrip())
    if said and said[-1] not in ".!?:)":
        said += "."
    return " ".join(part for part in (lead, said) if part)


def _asked(wordings: Sequence[Asked], key: str, event: Technique | Relationship, *, answer: str) -> Instruction:
    instruction, given = wordings[key_hash(f"{wordings[0][0]} {key}") % len(wordings)]
    end, by = (event.target, event.source.name) if isinstance(event, Relationship) else (event, "")
    words = {"name": end.name or end.id, "id": end.id, "by": by}
    return Instruction(instruction=instruction.format_map(words), input=given.format_map(words), output=answer)
