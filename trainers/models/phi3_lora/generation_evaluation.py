"""Generation evaluation: do generated answers name a right tactic and a right mitigation?

A case is a question about a technique of the holdout. An answer names a right tactic if the first tactic in it is
one of the technique's tactics. It names a right mitigation if the first mitigation in it is one that ATT&CK lists
for the technique.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from schemas.journal import Example, Instruction
from trainers.models.phi3_lora.chat import question_text

_MITIGATION = re.compile(r"ATT&CK lists the mitigation (.{1,200}?) against ")


class GenerationCase(NamedTuple):
    """A question about a technique of the holdout, and what a right answer names.

    Attributes:
        technique: Key of the technique, or of the example if that has no group.
        instruction: The question, with the answer that ATT&CK gives.
        tactics: The tactics of the technique; naming one of them first is right.
        known_tactics: All tactics that an answer may name.
        mitigations: The mitigations that ATT&CK lists for the technique, as far as the examples have them; empty if
            the question does not ask for one.
        known_mitigations: All mitigations that an answer may name.
    """

    technique: str
    instruction: Instruction
    tactics: tuple[str, ...]
    known_tactics: tuple[str, ...]
    mitigations: tuple[str, ...]
    known_mitigations: tuple[str, ...]

    @property
    def question(self) -> str:
        """The user's message."""
        return question_text(self.instruction)


def make_cases(
    holdout: Sequence[Example], others: Sequence[Example], tactics: Collection[str], number: int
) -> list[GenerationCase]:
    """Choose cases, at most one of each kind for a technique; the same ones in every run.

    Up to half of the cases ask for a mitigation. A question that names one of the right mitigations is not used.

    Args:
        holdout: The examples that the questions come from.
        others: More examples, whose tactics and mitigations are known too.
        tactics: Known tactics in addition to those of the examples.
        number: Largest number of cases.
    """
    listed: dict[str, set[str]] = {}
    for example in holdout:
        listed.setdefault(example.group or example.key, set()).update(_mitigations(example))
    everything = [*holdout, *others]
    known_tactics = tuple(sorted({*tactics, *(label for example in everything for label in example.labels)}))
    known_mitigations = tuple(sorted({name for example in everything for name in _mitigations(example)}))

    def case(example: Example, instruction: Instruction) -> GenerationCase:
        technique = example.group or example.key
        mitigations = tuple(sorted(listed[technique])) if mitigation_of(instruction.output) else ()
        return GenerationCase(technique, instruction, example.labels, known_tactics, mitigations, known_mitigations)

    cases = [case(example, instruction) for example in holdout for instruction in example.instructions]
    cases.sort(key=lambda case: _rank(case.question))
    with_mitigation = [case for case in cases if case.mitigations and not _names_its_answer(case)]
    without_mitigation = [case for case in cases if not case.mitigations]
    chosen = _one_per_technique(with_mitigation)[: number // 2]
    return chosen + _one_per_technique(without_mitigation)[: number - len(chosen)]


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _mitigations(example: Example) -> set[str]:
    return {name for one in example.instructions if (name := mitigation_of(one.output))}


def _names_its_answer(case: GenerationCase) -> bool:
    return bool(named_first(case.question, case.mitigations))


def _one_per_technique(cases: Sequence[GenerationCase]) -> list[GenerationCase]:
    """The first case of each technique."""
    found: dict[str, GenerationCase] = {}
    for case in cases:
        found.setdefault(case.technique, case)
    return list(found.values())


def named_shares(cases: Sequence[GenerationCase], answers: Sequence[str]) -> dict[str, float]:
    """The shares of answers that name what is right before anything that is wrong, 0 to 1.

    Args:
        cases: May be empty.
        answers: One for each case.

    Returns:
        `tactic_named`: of all answers. `mitigation_named`: of the answers to questions for a mitigation. A metric
        without answers is left out.
    """
    answered = list(zip(cases, answers, strict=True))
    tactics = [named_first(answer, case.known_tactics) in case.tactics for case, answer in answered]
    mitigations = [
        named_first(answer, case.known_mitigations) in case.mitigations
        for case, answer in answered
        if case.mitigations
    ]
    hits_of = {"tactic_named": tactics, "mitigation_named": mitigations}
    return {metric: sum(hits) / len(hits) for metric, hits in hits_of.items() if hits}


def named_first(text: str, names: Collection[str]) -> str:
    """The name that occurs first in a text, upper or lower case, with hyphens or spaces; "" if none occurs.

    Of several names that begin at the same word, it is the longest.

    >>> named_first("This serves Defense-Evasion, with impact.", ["impact", "evasion", "defense evasion"])
    'defense evasion'
    """
    if not names:
        return ""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    by_normalized = {_normalized(name): name for name in reversed(longest_first)}
    pattern = "|".join(re.escape(_normalized(name)) for name in longest_first)
    found = re.search(rf"\b(?:{pattern})\b", _normalized(text))
    return by_normalized[found[0]] if found else ""


def _normalized(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").split())


def mitigation_of(answer: str) -> str:
    """The mitigation that an answer made from a `mitigates` relationship is about; "" for any other answer.

    >>> mitigation_of("ATT&CK lists the mitigation User Training against Phishing (T1566), which ...")
    'User Training'
    """
    found = _MITIGATION.match(answer)
    return found[1] if found else ""


def sample_records(
    cases: Sequence[GenerationCase], before: Sequence[str], after: Sequence[str], number: int
) -> list[dict[str, str]]:
    """Some cases with their answers, as records to show.

    Args:
        cases: The questions, with the answers that ATT&CK gives.
        before, after: The answers of the base model, and of the version; one for each case.
        number: Largest number of records. Questions for a mitigation and other questions alternate.

    Returns:
        Records with the keys `question`, `attack` (the answer of ATT&CK), `before` and `after`.
    """
    answered = list(zip(cases, before, after, strict=True))
    with_mitigation = [one for one in answered if one[0].mitigations]
    without_mitigation = [one for one in answered if not one[0].mitigations]
    turns = itertools.chain.from_iterable(itertools.zip_longest(with_mitigation, without_mitigation))
    return [
        {"question": case.question, "attack": case.instruction.output, "before": base_answer, "after": answer}
        for case, base_answer, answer in itertools.islice(filter(None, turns), number)
    ]
