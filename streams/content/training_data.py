"""Training data as files, for other programs: instructions, classification, entities in text.

    events ──current──> valid events ──┬──> instructions: explain, detect, mitigate, rules, tests, tools
                                       ├──> texts with techniques, with tactics, with phases of HD4
                                       └──> passages of reports with spans

What our own models learn is in it as they learn it (`streams/core/projections`); the rest is made here. The same
events give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from schemas.events import Entity, Event, Relationship, Report, Technique, Template
from schemas.journal import Example, Source
from schemas.prose import describe_tactics, enumerate_words
from schemas.taxonomy import is_severity
from schemas.topics import topic_of
from streams.content.current import Current, current
from streams.content.dsl.hd4 import PHASE_OF_TACTIC, phase_of_tactics
from streams.core.projections.base import project_all
from streams.core.projections.text import clean_text
from transport.files import write_atomically

Record = dict[str, Any]

INSTRUCTIONS, ALPACA, CHAT = "phi3_lora_training.jsonl", "phi3_alpaca_format.json", "phi3_chat_format.jsonl"
TECHNIQUES, TACTICS = "distilbert_classification.jsonl", "distilbert_multilabel.jsonl"
SPANS, PHASES = "distilbert_ner.jsonl", "hd4_classification.jsonl"
TECHNIQUE_LABELS, OTHER_LABELS = "distilbert_label_map.json", "label_mappings.json"
SUMMARY = "training_summary.json"
HD4_PHASES = ("HUNT", "DETECT", "DISRUPT", "DISABLE", "DOMINATE")
"""In their order, which gives their numbers."""
_MODELS = ("distilbert-mitre", "phi3-mitre-lora")
_TOOL_KINDS = ("malware", "tool", "package")


def write_training_data(events: Iterable[Event], folder: Path) -> dict[str, int]:
    """Write every file of training data.

    Args:
        events: In order; a later event with the same id replaces the earlier.
        folder: Created if missing; files in it are replaced as a whole. Without passages of reports there is no
            `distilbert_ner.jsonl`.

    Returns:
        File -> number of records.
    """
    content = current(events)
    valid: list[Event] = [
        *content.techniques.values(), *content.relationships.values(), *content.templates.values(),
        *content.entities.values(), *content.reports.values(),
    ]  # fmt: skip
    examples = [(event, project_all(event, Source(topic_of(event).name, 0, 0), 0, _MODELS)) for event in valid]
    instructions = [record for event, found in examples for record in _instructions(event, found, content)]
    by_technique = [record for event in valid for record in _technique_of(event, content)]
    by_tactic = [record for _, found in examples for record in _tactics_of(found)]
    phases = [
        _phase_of(record) for record in by_tactic if any(label in PHASE_OF_TACTIC for label in record["labels"])
    ]
    spans = [_spans(report) for report in content.reports.values() if report.spans]
    labels = _numbered(sorted({record["label"] for record in by_technique}))
    lines = {
        INSTRUCTIONS: instructions,
        CHAT: [_chat(record) for record in instructions],
        TECHNIQUES: [record | {"label_id": labels[record["label"]]} for record in by_technique],
        TACTICS: by_tactic,
        PHASES: phases,
        SPANS: spans,
    }
    counts = {name: len(records) for name, records in lines.items() if records or name != SPANS}
    tactics = sorted({label for record in by_tactic for label in record["labels"]})
    documents: dict[str, Any] = {
        ALPACA: instructions,
        TECHNIQUE_LABELS: {"label2id": labels, "id2label": {str(n): label for label, n in labels.items()}},
        OTHER_LABELS: {"tactics": _numbered(tactics), "hd4_phases": _numbered(HD4_PHASES)},
        SUMMARY: {
            "records": counts | {ALPACA: len(instructions)},
            "techniques": len(labels),
            "tactics": len(tactics),
            "feeds": dict(sorted(Counter(event.feed for event in valid).items())),
            "releases": list(content.releases),
        },
    }
    for name in counts:
        data = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in lines[name])
        write_atomically(folder / name, data.encode())
    for name, document in documents.items():
        write_atomically(folder / name, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())
    if SPANS not in counts:
        (folder / SPANS).unlink(missing_ok=True)
    return counts | {ALPACA: len(instructions)}


def _numbered(labels: Iterable[str]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


# texts with labels


def _technique_of(event: Event, content: Current) -> Iterator[Record]:
    """A text and the one technique that it is about; nothing if it is about several."""
    match event:
        case Technique():
            text, techniques = f"{event.name}. {clean_text(event.text)}", [event.id]
        case Relationship(relation="uses"):
            text, techniques = clean_text(event.text), [event.target.id]
        case Template():
            text, techniques = clean_text(f"{event.name}. {event.text}"), list(event.techniques)
        case Report():
            text = clean_text(event.text)
            techniques = [span.id for span in event.spans if span.kind == "technique" and span.id]
        case _:
            return
    known = content.valid_techniques(techniques)
    if text and len(known) == 1:
        yield {"text": text, "label": known[0]}


def _tactics_of(examples: dict[str, Example]) -> Iterator[Record]:
    example = examples.get("distilbert-mitre")
    labels = [label for label in example.labels if not is_severity(label)] if example else []
    if example and labels:
        yield {"text": example.text, "labels": labels}


def _phase_of(record: Record) -> Record:
    return {"text": record["text"], "label": phase_of_tactics(record["labels"])}


def _spans(report: Report) -> Record:
    entities = [
        {"start": span.start, "end": span.end, "label": span.kind.upper(), "id": span.id, "name": span.name}
        for span in report.spans
    ]
    return {"text": report.text, "entities": entities}


# instructions


def _chat(record: Record) -> Record:
    asked = "\n\n".join(filter(None, (record["instruction"], record["input"])))
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": record["output"]}]}


def _instructions(event: Event, examples: dict[str, Example], content: Current) -> Iterator[Record]:
    example = examples.get("phi3-mitre-lora")
    for each in example.instructions if example else ():
        yield _record(each.instruction, each.input, each.output)
    for make in _MAKERS:
        yield from make(event, partial(_named, content))


def _record(instruction: str, given: str, output: str) -> Record:
    return {"instruction": instruction, "input": given, "output": output}


def _named(content: Current, techniques: Iterable[str]) -> str:
    """Techniques with their names, as in a sentence; empty if none is known."""
    known = [f"{content.techniques[id_].name} ({id_})" for id_ in content.valid_techniques(techniques)]
    return enumerate_words(known) if known else ""


Named = Callable[[Iterable[str]], str]


def _name_the_tactic(event: Event, _named: Named) -> Iterator[Record]:
    if isinstance(event, Technique) and event.tactics and (text := clean_text(event.text)):
        answer = f"{event.name} ({event.id}) serves {describe_tactics(event.tactics)}."
        yield _record("Name the ATT&CK tactics that this behaviour serves.", text, answer)


def _rule(event: Event, named: Named) -> Iterator[Record]:
    """Explain a rule, its false positives, and write it."""
    if not (isinstance(event, Template) and event.rule_type == "sigma" and event.detection):
        return
    about, techniques = clean_text(event.text), named(event.techniques)
    logs = ", ".join(filter(None, (event.log_source.product, event.log_source.category, event.log_source.service)))
    rule = f"{event.name}\nlogs: {logs}\n{event.detection}"
    if about:
        answer = " ".join(filter(None, (about, f"It detects {techniques}." if techniques else "")))
        yield _record("Explain what this detection rule finds.", rule, answer)
    if event.false_positives:
        answer = f"{event.name} may also find: {'; '.join(event.false_positives)}."
        yield _record("Name the false positives of this detection rule.", rule, answer)
    if techniques:
        asked = f"Write the detection of a Sigma rule for {techniques}, in the logs {logs or 'of any product'}."
        yield _record(asked, clean_text(f"{event.name}. {event.text}"), event.detection)


def _test(event: Event, named: Named) -> Iterator[Record]:
    if not (isinstance(event, Template) and event.rule_type in ("atomic", "caldera") and event.detection):
        return
    if techniques := named(event.techniques):
        systems = f" on {enumerate_words(event.platforms)}" if event.platforms else ""
        answer = "\n\n".join(filter(None, (f"{event.name}. {clean_text(event.text)}".strip(), event.detection)))
        yield _record(f"Make a test of defences for {techniques}{systems}.", event.name, answer)


def _tool(event: Event, named: Named) -> Iterator[Record]:
    """Analyse a binary that attackers use, and describe a tool."""
    if not isinstance(event, Entity) or not (text := clean_text(event.text)):
        return
    techniques = named(event.techniques)
    answer = " ".join(filter(None, (text, f"It serves {techniques}." if techniques else "")))
    if event.kind == "lolbin":
        yield _record(f"Analyse how attackers use {event.name}.", "", answer)
    elif event.kind in _TOOL_KINDS:
        yield _record(f"Describe the {'malware' if event.kind == 'malware' else 'tool'} {event.name}.", "", answer)


_MAKERS: tuple[Callable[[Event, Named], Iterator[Record]], ...] = (_name_the_tactic, _rule, _test, _tool)
