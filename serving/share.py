"""A classified report in the forms of other tools: STIX 2.1 and layers of the ATT&CK Navigator."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from serving.classify import ClassifiedReport

_NAMESPACE = uuid.UUID("6b1f2a52-4a0c-5f1e-9d56-0d4f6c1d7a01")
"""Of the ids made here: the same report at the same time has the same ids."""
LAYER_VERSION = "4.5"
"""Version of the layer format, https://github.com/mitre-attack/attack-navigator/tree/master/layers."""


def as_stix(reports: Sequence[ClassifiedReport], at_ms: int) -> dict[str, Any]:
    """A STIX 2.1 bundle: a report each, its attack patterns and vulnerabilities, and a note for each sentence.

    Args:
        reports: One whose text names nothing is left out: STIX has no empty reports.
        at_ms: When they were classified, ms since 1970 UTC.
    """
    stamp = _timestamp(at_ms)
    objects: dict[str, dict[str, Any]] = {}
    for report in reports:
        patterns = {t.id: _attack_pattern(t.id, t.name, stamp) for t in report.techniques}
        vulnerabilities = [_vulnerability(cve, stamp) for cve in report.cves]
        named = [*patterns.values(), *vulnerabilities]
        if not named:
            continue
        notes = [
            _object(
                "note", f"{report.id}/{number}/{at_ms}", stamp, content=sentence.text,
                object_refs=[patterns[t.id]["id"] for t in sentence.techniques],
            )
            for number, sentence in enumerate(report.sentences)
            if sentence.techniques
        ]  # fmt: skip
        whole = _object(
            "report", f"{report.id}/{at_ms}", stamp, name=report.id, published=stamp,
            report_types=["threat-report"], object_refs=[each["id"] for each in (*named, *notes)],
        )  # fmt: skip
        objects |= {each["id"]: each for each in (*named, *notes, whole)}
    bundle = {"type": "bundle", "id": _id("bundle", f"{[report.id for report in reports]}/{at_ms}")}
    return bundle | ({"objects": list(objects.values())} if objects else {})


def as_navigator_layer(
    reports: Sequence[ClassifiedReport], name: str, domain: str = "enterprise-attack"
) -> dict[str, Any]:
    """A layer of the ATT&CK Navigator: the score of a technique is the number of its sentences.

    Args:
        reports: Their sentences are added up.
        name: Of the layer.
        domain: Of ATT&CK.
    """
    found: dict[str, list[str]] = {}
    for report in reports:
        for technique in report.techniques:
            texts = [report.sentences[number].text for number in technique.sentences]
            found.setdefault(technique.id, []).extend(texts)
    techniques = [
        {"techniqueID": id_, "score": len(texts), "comment": "\n".join(texts), "enabled": True}
        for id_, texts in sorted(found.items())
    ]
    return {
        "name": name,
        "versions": {"layer": LAYER_VERSION},
        "domain": domain,
        "description": "Made by sx9 classify: the score is the number of sentences.",
        "techniques": techniques,
        "gradient": {
            "colors": ["#ffe0b2", "#e65100"],
            "minValue": 0,
            "maxValue": max((len(texts) for texts in found.values()), default=1),
        },
    }


def _attack_pattern(technique: str, name: str, stamp: str) -> dict[str, Any]:
    address = f"https://attack.mitre.org/techniques/{technique.replace('.', '/')}"
    reference = {"source_name": "mitre-attack", "external_id": technique, "url": address}
    return _object("attack-pattern", technique, stamp, name=name or technique, external_references=[reference])


def _vulnerability(cve: str, stamp: str) -> dict[str, Any]:
    return _object(
        "vulnerability", cve, stamp, name=cve, external_references=[{"source_name": "cve", "external_id": cve}]
    )


def _object(kind: str, key: str, stamp: str, **fields: Any) -> dict[str, Any]:
    common = {"type": kind, "spec_version": "2.1", "id": _id(kind, key), "created": stamp, "modified": stamp}
    return common | fields


def _id(kind: str, key: str) -> str:
    return f"{kind}--{uuid.uuid5(_NAMESPACE, f'{kind}/{key}')}"


def _timestamp(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms / 1000)) + f".{at_ms % 1000:03d}Z"
