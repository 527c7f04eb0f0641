"""Questions and their answers: from the graph, from facts, from a generator, and from what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from neo4j import Driver, GraphDatabase

from schemas.context import from_text, not_there
from schemas.errors import BadConfiguration, RetryLater
from schemas.events import Entity, Event, NodeRef, Relationship, Technique, Template
from schemas.journal import Instruction
from serving import telemetry
from serving.answers.ask import Answer, Generator, ask
from serving.answers.evidence import Fact
from serving.answers.facts import fact_sentences, intent_of
from serving.answers.graph import find_node
from serving.answers.local import evidence_from_examples
from serving.routes.explain import counted_answer
from serving.techniques.examples import TechniqueExample, technique_example
from streams.app.graph_sink import GraphSink, create_constraints
from streams.local.services import Endpoints
from streams.settings import Settings
from tests.serving.answers.samples import PROCESS_INJECTION
from tests.streams.app.messages import FakeProducer, FakeTopicIds, messages
from trainers.models.phi3_lora.predict import load
from trainers.store.registry import Registry
from transport.neo4j import neo4j_driver

INJECTION = Technique(
    id="T1055", stix_id="attack-pattern--1", name="Process Injection", text="Adversaries may inject code.",
    tactics=("defense-evasion", "privilege-escalation"), feed="attack-enterprise", release="17.1",
    domain="enterprise-attack",
)  # fmt: skip
TARGET = NodeRef(id="T1055", kind="technique", name="Process Injection", tactics=INJECTION.tactics)


def entity(kind: str, id_: str, external: str, name: str, aliases: tuple[str, ...] = ()) -> Entity:
    return Entity(
        id=id_,
        kind=kind,
        external_id=external,
        name=name,
        aliases=aliases,
        feed="attack-enterprise",
        release="17.1",
    )


def edge(relation: str, source: Entity, text: str) -> Relationship:
    return Relationship(
        id=f"relationship--{source.id}", relation=relation, text=text, feed="attack-enterprise", release="17.1",
        source=NodeRef(id=source.id, kind=source.kind, name=source.name), target=TARGET,
    )  # fmt: skip


GROUP = entity("group", "intrusion-set--1", "G0016", "APT29", ("APT29", "Cozy Bear"))
MITIGATION = entity("mitigation", "course-of-action--1", "M1040", "Behavior Prevention on Endpoint")
RULE = Template(id="sigma:1", name="Remote Thread Creation", techniques=("T1055",), feed="sigma", rule_type="sigma")
EVENTS: Sequence[Event] = (
    INJECTION, GROUP, MITIGATION, RULE,
    edge("uses", GROUP, "[APT29](https://x.test) injected code into explorer.exe."),
    edge("mitigates", MITIGATION, "Block some types of process injection."),
)  # fmt: skip


@pytest.fixture
def driver(service_settings: Settings, neo4j_endpoint: Endpoints) -> Iterator[Driver]:
    if service_settings.neo4j_uri:
        pytest.skip("deletes everything: not in a configured Neo4j")
    with neo4j_driver(neo4j_endpoint.neo4j_uri) as driver:
        create_constraints(driver)
        driver.execute_query("MATCH (n) DETACH DELETE n")
        GraphSink(driver, FakeProducer(), FakeTopicIds()).write(messages(EVENTS, 0, "threat.test"))  # type: ignore[arg-type]
        yield driver


def test_a_node_is_found_by_its_own_id_before_what_its_id_may_name(driver: Driver) -> None:
    found = {name: find_node(driver, name) for name in ("sigma:1", "t1055", "Cozy Bear", "M1040", "T9999", "?")}
    assert found == {
        "sigma:1": "sigma:1", "t1055": "T1055", "Cozy Bear": "intrusion-set--1", "M1040": "course-of-action--1",
        "T9999": None, "?": None,
    }  # fmt: skip


class Says:
    """A generator that says one thing."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, list[Instruction]()

    def predict(self, instructions: Sequence[Instruction], /) -> list[str]:
        self.asked += instructions
        return [self.text for _ in instructions]


def test_the_graph_answers_each_question_with_sources(driver: Driver) -> None:
    mitigated = ask("How do I prevent T1055?", driver)
    assert "Behavior Prevention on Endpoint (M1040) mitigates it: Block some types" in mitigated.text
    assert ("attack-enterprise 17.1: relationship--course-of-action--1",) in [
        s.sources for s in mitigated.sentences
    ]
    assert "Remote Thread Creation (sigma:1)" in ask("how do I detect process injection", driver).text
    assert "APT29 (G0016)" in ask("who uses T1055?", driver).text
    assert "Process Injection (T1055)" in ask("which techniques does cozy bear use?", driver).text
    assert "defense evasion and privilege escalation" in ask("what is T1055?", driver).text
    assert all(s.sources for question in ("what is T1055?", "APT29") for s in ask(question, driver).sentences)
    assert ask("what is T9999?", driver).sentences == ()


def test_a_generated_answer_is_checked_against_the_graph(driver: Driver) -> None:
    generator = Says("Behavior Prevention on Endpoint (M1040) mitigates Process Injection. M1099 does too.")
    found = ask("How do I prevent T1055?", driver, generator, generator_name="phi3-mitre-lora v0001")
    assert [s.text for s in found.sentences] == [
        "Behavior Prevention on Endpoint (M1040) mitigates Process Injection."
    ]
    assert (found.by, len(found.left_out)) == ("phi3-mitre-lora v0001", 1)
    assert "M1040" in generator.asked[0].input


