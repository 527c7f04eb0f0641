"""From an event to its entity of the DSL."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from schemas.events import Entity, Technique, Template
from streams.content.attack_paths import followed_by
from streams.content.current import Current, public_id
from streams.content.dsl import hd4, ptcc
from streams.content.dsl.model import Sx9Entity
from streams.content.identity import TEST_RULE_TYPES, TOOL_KINDS, context, hash_kind, hashed_content
from streams.content.trivariate import Trivariate, sha256_part, to_number, trivariate

Source = Technique | Template | Entity

UNICODE_OF_TECHNIQUE = 0xE100
UNICODE_OF_TOOL = 0xE800
_UNICODE_TEXTS = {
    UNICODE_OF_TECHNIQUE: "Trivariate Processor (SCH-driven operations)",
    UNICODE_OF_TOOL: "Kali Tools (tool-specific triggers)",
}
"""Start of a range of 256 code points of RFC-9002 -> what it is for."""
_HASH_CHARS = 8
"""Characters of a hash that choose a code point."""

_TASK_NUMBERS = {"Event": (0.80, 0.60, 0.50), "Object": (0.85, 0.50, 0.30)}
"""Primitive type -> probability, time and hazard: the pipeline's own constants, measured by nobody."""


def entity_type(event: Source) -> str:
    """`Technique`, `DetectionRule`, `OffensiveTool`, `Exploit`; empty for what is none of them."""
    match event:
        case Technique():
            return "Technique"
        case Template():
            return "OffensiveTool" if event.rule_type in TEST_RULE_TYPES else "DetectionRule"
        case Entity(kind="exploit"):
            return "Exploit"
        case Entity():
            return "OffensiveTool" if event.kind in TOOL_KINDS else ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What an entity's node in the task graph has beside the entity's own fields."""

    category: str
    primitive_type: str
    first_code_point: int
    predecessors: list[str]
    successors: list[str]
    task_seq: int


class Around(msgspec.Struct, frozen=True):
    """What an entity says of others.

    Attributes:
        content: Which techniques exist, and what their tactics are.
        successors, predecessors: Id of a technique -> ids of those that come after it, and before it.
    """

    content: Current
    successors: dict[str, list[str]]
    predecessors: dict[str, list[str]]


def around(content: Current) -> Around:
    """What entities say of others, for some content."""
    after = followed_by(content)
    before: dict[str, list[str]] = {}
    for one, others in after.items():
        for other in others:
            before.setdefault(other, []).append(one)
    return Around(content, {one: list(others) for one, others in after.items()}, before)


def entity_of(event: Source, near: Around, task_seq: int) -> Sx9Entity:
    """The entity of an event.

    Args:
        event: One with an `entity_type`.
        near: What else is valid.
        task_seq: Its place in the file, from 1.
    """
    match event:
        case Technique():
            return _technique(event, near, task_seq)
        case Template() if event.rule_type not in TEST_RULE_TYPES:
            return _rule(event, near.content)
        case Entity(kind="exploit"):
            return _exploit(event, near.content)
        case Template() | Entity():
            return _tool(event, near.content, task_seq)


def level(event: Template) -> str:
    """The severity in the words of Sigma."""
    return {"info": "informational"}.get(event.severity, event.severity)


def _technique(event: Technique, near: Around, task_seq: int) -> Sx9Entity:
    domain = event.domain.removesuffix("-attack")
    return _entity(
        event,
        primitive=ptcc.primitive_of_technique(event.name),
        phase=hd4.phase_of_tactics(event.tactics),
        attributes={
            "description": event.text,
            "tactics": list(event.tactics),
            "platforms": list(event.platforms),
            "domain": event.domain,
            "source": context(event),
        },
        secondary=f"{event.id}{domain}{list(event.platforms)}",
        task=Task(
            category="technique",
            primitive_type="Event",
            first_code_point=UNICODE_OF_TECHNIQUE,
            predecessors=near.predecessors.get(event.id, []),
            successors=near.successors.get(event.id, []),
            task_seq=task_seq,
        ),
    )


def _rule(event: Template, content: Current) -> Sx9Entity:
    source = event.log_source
    techniques = content.valid_techniques(event.techniques)
    return _entity(
        event,
        primitive=ptcc.PRIMITIVE_OF_RULE,
        phase=hd4.PHASE_OF_RULE,
        attributes={
            "description": event.text,
            "status": event.rule_status,
            "level": level(event),
            "logsource": {"category": source.category, "product": source.product, "service": source.service},
            "mitre_refs": list(techniques),
            "rule_type": event.rule_type or "nuclei",
            "detection": event.detection,
            "false_positives": list(event.false_positives),
            "cves": list(event.cves),
            "tags": list(event.tags),
            "author": event.author,
            "date": event.date,
            "file": event.path,
            "source": context(event),
        },
        relationships=_to_techniques("DETECTS", techniques),
    )


def _tool(event: Template | Entity, content: Current, task_seq: int) -> Sx9Entity:
    techniques = content.valid_techniques((*event.techniques, *_used(event, content)))
    tactics = [tactic for id_ in techniques for tactic in content.techniques[id_].tactics]
    category = event.category if isinstance(event, Entity) else event.rule_type
    categories = list(dict.fromkeys(filter(None, (category, *event.tags))))
    return _entity(
        event,
        primitive=ptcc.primitive_of_tool(categories),
        phase=hd4.phase_of_tool(categories, tactics),
        attributes={
            "description": event.text,
            "categories": categories,
            "homepage": next(iter(event.references), ""),
            "commands": [event.detection] if isinstance(event, Template) and event.detection else [],
            "platforms": list(event.platforms),
            "kind": event.kind if isinstance(event, Entity) else event.rule_type,
            "author": event.author,
            "file": event.path,
            "source": context(event),
        },
        relationships=_to_techniques("IMPLEMENTS", techniques),
        secondary=f"{public_id(event)}{next(iter(event.references), '')}{event.release}",
        task=Task(
            category=categories[0] if categories else "tool",
            primitive_type="Object",
            first_code_point=UNICODE_OF_TOOL,
            predecessors=[],
            successors=list(techniques),
            task_seq=task_seq,
        ),
    )


def _used(event: Template | Entity, content: Current) -> tuple[str, ...]:
    """The techniques that ATT&CK's relationships say a tool uses."""
    return content.used_techniques.get(event.id, ())


