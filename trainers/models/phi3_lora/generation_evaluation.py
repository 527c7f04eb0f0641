"""Generation evaluation: is what generated answers say in their context, and do they say that something is not?

A case is a question about a technique of the holdout.

    tactic_named         the first tactic in the answer is one of the technique's
    mitigation_named     the first mitigation in it is one that ATT&CK lists for the technique
    citation_precision   of the ids that answers cite, those of the technique and of what is listed for it
    invented_ids         of the ids that answers cite, those that are not in the question and its context
    grounded             answers without an id, a tactic or a name that is not in the context
    no_answer_recall     of the questions that their context does not answer, those whose answer says so
    false_no_answer      of the other questions, those whose answer says so
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from schemas.context import as_text, from_text, says_no_answer
from schemas.grounding import ids, names_in, ungrounded
from schemas.journal import Example, Instruction
from trainers.models.phi3_lora.chat import question_text

_MITIGATION = re.compile(r"ATT&CK lists the mitigation (.{1,200}?) against ")
"""How answers named a mitigation before they had a context."""
_MITIGATED = " can be mitigated with "
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


class GenerationCase(NamedTuple):
    """A question about a technique of the holdout, and what a right answer names.

    Attributes:
        technique: Key of the technique, or of the example if that has no group.
        instruction: The question, with the answer that its context gives.
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

    @property
    def is_answered(self) -> bool:
        """Whether the context answers the question."""
        return not says_no_answer(self.instruction.output)

    @property
    def own_context(self) -> str:
        """What the question and its context say of the technique, without what does not belong."""
        asked = self.instruction
        contexts = from_text(asked.input)
        own = as_text(c for c in contexts if f"technique:{c.id}" == self.technique) if contexts else asked.input
        return f"{asked.instruction}\n{own}"


def make_cases(
    holdout: Sequence[Example], others: Sequence[Example], tactics: Collection[str], number: int
) -> list[GenerationCase]:
    """Choose cases, at most one of each kind for a technique; the same ones in every run.

    Up to a quarter of them are questions that their context does not answer; up to half of the others ask for a
    mitigation. A question that names one of the right mitigations is not used.

    Args:
        holdout: The examples that the questions come from.
        others: More examples, whose tactics and mitigations are known too; of a technique of the holdout as well.
        tactics: Known tactics in addition to those of the examples.
        number: Largest number of cases.
    """
    everything = [*holdout, *others]
    listed: dict[str, set[str]] = {}
    for example in everything:
        listed.setdefault(example.group or example.key, set()).update(_mitigations(example))
    known_tactics = tuple(sorted({*tactics, *(label for example in everything for label in example.labels)}))
    known_mitigations = tuple(sorted(set().union(*listed.values())))

    def case(example: Example, instruction: Instruction) -> GenerationCase:
        technique = example.group or example.key
        mitigations = tuple(sorted(listed[technique])) if _is_of_mitigations(instruction.output) else ()
        return GenerationCase(technique, instruction, example.labels, known_tactics, mitigations, known_mitigations)

    cases = [case(example, instruction) for example in holdout for instruction in example.instructions]
    cases.sort(key=lambda case: _rank(case.question))
    answered = [case for case in cases if case.is_answered]
    unanswered = _one_per_technique([case for case in cases if not case.is_answered])[: number // 4]
    left = number - len(unanswered)
    with_mitigation = [case for case in answered if case.mitigations and not _names_its_answer(case)]
    without_mitigation = [case for case in answered if not case.mitigations]
    chosen = _one_per_technique(with_mitigation)[: left // 2]
    return chosen + _one_per_technique(without_mitigation)[: left - len(chosen)] + unanswered


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _is_of_mitigations(answer: str) -> bool:
    return _MITIGATED in answer or bool(mitigation_of(answer))


def _mitigations(example: Example) -> set[str]:
    """What an example says that mitigates its technique."""
    group = example.group or example.key
    known = (context for one in example.instructions for context in from_text(one.input))
    listed = {
        line.name
        for context in known
        if f"technique:{context.id}" == group
        for line in context.lines
        if line.role == "mitigation"
    }
    return listed | {name for one in example.instructions if (name := mitigation_of(one.output))}


def _names_its_answer(case: GenerationCase) -> bool:
    asked = case.instruction.instruction if from_text(case.instruction.input) else case.question
    return bool(named_first(asked, case.mitigations))


def _one_per_technique(cases: Sequence[GenerationCase]) -> list[GenerationCase]:
    """The first case of each technique."""
    found: dict[str, GenerationCase] = {}
    for case in cases:
        found.setdefault(case.technique, case)
    return list(found.values())


def answer_shares(cases: Sequence[GenerationCase], answers: Sequence[str]) -> dict[str, float]:
    """How well generated answers hold to what they were given: shares of 0 to 1.

    Args:
        cases: May be empty.
        answers: One for each case.

    Returns:
        The metrics of this module. A metric without answers, or without cited ids, is left out. Whether a tactic or
        a mitigation is named right is measured on questions that their context answers.
    """
    pairs = list(zip(cases, answers, strict=True))
    answered = [(case, answer) for case, answer in pairs if case.is_answered]
    cited = [(case, cited) for case, answer in pairs for cited in ids(answer)]
    hits_of = {
        "tactic_named": [named_first(answer, c.known_tactics) in c.tactics for c, answer in answered],
        "mitigation_named": [
            named_first(answer, c.known_mitigations) in c.mitigations for c, answer in answered if c.mitigations
        ],
        "citation_precision": [each in ids(case.own_context) for case, each in cited],
        "invented_ids": [each not in ids(case.question) for case, each in cited],
        "grounded": [_is_grounded(case, answer) for case, answer in pairs],
        "no_answer_recall": [says_no_answer(answer) for case, answer in pairs if not case.is_answered],
        "false_no_answer": [says_no_answer(answer) for _, answer in answered],
    }
    return {metric: sum(hits) / len(hits) for metric, hits in hits_of.items() if hits}


def _is_grounded(case: GenerationCase, answer: str) -> bool:
    given = case.own_context
    return not any(ungrounded(sentence, given, case.tactics) for sentence in _SENTENCE_END.split(answer))


def named_first(text: str, names: Collection[str]) -> str:
    """The name that occurs first in a text, upper or lower case, with hyphens or spaces; "" if none occurs.

    Of several names that begin at the same word, it is the longest.

    >>> named_first("This serves Defense-Evasion, with impact.", ["impact", "evasion", "defense evasion"])
    'defense evasion'
    """
    return next(iter(names_in(text, names)), "")


def mitigation_of(answer: str) -> str:
    """The mitigation that an answer of an older journal is about; "" for an answer about anything else.

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
        Records with the keys `question`, `attack` (the answer that the context gives), `before` and `after`.
    """
    answered = list(zip(cases, before, after, strict=True))
    with_mitigation = [one for one in answered if one[0].mitigations]
    without_mitigation = [one for one in answered if not one[0].mitigations]
    turns = itertools.chain.from_iterable(itertools.zip_longest(with_mitigation, without_mitigation))
    return [
        {"question": case.question, "attack": case.instruction.output, "before": base_answer, "after": answer}
        for case, base_answer, answer in itertools.islice(filter(None, turns), number)
    ]
