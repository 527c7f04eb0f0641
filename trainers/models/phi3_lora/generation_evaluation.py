"""Questions that a language model answers in its own words, and whether the answers name what they should.

A question is about a technique of the holdout. Its answer names a right tactic if the first tactic in it is one of
the technique's, and a right mitigation if the first one in it is one that ATT&CK lists against the technique.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from schemas.journal import Example, Instruction
from trainers.models.phi3_lora.chat import question

_MITIGATION = re.compile(r"ATT&CK lists the mitigation (.{1,200}?) against ")


class Quiz(NamedTuple):
    """A question about a technique of the holdout.

    Attributes:
        technique: Its group.
        asked: The question, with the answer that ATT&CK gives.
        tactics: Its tactics; to name one of them first is right.
        known_tactics: Whatever may be named.
        mitigations: That ATT&CK lists against it, of those that the examples have; empty for another question.
        known_mitigations: Of all examples.
    """

    technique: str
    asked: Instruction
    tactics: tuple[str, ...]
    known_tactics: tuple[str, ...]
    mitigations: tuple[str, ...]
    known_mitigations: tuple[str, ...]


def make_quizzes(
    judged: Sequence[Example], others: Sequence[Example], tactics: Collection[str], number: int
) -> list[Quiz]:
    """At most `number` questions, up to half of them for a mitigation; none names the mitigation it asks for.

    Args:
        judged: Examples of the holdout, which the questions come from.
        others: More examples, which say what mitigations and tactics there are.
        tactics: That there are beside those of the examples.
    """
    listed: dict[str, set[str]] = {}
    for example in judged:
        listed.setdefault(example.group or example.key, set()).update(_mitigations(example))
    everything = [*judged, *others]
    known = tuple(sorted({*tactics, *(label for example in everything for label in example.labels)}))
    mitigations = tuple(sorted({name for example in everything for name in _mitigations(example)}))

    def quiz(example: Example, asked: Instruction) -> Quiz:
        technique = example.group or example.key
        right = tuple(sorted(listed[technique])) if mitigation_of(asked.output) else ()
        return Quiz(technique, asked, example.labels, known, right, mitigations)

    found = [quiz(example, asked) for example in judged for asked in example.instructions]
    found.sort(key=lambda one: _rank(question(one.asked)))
    of_mitigation = [one for one in found if one.mitigations and not _gives_away(one)]
    some = _one_each(of_mitigation)[: number // 2]
    return some + _one_each([one for one in found if not one.mitigations])[: number - len(some)]


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _mitigations(example: Example) -> set[str]:
    return {name for one in example.instructions if (name := mitigation_of(one.output))}


def _gives_away(quiz: Quiz) -> bool:
    return bool(named_first(question(quiz.asked), quiz.mitigations))


def _one_each(quizzes: Sequence[Quiz]) -> list[Quiz]:
    """The first of each technique."""
    found: dict[str, Quiz] = {}
    for quiz in quizzes:
        found.setdefault(quiz.technique, quiz)
    return list(found.values())


def named_shares(quizzes: Sequence[Quiz], answers: Sequence[str]) -> dict[str, float]:
    """The share of answers that name a right tactic before any other, and of those to a question for a mitigation
    the share that names a listed one before any other; nothing where nothing was asked."""
    judged = list(zip(quizzes, answers, strict=True))
    tactics = [named_first(said, quiz.known_tactics) in quiz.tactics for quiz, said in judged]
    mitigations = [
        named_first(said, quiz.known_mitigations) in quiz.mitigations for quiz, said in judged if quiz.mitigations
    ]
    shares = {"tactic_named": tactics, "mitigation_named": mitigations}
    return {name: sum(hits) / len(hits) for name, hits in shares.items() if hits}


def named_first(text: str, names: Collection[str]) -> str:
    """The one of some names that a text names first, in whatever case; "" where it names none.

    >>> named_first("This serves Defense-Evasion, with impact.", ["impact", "evasion", "defense evasion"])
    'defense evasion'
    """
    if not names:
        return ""
    longest = sorted(names, key=lambda name: (-len(name), name))
    by_words = {_words(name): name for name in reversed(longest)}
    found = re.search(rf"\b(?:{'|'.join(re.escape(_words(name)) for name in longest)})\b", _words(text))
    return by_words[found[0]] if found else ""


def _words(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").split())


def mitigation_of(answer: str) -> str:
    """The mitigation that an answer from a `mitigates` relationship is about; "" for any other answer.

    >>> mitigation_of("ATT&CK lists the mitigation User Training against Phishing (T1566), which ...")
    'User Training'
    """
    found = _MITIGATION.match(answer)
    return found[1] if found else ""
