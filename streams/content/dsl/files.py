"""`write_dsl`: every file of the DSL, in one folder. The same events give the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import yaml

from schemas.errors import BadConfiguration
from schemas.events import DeadLetter, Event, Technique, Template
from streams.content.current import Current, all_events, current, iso_time
from streams.content.dsl.entities import Source, around, entity_of, entity_type
from streams.content.dsl.model import (
    Artifact,
    Counts,
    DslSummary,
    Duplicate,
    Fault,
    FaultsOfOne,
    Report,
    Sx9Entity,
)
from streams.content.dsl.validation import content_hash, faults_of
from transport.files import write_atomically

ENTITIES = "sx9_entities"
ERRORS_FILE = "validation_errors.json"
SUMMARY_FILE = "pipeline_summary.json"
REPORT_FILE = "validation_report.json"
ARTIFACTS_FILE = "dsl_artifacts.json"

_CONFIDENCE = {"stable": "high", "test": "medium", "experimental": "low"}
"""Status of a rule -> confidence."""


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """The entities of some events, and what is wrong with them; each in order of type and id."""

    entities: tuple[Sx9Entity, ...]
    artifacts: tuple[Artifact, ...]
    faults: tuple[FaultsOfOne, ...]
    report: Report
    validated: int


def convert(events: Iterable[Event], rejected: Iterable[DeadLetter] = ()) -> Converted:
    """Validate and convert events.

    Args:
        events: In order; a later event with the same id replaces the earlier. Only active ones are converted.
        rejected: What feeds could not read; each is a fault of syntax of its feed.
    """
    content = current(events)
    near = around(content)
    entities: list[Sx9Entity] = []
    artifacts: list[Artifact] = []
    faults = [_unreadable(letter) for letter in rejected]
    counts: dict[str, Counts] = {}
    for each in faults:
        _count(counts, each.errors[0].file.partition(":")[0], each.errors, False)
    first: dict[str, str] = {}
    duplicates: list[Duplicate] = []
    for event in sorted(filter(entity_type, all_events(content)), key=lambda e: (entity_type(e), e.id)):
        found = tuple(faults_of(event, content))
        hash_ = content_hash(event)
        same_as = first.setdefault(hash_, event.id)
        if same_as != event.id:
            duplicates.append(Duplicate(id=event.id, type=entity_type(event), same_as=same_as, content_hash=hash_))
        _count(counts, event.feed, found, same_as != event.id)
        if found:
            faults.append(FaultsOfOne(id=event.id, type=entity_type(event), errors=found))
        if not any(fault.kind == "schema" for fault in found):
            entities.append(entity_of(event, near, len(entities) + 1))
            artifacts.append(_artifact(event, entities[-1], content, found))
    return Converted(
        entities=tuple(entities),
        artifacts=tuple(artifacts),
        faults=tuple(faults),
        report=_report(counts, tuple(duplicates)),
        validated=len(entities),
    )


def write_dsl(events: Iterable[Event], folder: Path, rejected: Iterable[DeadLetter] = ()) -> DslSummary:
    """Write every file of the DSL.

    Args:
        events, rejected: As for `convert`.
        folder: Created if missing; files in it are replaced as a whole. `validation_errors.json` is there only if
            something is wrong.
    """
    done = convert(events, rejected)
    documents: dict[str, object] = {
        SUMMARY_FILE: {
            "validated": done.validated,
            "converted": len(done.entities),
            "error_count": len(done.faults),
            "output_dir": folder.name,
        },
        REPORT_FILE: done.report,
        ARTIFACTS_FILE: {"artifacts": done.artifacts},
    }
    if done.faults:
        documents[ERRORS_FILE] = done.faults
    else:
        (folder / ERRORS_FILE).unlink(missing_ok=True)
    for name, document in documents.items():
        write_atomically(folder / name, _json(document))
    for suffix, data in entity_files(done.entities):
        write_atomically(folder / f"{ENTITIES}.{suffix}", data)
    converted = Counter(entity.type for entity in done.entities)
    return DslSummary(
        output=str(folder),
        files=tuple(sorted((*documents, *(f"{ENTITIES}.{suffix}" for suffix in ("json", "toml", "yaml"))))),
        validated=done.validated,
        converted=dict(sorted(converted.items())),
        error_count=len(done.faults),
        duplicates=done.report.duplicates,
    )


# ---- the three formats


def entity_files(entities: tuple[Sx9Entity, ...]) -> Iterator[tuple[str, bytes]]:
    """Suffix and content of three files with the same entities: JSON, YAML and TOML."""
    wrapped = [{"sx9_entity": msgspec.to_builtins(entity)} for entity in entities]
    yield "json", _json({"entities": wrapped})
    yield "yaml", _in_pieces(wrapped, b"entities:\n", b"entities: []\n", _yaml)
    toml = _tomli_w()
    yield "toml", _in_pieces(wrapped, b"", b"entities = []\n", lambda item: toml.dumps({"entities": [item]}) + "\n")


def _in_pieces(
    items: list[dict[str, Any]], head: bytes, empty: bytes, dump: Callable[[Mapping[str, Any]], str]
) -> bytes:
    """A document of one list, made item by item, so that only one is in memory as a tree."""
    return head + b"".join(dump(item).encode() for item in items) if items else empty


def _yaml(item: Mapping[str, Any]) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump([item], Dumper=dumper, allow_unicode=True, sort_keys=False, width=1_000_000))


def _tomli_w() -> ModuleType:
    try:
        import tomli_w
    except ImportError as error:
        raise BadConfiguration("TOML needs the package tomli-w: pip install 'sx9-ml-models[content]'") from error
    return tomli_w


def _json(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


# ---- the report


def _unreadable(letter: DeadLetter) -> FaultsOfOne:
    fault = Fault(file=letter.origin, field="", value=letter.detail, rule=letter.reason, kind="syntax")
    return FaultsOfOne(id=letter.origin, type="", errors=(fault,))


def _count(counts: dict[str, Counts], feed: str, found: tuple[Fault, ...], is_duplicate: bool) -> None:
    of_feed = counts.setdefault(feed, Counts())
    kinds = {fault.kind for fault in found}
    of_feed.total_files += 1
    of_feed.passed += not kinds
    of_feed.failed_syntax += "syntax" in kinds
    of_feed.failed_schema += "schema" in kinds
    of_feed.failed_semantic += kinds == {"semantic"}
    of_feed.duplicates += is_duplicate
    of_feed.pass_rate = round(of_feed.passed / of_feed.total_files, 4)


def _report(counts: dict[str, Counts], duplicates: tuple[Duplicate, ...]) -> Report:
    names = ("total_files", "passed", "failed_syntax", "failed_schema", "failed_semantic", "duplicates")
    total = {name: sum(getattr(each, name) for each in counts.values()) for name in names}
    return Report(
        **total,
        pass_rate=round(total["passed"] / total["total_files"], 4) if total["total_files"] else 1.0,
        by_source=dict(sorted(counts.items())),
        duplicate_items=duplicates,
    )


def _artifact(event: Source, entity: Sx9Entity, content: Current, found: tuple[Fault, ...]) -> Artifact:
    status = event.rule_status if isinstance(event, Template) else ""
    refs = [each["target_id"] for each in entity.relationships]
    return Artifact(
        source_ref=event.id if ":" in event.id else f"{event.feed}:{event.id}",
        source_type=event.feed,
        attack_refs=tuple(refs) if entity.type != "Technique" else (event.id,),
        platforms=event.platforms,
        severity=str(entity.attributes.get("level", "")),
        confidence="high" if isinstance(event, Technique) else _CONFIDENCE.get(status, "medium"),
        playbook_actions=({"primitive": entity.ptcc["primitive"], "hd4_phase": entity.hd4_phase},),
        validated_at=iso_time(content.newest_ms),
        validation_status="semantic_errors" if found else "valid",
    )
