"""The records of the DSL files."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Sx9Entity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One entity. Rules and exploits have neither the secondary hash nor the two fields after it.

    Attributes:
        id: What people call it: T1059, the id of a rule, `edb_N`.
        type: `Technique`, `DetectionRule`, `OffensiveTool` or `Exploit`.
        trivariate: Canonical form of the primary hash.
        trivariate_dict: Its parts: `sch`, `cuid`, `uuid`, `full`, `canonical`.
        hashes: `semantic`, `operational`, `trivariate_primary`, and `trivariate_secondary` where there is one.
        ptcc: `primitive` and `code`.
        relationships: Each `type`, `target_type`, `target_id`; only to techniques that exist.
    """

    id: str
    type: str
    name: str
    trivariate: str
    trivariate_dict: dict[str, str]
    hashes: dict[str, str]
    ptcc: dict[str, str]
    hd4_phase: str
    attributes: dict[str, Any]
    relationships: tuple[dict[str, str], ...] = ()
    trivariate_secondary_dict: dict[str, str] | UnsetType = UNSET
    unicode_operation: dict[str, Any] | UnsetType = UNSET
    task_graph_node: dict[str, Any] | UnsetType = UNSET


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """What RFC-9011-B keeps of a validated source.

    Attributes:
        source_ref: `feed:id`.
        attack_refs: Techniques that exist, after their revocations.
        confidence: `high`, `medium` or `low`, from the status of a rule; `high` for what ATT&CK itself states.
        playbook_actions: The PTCC primitive and the phase in which it applies.
        validated_at: Newest modification of the content, not the time of the run.
        validation_status: `valid`, or `semantic_errors`.
    """

    dsl_version: str = "1.0"
    source_ref: str
    source_type: str
    attack_refs: tuple[str, ...]
    platforms: tuple[str, ...]
    severity: str
    confidence: str
    playbook_actions: tuple[dict[str, str], ...]
    validated_at: str
    validation_status: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with an event.

    Attributes:
        file: Its file in the feed, or the feed and release.
        field: Where the fault is.
        value: What is there, at most 200 characters.
        rule: What should be there.
        kind: `syntax`, `schema` or `semantic`. An event with a fault of the first two is not converted.
    """

    file: str
    field: str
    value: str
    rule: str
    kind: str


class FaultsOfOne(msgspec.Struct, frozen=True, kw_only=True):
    """The faults of one event."""

    id: str
    type: str
    errors: tuple[Fault, ...]


class Counts(msgspec.Struct, kw_only=True):
    """Numbers of RFC-9011-B; each source that was read counts once in `total_files`.

    Attributes:
        passed: Without faults. Duplicates are among them.
        duplicates: With the same content as an earlier one under another id.
        pass_rate: `passed / total_files`, rounded; 1 for none.
    """

    total_files: int = 0
    passed: int = 0
    failed_syntax: int = 0
    failed_schema: int = 0
    failed_semantic: int = 0
    duplicates: int = 0
    pass_rate: float = 1.0


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """An event with the content of an earlier one."""

    id: str
    type: str
    same_as: str
    content_hash: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of RFC-9011-B: its numbers, of all and by feed, and the duplicates by name."""

    total_files: int
    passed: int
    failed_syntax: int
    failed_schema: int
    failed_semantic: int
    duplicates: int
    pass_rate: float
    by_source: dict[str, Counts]
    duplicate_items: tuple[Duplicate, ...]


class DslSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        output: The folder.
        files: Names of the files in it.
        validated: Events without a fault of syntax or schema.
        converted: Entities, by type.
        error_count: Events with any fault.
        duplicates: Events with the content of an earlier one.
    """

    output: str
    files: tuple[str, ...]
    validated: int
    converted: dict[str, int]
    error_count: int
    duplicates: int