def test_without_the_graph_the_examples_answer_and_the_answer_says_so() -> None:
    with GraphDatabase.driver("bolt://127.0.0.1:1", max_transaction_retry_time=0.1) as away:
        found = ask("who uses T1055?", away, fallback=lambda q: evidence_from_examples(q, examples()))
    assert "APT29" in found.text
    assert "Neo4j failed" in found.away["graph"]


def examples() -> list[TechniqueExample]:
    found = (technique_example(event) for event in EVENTS)
    return [each for each in found if isinstance(each, TechniqueExample)]


def test_each_generated_sentence_has_the_sources_of_all_that_it_names() -> None:
    said = "Process Injection (T1055) can be detected with Process Access (DS0009) and CreateRemoteThread."
    found = ask("how do I detect T1055?", None, Says(said), fallback=lambda _: PROCESS_INJECTION)
    assert [s.sources for s in found.sentences] == [
        ("attack-enterprise 17.1: relationship--2", "sigma abc: sigma:1")
    ]


def test_a_generator_is_given_the_form_of_context_that_it_is_trained_with() -> None:
    generator = Says("")
    ask("how do I detect T1055?", None, generator, fallback=lambda _: PROCESS_INJECTION)
    (context,) = from_text(generator.asked[0].input)
    assert (context.id, context.tactics) == ("T1055", ("defense-evasion", "privilege-escalation"))
    assert [(line.role, line.id) for line in context.of("detect")] == [("detection", "DS0009")]


def test_a_generator_that_finds_no_answer_leaves_the_facts_and_the_answer_says_so() -> None:
    found = ask("what is T1055?", None, Says(not_there("T1055")), fallback=lambda _: PROCESS_INJECTION)
    assert (found.by, found.left_out) == ("facts", ())
    assert "no answer" in found.away["generator"]


def test_the_sentences_that_are_kept_and_left_out_are_counted() -> None:
    def counted() -> tuple[float, float]:
        kept, left_out = (telemetry.SENTENCES.labels(outcome=outcome) for outcome in ("kept", "left out"))
        return kept._value.get(), left_out._value.get()

    def answer(question: str, generator: Generator | None, name: str, reason: str) -> Answer:
        return ask(question, None, generator, generator_name=name, fallback=lambda _: PROCESS_INJECTION)

    before = counted()
    said = "Process Injection (T1055) serves the tactic execution. Adversaries inject code into processes."
    counted_answer(answer, "what is T1055?", Says(said), "phi3-mitre-lora v0001", "")
    counted_answer(answer, "what is T1055?", None, "", "not asked for")
    assert counted() == (before[0] + 1, before[1] + 1)


def test_of_a_real_adapter_only_what_the_evidence_holds_is_said(trained: Registry, serving_cache: Path) -> None:
    generator = load(trained.folder("phi3-mitre-lora", "v0001"), cache_dir=serving_cache, max_new_tokens=40)
    raw = generator.predict([Instruction(instruction="What is Process Injection (T1055)?", output="")])
    assert raw[0]
    found = ask("what is T1055?", None, generator, fallback=lambda _: PROCESS_INJECTION)
    assert found.sentences
    assert all(sentence.sources for sentence in found.sentences)
    assert (found.by == "facts") == ("generator" in found.away)
    if found.by == "facts":
        reason = found.away["generator"]
        counted = f"none of its {len(found.left_out)} sentences" in reason
        assert counted or "finds no answer" in reason or "no whole sentence" in reason


def test_a_generator_that_fails_leaves_the_facts_and_the_answer_says_so() -> None:
    class Fails(Says):
        def predict(self, instructions: Sequence[Instruction], /) -> list[str]:
            raise RetryLater("out of memory")

    found = ask("how do I detect T1055?", None, Fails(""), fallback=lambda _: PROCESS_INJECTION)
    assert (found.by, found.away["generator"]) == ("facts", "out of memory")
    assert "Process Access (DS0009) detects it" in found.text


def test_a_generator_of_which_nothing_holds_is_counted_and_the_facts_answer() -> None:
    found = ask("what is T1055?", None, Says("It is T1056.002."), fallback=lambda _: PROCESS_INJECTION)
    assert (found.by, len(found.left_out)) == ("facts", 1)
    assert "none of its 1 sentences" in found.away["generator"]


@pytest.mark.parametrize(
    ("question", "kind", "intent"),
    [
        ("How can T1055 be mitigated?", "Technique", "mitigate"),
        ("which groups use T1055", "Technique", "users"),
        ("Explain the technique T1055", "Technique", "explain"),
        ("What techniques does it use?", "Malware", "techniques"),
    ],
)
def test_a_question_is_understood_by_its_words(question: str, kind: str, intent: str) -> None:
    assert intent_of(question, kind) == intent


def test_what_the_graph_does_not_have_is_said() -> None:
    nothing = msgspec.structs.replace(PROCESS_INJECTION, facts=(), totals={})
    assert "has nothing that answers this" in fact_sentences(nothing, "mitigate")[1].text


def test_facts_without_an_id_are_named_once_each_and_without_brackets() -> None:
    """The data components of ATT&CK have none."""
    names = ("Script Execution", "Script Execution", "Process Creation", "Module Load")
    facts = tuple(Fact(role="detection", id="", name=n, kind="DataComponent", source=f"s: {n}") for n in names)
    evidence = msgspec.structs.replace(PROCESS_INJECTION, facts=facts, totals={"detection": 3})
    said = [sentence.text for sentence in fact_sentences(evidence, "detect")[1:]]
    assert said == [f"{name} detects it." for name in ("Script Execution", "Process Creation", "Module Load")]


def test_an_empty_question_is_refused_with_the_limit() -> None:
    with pytest.raises(BadConfiguration, match="1 to 2000"):
        ask(" ", None)
