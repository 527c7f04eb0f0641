"""Questions of the command line: which graph and which generator answer, and how the answer is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from schemas.errors import Sx9Error
from serving.answers.ask import Answer, Generator, ask
from serving.answers.evidence import Evidence
from serving.answers.local import evidence_from_examples
from serving.techniques.store import EXAMPLES_FILE, ExampleStore
from streams.local.services import running
from streams.settings import Settings
from transport.neo4j import neo4j_driver

if TYPE_CHECKING:
    from neo4j import Driver

GENERATOR = "phi3-mitre-lora"
RETRY_S = 5


def answer(settings: Settings, question: str, *, generate: bool) -> Answer:
    """Answer a question from the running Neo4j, else from the examples that were read; see `ask`.

    Args:
        settings: Name Neo4j, or the state folder in which one runs, and the folder of the models.
        question: In plain words.
        generate: Whether the champion of `phi3-mitre-lora` writes the answer.
    """
    generator, name = None, GENERATOR
    reason = "not asked for: --generate lets phi3-mitre-lora write the answer"
    if generate:
        try:
            generator, name = _generator(settings)
        except Sx9Error as error:
            reason = str(error)
    with graph(settings) as driver:
        return ask(
            question,
            driver,
            generator,
            generator_name=name,
            reason_without=reason,
            fallback=lambda asked: _from_examples(settings, asked),
        )


@contextlib.contextmanager
def graph(settings: Settings) -> Iterator[Driver | None]:
    """A driver of the running Neo4j; None if none runs."""
    found = running(settings, kafka=False)
    if found is None:
        yield None
        return
    login = (found.neo4j_user, found.neo4j_password)
    with neo4j_driver(found.neo4j_uri, *login, max_transaction_retry_time=RETRY_S) as driver:
        yield driver


def as_lines(found: Answer) -> list[str]:
    """An answer as lines: its sentences with the numbers of their sources, the sources, and what is missing."""
    numbers: dict[str, int] = {}
    for source in (source for sentence in found.sentences for source in sentence.sources):
        numbers.setdefault(source, len(numbers) + 1)
    lines = [
        f"{sentence.text} [{', '.join(str(numbers[source]) for source in sentence.sources)}]"
        for sentence in found.sentences
    ]
    if not found.sentences:
        lines = [
            "nothing is known of that: ask with an id, such as T1055, G0016 or CVE-2021-44228, or with a name that "
            "the graph has"
        ]
    lines += [f"  [{number}] {source}" for source, number in numbers.items()]
    if found.sentences:
        lines.append(f"answered by: {found.by}")
    if found.left_out:
        lines.append(f"left out, because the graph does not say so: {len(found.left_out)} sentences")
    lines += [f"without the {layer}: {why}" for layer, why in found.away.items()]
    return lines


def _from_examples(settings: Settings, question: str) -> Evidence | None:
    """What the examples say that `sx9 classify` has read; None if it has read none."""
    path = settings.state_dir / EXAMPLES_FILE
    if not path.is_file():
        return None
    store = ExampleStore(path)
    try:
        return evidence_from_examples(question, store.examples())
    finally:
        store.close()


def _generator(settings: Settings) -> tuple[Generator, str]:
    from trainers.models.phi3_lora.predict import load
    from trainers.store.shared_registry import open_registry

    registry = open_registry(settings)
    champion = registry.champion(GENERATOR) or "champion"
    return load(registry.folder(GENERATOR, champion), cache_dir=settings.cache_dir), f"{GENERATOR} {champion}"
