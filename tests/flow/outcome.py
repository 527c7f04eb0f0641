"""What a run of the whole flow has come to, without the positions and times in which two runs may differ.

Windows, triggers, answers and versions are told as often as they are on their topics: none may be there twice.

A kill leads to redeliveries, so the same example has another offset in the journal of a disturbed run. Offsets are
therefore told as the keys of the examples at them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from schemas.journal import Example, Promoted, Refused
from schemas.models import MODELS
from schemas.topics import EVENT_TOPICS, TRIGGERS, VERSIONS, WINDOWS
from tests.flow.graph import stored_graph
from tests.flow.world import MODEL, World, effective_examples
from trainers.store.registry import Registry

Outcome = dict[str, list[Any]]
"""What -> its rows."""


def outcome(world: World, registry: Registry) -> Outcome:
    """Everything that a run leaves: topics, journals, windows, triggers, answers, graph and versions."""
    at = dict(world.journal())
    keys = {offset: record.key for offset, record in at.items() if isinstance(record, Example)}
    nodes, edges = stored_graph(world.driver)
    return {
        "events": sorted((m.topic, m.partition, m.offset, dict(m.headers)["ce_id"].decode()) for m in _all(world)),
        **{f"journal of {model}": _examples(world, model) for model in MODELS},
        "windows": [
            (w.closed_by, w.examples, w.holdout, w.retracted, w.labels, w.digest) for w in world.records(WINDOWS)
        ],
        "triggers": [_trigger(trigger, keys) for trigger in world.records(TRIGGERS)],
        "answers": [
            (type(r).__name__, r.version) for r in at.values() if isinstance(r, Promoted | Refused)
        ],
        "announcements": [(event.version, event.outcome) for event in world.records(VERSIONS)],
        "nodes": nodes,
        "edges": edges,
        "versions": [
            (m.version, m.parent, m.promoted, m.examples_trained, _files(registry.verified(MODEL, m.version).files))
            for m in registry.versions(MODEL)
        ],
        "champion": [registry.champion(MODEL)],
    }  # fmt: skip


def digests(found: Outcome) -> dict[str, str]:
    """What -> the hash of its rows."""
    return {what: hashlib.sha256(msgspec.json.encode(rows)).hexdigest()[:16] for what, rows in found.items()}


def _all(world: World) -> list[Any]:
    return world.messages(*EVENT_TOPICS)


def _examples(world: World, model: str) -> list[Any]:
    return [_example(example) for example in effective_examples(world.journal(model))]


def _example(example: Example) -> Any:
    source = (example.source.topic, example.source.partition, example.source.offset, example.source.feed)
    return msgspec.to_builtins(example) | {"source": source, "observed_ms": 0}


def _trigger(trigger: Any, keys: dict[int, str]) -> Any:
    told = msgspec.to_builtins(trigger)
    for name in ("rehearsal", "holdout_old", "holdout_recent"):
        told[name] = [keys[offset] for offset in getattr(trigger, name)]
    return told | {"offset": 0, "spans": [(span.examples, span.digest) for span in trigger.spans]}


def _files(files: dict[str, str]) -> dict[str, str]:
    """The files of a version but the card, which names offsets."""
    return {name: digest for name, digest in files.items() if not name.endswith(".md")}
