"""What is known of a technique, as text for a prompt: one form for the journal, the trainer and the server.

    Process Injection (T1055)
    Tactics: defense evasion, privilege escalation
    Platforms: Linux and Windows
    Description: Adversaries may inject code into processes.
    Mitigation: Behavior Prevention on Endpoint (M1040): Block some types of process injection.
    Detection: Process Access (DC0035): Monitor for processes being viewed.

A prompt may have several techniques, with a blank line between two. `answer` is what a right answer says: only what
the context says, and that it is not there where it is not. An answer begins with the technique, also where it is
not known: a small language model copies well, and decides well only after it has copied what it decides about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from schemas.prose import describe_tactics, enumerate_words, truncate

Question = Literal["explain", "detect", "mitigate"]
"""What a question wants to know of a technique."""
Role = Literal["platforms", "description", "mitigation", "detection", "guidance"]
"""What a line says of the technique. `guidance` is how to detect it, in prose, without a name."""

MAX_CONTEXT_CHARS = 640
"""Length of the context in a prompt; about 160 tokens of `smollm2`."""
MAX_LINE_CHARS = 160
"""Length of the text in a line of the context in a prompt that answers the question."""
MAX_ASIDE_CHARS = 100
"""Length of the text in any other line; of the other lines, there is one of each role."""
MAX_LISTED = 3
"""Mitigations or detections that one answer lists."""

ANSWERED_BY: Mapping[Question, tuple[Role, ...]] = {
    "explain": ("platforms", "description"),
    "detect": ("detection", "guidance"),
    "mitigate": ("mitigation",),
}
"""Question -> the lines that answer it."""

_WORDS: Mapping[Role, str] = {
    "platforms": "Platforms",
    "description": "Description",
    "mitigation": "Mitigation",
    "detection": "Detection",
    "guidance": "Detection guidance",
}
_ROLES: Mapping[str, Role] = {word: role for role, word in _WORDS.items()}
_NAMED: frozenset[Role] = frozenset(("mitigation", "detection"))
"""Roles whose lines begin with a name."""
_TACTICS = "Tactics"
_VERBS: Mapping[Question, str] = {"detect": "detected", "mitigate": "mitigated"}
_NOUNS: Mapping[Question, str] = {"detect": "detection", "mitigate": "mitigation"}
_HEADER = re.compile(r"(?P<name>.+) \((?P<id>[^()\s]+)\)")
_NAME = re.compile(r"(?P<name>.*?)(?: \((?P<id>[^()\s]*\d)\))?(?:: (?P<text>.*))?")
_NOT_KNOWN = re.compile(
    r"\b(?:not|doesn't|don't|isn't|aren't) (?:say|know|mention|specify|provide|contain|include|state|give|list"
    r"|explicitly|mentioned|specified|provided|stated|given|listed|known)"
    r"|\bno (?:information|answer|mention|mitigations?|detections?)\b|\bis not in the context\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a context: `name` and `id` are those of a mitigation or a detection, `id` if it has one."""

    role: Role
    name: str = ""
    id: str = ""
    text: str = ""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one technique: its name and id, its tactics with hyphens, and lines."""

    name: str
    id: str
    tactics: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()

    def of(self, question: Question) -> list[Line]:
        """The lines that answer a question, in order."""
        return [line for role in ANSWERED_BY[question] for line in self.lines if line.role == role]


def as_text(contexts: Iterable[Context]) -> str:
    """Contexts as text, with a blank line between two.

    >>> print(as_text([Context(name="Lua", id="T1", tactics=("initial-access",),
    ...                        lines=(Line(role="mitigation", name="Audit", id="M1", text="Do it."),))]))
    Lua (T1)
    Tactics: initial access
    Mitigation: Audit (M1): Do it.
    """
    return "\n\n".join("\n".join(_text_lines(context)) for context in contexts)


def from_text(text: str) -> tuple[Context, ...]:
    """The contexts of a text as `as_text` writes it; none if it is any other text.

    >>> from_text("Lua (T1)\\nMitigation: Audit (M1): Do it.")[0].lines[0].id
    'M1'
    >>> from_text("T1059.001 PowerShell")
    ()
    """
    found = [_context(block.split("\n")) for block in text.split("\n\n") if text]
    return tuple(each for each in found if each) if all(found) else ()


def fitted(context: Context, question: Question, max_chars: int = MAX_CONTEXT_CHARS) -> Context:
    """As much of a context as fits a prompt, what answers the question first.

    Args:
        context: All that is known.
        question: What is asked.
        max_chars: Limit of the text, in characters. The name, the id and the tactics are always there.

    Returns:
        Of each role that answers the question, at most `MAX_LISTED` lines; of each other role one, which is
        shorter. In the order of `context`.
    """
    size = len("\n".join(_text_lines(msgspec.structs.replace(context, lines=()))))
    by_importance = sorted(enumerate(context.lines), key=lambda at: at[1].role not in ANSWERED_BY[question])
    listed: dict[Role, int] = {}
    kept: dict[int, Line] = {}
    for place, line in by_importance:
        most, chars = (MAX_LISTED, MAX_LINE_CHARS) if line.role in ANSWERED_BY[question] else (1, MAX_ASIDE_CHARS)
        short = msgspec.structs.replace(line, text=truncate(line.text, chars))
        length = 1 + len(_text_line(short))
        if listed.get(line.role, 0) < most and size + length <= max_chars:
            listed[line.role] = listed.get(line.role, 0) + 1
            kept[place] = short
            size += length
    return msgspec.structs.replace(context, lines=tuple(kept[place] for place in sorted(kept)))


def answer(context: Context, question: Question) -> str:
    """What a right answer says.

    Args:
        context: What is known of the technique that is asked about.
        question: What is asked.

    >>> answer(Context(name="Lua", id="T1", tactics=("impact",)), "mitigate")
    'Lua (T1), which serves the tactic impact, has no mitigation in the context.'
    """
    lines = context.of(question)
    if question == "explain":
        return " ".join((_definition(context), *map(_explained, lines)))
    if not lines:
        return f"{_subject(context)} has no {_NOUNS[question]} in the context."
    named = [line for line in lines if line.name][:MAX_LISTED]
    if not named:
        return f"{_subject(context)} can be {_VERBS[question]} as follows. {_ended(lines[0].text)}"
    listed = enumerate_words([_called(line) for line in named])
    told = next((line for line in named if line.text), None)
    lead = f"{_subject(context)} can be {_VERBS[question]} with {listed}."
    return f"{lead} {told.name}: {_ended(told.text)}" if told else lead


def not_there(called: str) -> str:
    """What a right answer says of a technique that the context does not have.

    Args:
        called: The technique, as the question calls it.
    """
    return f"{called} is not in the context."


def says_no_answer(text: str) -> bool:
    """Whether the first sentence of an answer says that it is not known, as `answer` does or in other words.

    >>> says_no_answer(not_there("T1")), says_no_answer("It doesn't mention any."), says_no_answer("Audit.")
    (True, True, False)
    """
    return bool(_NOT_KNOWN.search(_SENTENCE_END.split(text.strip(), maxsplit=1)[0]))


def _text_lines(context: Context) -> Sequence[str]:
    tactics = ", ".join(tactic.replace("-", " ") for tactic in context.tactics)
    header = [f"{_one_line(context.name)} ({context.id})", *([f"{_TACTICS}: {tactics}"] if tactics else [])]
    return [*header, *map(_text_line, context.lines)]


def _text_line(line: Line) -> str:
    parts = (_called(line), line.text) if line.role in _NAMED else (line.text,)
    return ": ".join((_WORDS[line.role], *filter(None, map(_one_line, parts))))


def _called(line: Line) -> str:
    name = line.name.replace(": ", " - ")
    return f"{name} ({line.id})" if line.id else name


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _context(lines: Sequence[str]) -> Context | None:
    header = _HEADER.fullmatch(lines[0])
    if not header:
        return None
    tactics: tuple[str, ...] = ()
    found: list[Line] = []
    for text in lines[1:]:
        word, _, rest = text.partition(": ")
        if word == _TACTICS:
            tactics = tuple(tactic.replace(" ", "-") for tactic in rest.split(", "))
        elif word not in _ROLES:
            return None
        else:
            found.append(_line(_ROLES[word], rest))
    return Context(name=header["name"], id=header["id"], tactics=tactics, lines=tuple(found))


def _line(role: Role, text: str) -> Line:
    named = _NAME.fullmatch(text) if role in _NAMED else None
    if not named:
        return Line(role=role, text=text)
    return Line(role=role, name=named["name"], id=named["id"] or "", text=named["text"] or "")


def _definition(context: Context) -> str:
    kind = "sub-technique" if "." in context.id else "technique"
    serves = f" that serves {describe_tactics(context.tactics)}" if context.tactics else ""
    return f"{context.name} ({context.id}) is a {kind}{serves}."


def _explained(line: Line) -> str:
    return f"It concerns {line.text}." if line.role == "platforms" else _ended(line.text)


def _subject(context: Context) -> str:
    called = f"{context.name} ({context.id})"
    return f"{called}, which serves {describe_tactics(context.tactics)}," if context.tactics else called


def _ended(text: str) -> str:
    """The text, ended as a sentence."""
    return text if not text or text[-1] in ".!?:)" else f"{text}."
