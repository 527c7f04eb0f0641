"""rdflib, LinkML and SurrealDB read the files. The last two are in a venv of their own: `make formats`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import rdflib
import yaml
from rdflib.namespace import SKOS

from streams.content.current import current
from streams.content.ontology.files import FILE, LINKML_FILE, SURREALQL_FILE, TURTLE_FILE, write_ontology
from streams.content.ontology.terms import build_terms
from streams.content.ontology.turtle import VOCABULARY, term_iri
from tests.streams.content.ontology.events import entity, technique, world

FORMATS = Path(__file__).parents[4] / ".tools" / "formats" / "bin"
STRANGE = "C:\\users \0 \\u0000 \\u0041 'single' \"double\" \u2028 \x7f <a> ; . é 漢 \U0001f600 ⟩ $x `"
ODD_ID = "lolbas:a⟩`b`\\c'd\"e"
EVENTS = [
    *world(), technique("T1234", STRANGE, "impact", text=STRANGE),
    entity(ODD_ID, "lolbin", "x", techniques=("T1234",)),
]  # fmt: skip

needs_formats = pytest.mark.skipif(
    not FORMATS.is_dir(), reason="LinkML and SurrealDB are not installed: make formats"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files."""
    folder = tmp_path_factory.mktemp("ontology")
    write_ontology(EVENTS, folder)
    return folder


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rdflib_reads_every_term_and_relation_back(folder: Path) -> None:
    graph, ontology = rdflib.Graph().parse(folder / TURTLE_FILE), build_terms(current(EVENTS))
    names = {str(subject): str(name) for subject, name in graph.subject_objects(SKOS.prefLabel)}
    assert names == {term_iri(term.id): term.canonical_name for term in ontology.terms}
    relations = {
        (str(s), str(p).removeprefix(VOCABULARY), str(o)) for s, p, o in graph
        if str(p).startswith(VOCABULARY) and isinstance(o, rdflib.URIRef)
    }  # fmt: skip
    expected = {(term_iri(r.source_id), r.relation_type, term_iri(r.target_id)) for r in ontology.relations}
    assert relations == expected
    texts = {str(text) for _, text in graph.subject_objects(SKOS.definition)}
    assert texts == {term.definition for term in ontology.terms if term.definition}


@needs_formats
def test_the_json_is_valid_by_the_schema_and_a_wrong_category_is_not(folder: Path, tmp_path: Path) -> None:
    validate = (FORMATS / "linkml-validate", "-s", folder / LINKML_FILE, "-C", "ThreatOntology")
    assert "No issues found" in run(*validate, folder / FILE)
    wrong = (folder / FILE).read_text(encoding="utf-8").replace('"category": "actor"', '"category": "security"')
    (tmp_path / "wrong.json").write_text(wrong, encoding="utf-8")
    done = subprocess.run([*validate, tmp_path / "wrong.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, "security" in done.stdout + done.stderr) == (1, True)


@needs_formats
def test_each_template_is_valid_linkml_and_so_is_an_instance_with_every_slot(folder: Path, tmp_path: Path) -> None:
    script = """
import sys
from linkml.validator import validate_file
for number in range(1, len(sys.argv), 3):
    report = validate_file(sys.argv[number + 1], sys.argv[number], sys.argv[number + 2])
    print(sys.argv[number + 2], [result.message for result in report.results])
"""
    arguments: list[str | Path] = []
    for path in sorted((folder / "linkml_templates").glob("*.yaml")):
        schema = yaml.safe_load(path.read_bytes())
        instance = tmp_path / path.name
        instance.write_text(yaml.safe_dump(instance_of(schema, schema["title"])), encoding="utf-8")
        arguments += [path, instance, schema["title"]]
    lines = run(FORMATS / "python", "-c", script, *arguments).splitlines()
    names = ["DetectionRule", "OffensiveTool", "ThreatActor", "ThreatCampaign", "ThreatTechnique"]
    assert lines == [f"{name} []" for name in names]


def instance_of(schema: dict, class_: str) -> dict:
    """An instance with a value in every slot, and in the slots of nested classes."""

    def value(slot: dict) -> object:
        range_ = slot.get("range", "string")
        if range_ in schema["classes"]:
            return instance_of(schema, range_)
        if range_ in schema.get("enums", {}):
            return list(schema["enums"][range_]["permissible_values"])[-1]
        return {"string": "T1059.001", "float": 1.5, "boolean": True}[range_]

    slots = schema["classes"][class_]["attributes"]
    return {name: [value(slot)] if slot.get("multivalued") else value(slot) for name, slot in slots.items()}


@needs_formats
def test_surrealdb_loads_the_file_twice_and_has_every_term_and_relation_once(folder: Path) -> None:
    ontology = build_terms(current(EVENTS))
    script = """
import sys
from pathlib import Path
from surrealdb import Surreal
with Surreal("mem://") as db:
    db.use("ctas7", "threat_ontology")
    for _ in range(2):
        answer = db.query_raw(Path(sys.argv[1]).read_text(encoding="utf-8"))
        assert all(each["status"] == "OK" for each in answer["result"]), answer
    print(db.query("RETURN [count(SELECT * FROM term), count(SELECT * FROM relation)];"))
    print(db.query("SELECT VALUE canonical_name FROM term:T1234;")[0])
"""
    counts, name = run(FORMATS / "python", "-c", script, folder / SURREALQL_FILE).split("\n", 1)
    assert counts == f"[{len(ontology.terms)}, {len(ontology.relations)}]"
    assert name == STRANGE.replace("\0", "\ufffd") + "\n"