def _exploit(event: Entity, content: Current) -> Sx9Entity:
    techniques = content.valid_techniques(event.techniques)
    return _entity(
        event,
        primitive=ptcc.PRIMITIVE_OF_EXPLOIT,
        phase=hd4.PHASE_OF_EXPLOIT,
        attributes={
            "description": event.text or event.name,
            "title": event.name,
            "platforms": list(event.platforms),
            "category": event.category,
            "cves": list(event.cves),
            "author": event.author,
            "date": event.date,
            "file": event.path,
            "source": context(event),
        },
        relationships=_to_techniques("IMPLEMENTS", techniques),
    )


def _entity(
    event: Source,
    *,
    primitive: str,
    phase: str,
    attributes: dict[str, Any],
    relationships: tuple[dict[str, str], ...] = (),
    secondary: str = "",
    task: Task | None = None,
) -> Sx9Entity:
    kind, type_ = hash_kind(event), entity_type(event)
    id_, name = _id_and_name(event)
    primary = trivariate(hashed_content(event), kind, context(event))
    meaning = (name, event.text, _text(attributes), _text(relationships), type_)
    routing = (id_, type_, primitive, ptcc.code(primitive), phase, str(primary))
    hashes = {
        "semantic": sha256_part("|".join(meaning)),
        "operational": sha256_part("|".join(routing)),
        "trivariate_primary": str(primary),
    }
    more: dict[str, Any] = {}
    if task:
        second = trivariate(secondary, kind, context(event))
        hashes["trivariate_secondary"] = str(second)
        code_point = task.first_code_point + to_number(primary.sch[:_HASH_CHARS]) % 256
        more = {
            "trivariate_secondary_dict": _parts(second),
            "unicode_operation": {
                "code_point": code_point,
                "unicode_string": f"U+{code_point:04X}",
                "description": _UNICODE_TEXTS[task.first_code_point],
            },
            "task_graph_node": _task(name, event.text, phase, primary, code_point, task),
        }
    return Sx9Entity(
        id=id_,
        type=type_,
        name=name,
        trivariate=str(primary),
        trivariate_dict=_parts(primary),
        hashes=hashes,
        ptcc={"primitive": primitive, "code": ptcc.code(primitive)},
        hd4_phase=phase,
        attributes=attributes,
        relationships=relationships,
        **more,
    )


def _id_and_name(event: Source) -> tuple[str, str]:
    if isinstance(event, Entity) and event.kind == "exploit":
        number = event.id.rpartition(":")[2]
        return f"edb_{number}", f"EDB-{number}"
    return public_id(event), event.name


def _parts(found: Trivariate) -> dict[str, str]:
    return {"sch": found.sch, "cuid": found.cuid, "uuid": found.uuid, "full": found.full, "canonical": str(found)}


def _task(name: str, text: str, phase: str, primary: Trivariate, code_point: int, task: Task) -> dict[str, Any]:
    probability, time, hazard = _TASK_NUMBERS[task.primitive_type]
    return {
        "hash_id": primary.full,
        "task_name": name,
        "description": text,
        "category": task.category,
        "hd4_phase": phase,
        "primitive_type": task.primitive_type,
        "predecessors": task.predecessors,
        "successors": task.successors,
        "p_probability": probability,
        "t_time": time,
        "h_hazard": hazard,
        "sch_hash": primary.sch,
        "cuid_hash": primary.cuid,
        "sx9_uuid": primary.uuid,
        "unicode_operation": code_point,
        "task_seq": task.task_seq,
    }


def _to_techniques(type_: str, techniques: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    return tuple({"type": type_, "target_type": "Technique", "target_id": id_} for id_ in techniques)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
