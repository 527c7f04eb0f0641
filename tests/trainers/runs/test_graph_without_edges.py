"""A graph without edges is refused by the trainer, with that reason; its journal goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from schemas.codec import decode
from schemas.journal import Example, Record, Refused
from schemas.recipes.base import recipe_values
from schemas.topics import JOURNAL, VERSIONS
from schemas.versions import VersionEvent
from tests.trainers.journals import CONFIGS, graph
from tests.trainers.samples import MemoryLog, MemoryProducer, trigger
from trainers.bases.resolve import Base
from trainers.core.progress import no_progress
from trainers.runs.embeddings import EmbeddingsWriter, no_neo4j
from trainers.runs.execute_run import execute
from trainers.runs.trigger_handler import TriggerHandler, assignment_is_certain
from trainers.settings import load_trainer_settings
from trainers.store.journal_copy import JournalCopy
from trainers.store.registry import Registry
from trainers.store.version_log import VersionLog

GNN = "gnn-threat"


def test_a_trigger_whose_graph_has_no_edges_is_refused_with_that_reason(tmp_path: Path, tiny: Base) -> None:
    nodes = [example for example in graph(10) if example.node]
    asked = msgspec.structs.replace(trigger(nodes, 0, len(nodes)), model=GNN, recipe=recipe_values(CONFIGS[GNN]))
    settings = load_trainer_settings(
        output_dir=tmp_path / "output", state_dir=tmp_path / "state", cache_dir=tiny.folder.parents[1]
    )
    journal, announcements = MemoryLog(nodes), MemoryLog([])
    registry = Registry(settings.models_dir)
    copy = JournalCopy(settings.trainer_dir / "journal.sqlite", journal)
    producer: Any = MemoryProducer({JOURNAL.name: journal, VERSIONS.name: announcements})
    handler = TriggerHandler(
        GNN, settings, {}, registry, copy, VersionLog(announcements), producer,
        EmbeddingsWriter(GNN, settings, registry, no_neo4j), execute,
    )  # fmt: skip
    try:
        handler.handle(asked, no_progress, assignment_is_certain)
    finally:
        copy.close()
    records = [decode(message.value, Record) for message in journal.messages]
    (answer,) = (record for record in records if not isinstance(record, Example))
    assert isinstance(answer, Refused)
    assert answer.trigger == asked.id
    assert "no relationship to learn from" in answer.reason
    (event,) = (decode(message.value, VersionEvent) for message in announcements.messages)
    assert (event.version, event.outcome) == (asked.version, "refused")
