"""`ask(question, ...)`: one answer with its evidence, from what is there: the graph, and a generator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.context import Question, says_no_answer
from schemas.errors import BadConfiguration, RetryLater, Sx9Error
from schemas.journal import Instruction
from serving.answers.check import Checked, check
from serving.answers.evidence import Evidence, prompt_context
from serving.answers.facts import AnswerSentence, Intent, fact_sentences, intent_of
from serving.answers.graph import fetch_evidence, find_subject

if TYPE_CHECKING:
    from neo4j import Driver

log = logging.getLogger(__name__)

MAX_QUESTION_CHARS = 2_000
GRAPH, GENERATOR = "graph", "generator"

_ASKED: Mapping[Intent, Question] = {"explain": "explain", "detect": "detect", "mitigate": "mitigate"}
"""What the generator answers; the other questions are answered by facts."""
_PROMPTS: Mapping[Question, str] = {
    "explain": "What is {name} ({id})?",
    "detect": "How can I detect {name} ({id})?",
    "mitigate": "How can {name} ({id}) be mitigated?",
}
"""Questions as the generator learnt them."""


class Generator(Protocol):
    """A loaded version of `phi3-mitre-lora`."""

    def predict(self, instructions: Sequence[Instruction], /) -> Sequence[str]:
        """One answer for each instruction."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a question.

    Attributes:
        question: As it was asked.
        subject: Id of what it is about; empty if that is not known.
        intent: What it wants to know.
        sentences: The answer; empty if nothing is known.
        by: `facts`, or the model and version that wrote the sentences.
        left_out: Generated sentences that the evidence does not hold, each with the reason.
        away: Layer (`graph`, `generator`) -> why the answer comes without it.
        evidence: What is known of the subject; None without the graph.
    """

    question: str
    subject: str
    intent: Intent
    sentences: tuple[AnswerSentence, ...]
    by: str
    left_out: tuple[tuple[str, str], ...] = ()
    away: dict[str, str]
    evidence: Evidence | None = None

    @property
    def text(self) -> str:
        """The sentences, one after the other."""
        return " ".join(sentence.text for sentence in self.sentences)


def ask(
    question: str,
    driver: Driver | None,
    generator: Generator | None = None,
    *,
    generator_name: str = "phi3-mitre-lora",
    reason_without: str = "none was asked for",
    fallback: Callable[[str], Evidence | None] | None = None,
) -> Answer:
    """Answer a question about a technique, actor, software or CVE.

    Args:
        question: In plain words, with an id (`T1055`) or a name (`APT29`), at most `MAX_QUESTION_CHARS` characters.
        driver: Of the Neo4j; None: it is away.
        generator: Writes the answer; None: it is made of facts.
        generator_name: Model and version of it, for the answer.
        reason_without: Why there is no generator, for the answer.
        fallback: Question -> evidence, where the graph is away: what is left. None: nothing is.

    Returns:
        Where a layer is away or fails, the answer comes from what is left, and `away` says so.

    Raises:
        BadConfiguration: The question is empty or too long.
    """
    if not question.strip() or len(question) > MAX_QUESTION_CHARS:
        raise BadConfiguration(f"the question has {len(question)} characters: ask one of 1 to {MAX_QUESTION_CHARS}")
    away: dict[str, str] = {}
    evidence = _evidence(question, driver, fallback, away)
    if evidence is None:
        intent = intent_of(question, "")
        return Answer(question=question, subject="", intent=intent, sentences=(), by="facts", away=away)
    intent = intent_of(question, evidence.kind)
    checked = Checked((), ())
    if generator is None:
        away[GENERATOR] = reason_without
    elif evidence.kind == "Technique" and intent in _ASKED:
        checked = _generated(generator, _ASKED[intent], evidence, away)
    else:
        away[GENERATOR] = "it answers what a technique is, how to detect it and how to mitigate it"
    return Answer(
        question=question,
        subject=evidence.id,
        intent=intent,
        sentences=checked.sentences or tuple(fact_sentences(evidence, intent)),
        by=generator_name if checked.sentences else "facts",
        left_out=checked.left_out,
        away=away,
        evidence=evidence,
    )


def _evidence(
    question: str,
    driver: Driver | None,
    fallback: Callable[[str], Evidence | None] | None,
    away: dict[str, str],
) -> Evidence | None:
    if driver is None:
        away[GRAPH] = "no Neo4j runs"
    else:
        try:
            subject = find_subject(driver, question)
            return fetch_evidence(driver, subject) if subject else None
        except (RetryLater, BadConfiguration) as error:
            log.warning("answering without the graph: %s", error)
            away[GRAPH] = str(error)
    return fallback(question) if fallback else None


def _generated(generator: Generator, asked: Question, evidence: Evidence, away: dict[str, str]) -> Checked:
    """What the generator says and the evidence holds; `away` says so if that is nothing."""
    prompt = Instruction(
        instruction=_PROMPTS[asked].format(name=evidence.name, id=evidence.id),
        input=prompt_context(evidence, asked),
        output="",
    )
    try:
        text = generator.predict([prompt])[0]
    except (Sx9Error, RuntimeError) as error:  # torch raises RuntimeError, for want of memory among others
        log.warning("answering without the generator: %s", error)
        away[GENERATOR] = str(error)
        return Checked((), ())
    if says_no_answer(text):
        away[GENERATOR] = "it finds no answer in what it was given"
        return Checked((), ())
    checked = check(text, evidence)
    if not checked.sentences:
        number = len(checked.left_out)
        away[GENERATOR] = (
            f"none of its {number} sentences is in the evidence" if number else "it wrote no whole sentence"
        )
    return checked
