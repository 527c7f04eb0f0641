"""Why a version exists, and what became of an example, are read from the journal and the manifests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.errors import BadConfiguration
from schemas.events import Entity, NodeRef, Relationship, Technique, Template
from schemas.journal import Example, LineageChange, Record, held_out
from schemas.topics import JOURNAL
from schemas.versions import GateCheck, Manifest
from schemas.windows import Span, Trigger
from sx9_ml_models.explain.example import ExampleStory, example_story
from sx9_ml_models.explain.links import link_of
from sx9_ml_models.explain.placed import keyed_copy, keyed_file
from sx9_ml_models.explain.searched_file import SearchedFile
from sx9_ml_models.explain.version import (
    VersionStory,
    left_out,
    parse_target,
    trigger_in_journal,
    version_story,
)
from tests.streams.core.records import SMALL
from tests.streams.core.test_backtest import HOUR_MS, lived, triggers_of
from tests.trainers.samples import MODEL, MemoryLog, example, examples
from trainers.store import manifest as manifests
from trainers.store.journal_copy import JournalCopy
from transport.partition_file import PartitionFile, write_partition

CHECK = GateCheck("tactics/old/macro_f1", 0.7, 0.8, 0.02, 60, True)


def manifest_of(asked: Trigger, /, **fields: Any) -> Manifest:
    known = {
        "version": asked.version, "trigger": asked.id, "reason": asked.reason, "parent": asked.parent,
        "spans": asked.spans, "rehearsal": asked.rehearsal, "promoted": True, "gate": (CHECK,),
    }  # fmt: skip
    return Manifest(model=MODEL, **known | fields)


def story_of(name: str, records: list[Record], *made: Manifest, path: Path) -> ExampleStory:
    """From a copy; a search in a file must say the same."""
    copy = JournalCopy(path / "copy.sqlite", MemoryLog(records))
    copy.catch_up()
    try:
        story = example_story(MODEL, name, copy, made)
        assert example_story(MODEL, name, searched(name, records, path), made) == story
        return story
    finally:
        copy.close()


def searched(name: str, records: list[Record], path: Path) -> SearchedFile:
    write_partition(path / "journal.jsonl", MemoryLog(records), Record)
    return SearchedFile(PartitionFile(path / "journal.jsonl", JOURNAL.name, 0), name)


def explained(
    records: list[Record],
    made: Manifest,
    path: Path,
    trigger: Trigger | None = None,
    last: int = 0,
    copied: int = -1,
) -> VersionStory:
    """From a file; with a copy of so many records, or of all, it must be the same."""
    write_partition(path / "journal.jsonl", MemoryLog(records), Record)
    file, log = PartitionFile(path / "journal.jsonl", JOURNAL.name, 0), MemoryLog(records)
    story = version_story(made, file, keyed_file(file), trigger, None, last)
    known = records if copied < 0 else records[:copied]
    with contextlib.closing(JournalCopy(path / "copy.sqlite", MemoryLog(known))) as copy:
        copy.catch_up()
        assert version_story(made, log, keyed_copy(copy, log), trigger, None, last) == story
    return story


def lineage(exclusions: tuple[str, ...], numbered_from: int) -> LineageChange:
    return LineageChange(
        version=f"v{numbered_from + 1}", exclusions=exclusions, end=1, numbered_from=numbered_from, answers=(),
        by="ada", why="bad", request=f"r{numbered_from}", time_ms=1,
    )  # fmt: skip


def test_a_version_is_explained_with_its_trigger_its_examples_and_its_gate(tmp_path: Path) -> None:
    records = lived(SMALL, 5 * HOUR_MS)
    trigger = triggers_of(records)[2]
    made = manifest_of(trigger)
    story = explained(records, made, tmp_path, trigger_in_journal(MemoryLog(records), made), 4)
    assert story.measures == trigger.measures
    assert (story.trigger, story.at_ms, story.replaced) == (trigger.id, trigger.at_ms, "v0002")
    assert story.gate == (CHECK,)
    in_windows = range(trigger.spans[0].start, trigger.spans[-1].end)
    trained = [at for at in in_windows if isinstance(r := records[at], Example) and not held_out(r)]
    assert story.fresh + story.superseded == trigger.examples
    assert {event.offset for event in story.events} < set(trained)
    assert len(story.events) == 4
    assert sum(story.labels.values()) == story.fresh


@pytest.mark.parametrize("copied", [0, 12, 30, 100])
def test_what_was_edited_or_taken_back_before_the_decision_is_not_what_a_version_learnt(
    copied: int, tmp_path: Path
) -> None:
    trained = [e for e in examples(40) if not held_out(e)]
    edited, back, kept = trained[0].key, trained[1].key, trained[2].key
    records: list[Record] = [
        *(example(number, ["impact"], key=key) for number, key in enumerate((edited, back, kept))),
        *examples(20, first=100),
        example(2, ["impact"], key=kept),  # delivered again
        example(200, ["execution"], key=edited),
        example(201, [], key=back, retracted=True),
        *examples(20, first=300),
        example(500, ["execution"], key=kept),  # after the decision
    ]
    trigger = triggers_of(lived(SMALL, 0))[0]
    made = manifest_of(trigger, trigger="m@40", rehearsal=(), spans=(Span(0, 3, 3, ""),))
    story = explained(records, made, tmp_path, last=3, copied=copied)
    assert [event.offset for event in story.events] == [2]
    assert (story.fresh, story.superseded, story.retracted) == (1, 2, 0)


def test_a_refused_version_replaced_nothing(tmp_path: Path) -> None:
    records = lived(SMALL, 5 * HOUR_MS)
    story = explained(records, manifest_of(triggers_of(records)[2], promoted=False), tmp_path)
    assert (story.replaced, story.parent, story.measures, story.events) == ("", "v0002", (), ())


def test_an_example_is_followed_through_the_versions(tmp_path: Path) -> None:
    key = next(e.key for e in examples(40) if not held_out(e))
    records: list[Record] = [
        example(0, ["impact"], key=key),
        *examples(5, first=100),
        example(201, ["execution"], key=key),
        example(202, ["execution"], key=key, text="another text"),
        example(203, [], key=key, retracted=True),
        example(201, ["execution"], key=key),  # delivered again
    ]
    trigger = triggers_of(lived(SMALL, 0))[0]
    one = manifest_of(trigger, version="v0001", trigger="m@5", rehearsal=(), spans=(Span(0, 6, 1, ""),))
    two = manifest_of(trigger, version="v0002", trigger="m@8", rehearsal=(0,), spans=(Span(6, 9, 1, ""),))
    story = story_of(key, records, one, two, path=tmp_path)
    assert [entry.what for entry in story.entries] == ["new", "relabelled", "edited", "retracted"]
    assert [(use.version, use.offset, use.role.partition(":")[0]) for use in story.uses] == [
        ("v0001", 0, "learnt as new"),
        ("v0002", 0, "rehearsed"),
        ("v0002", 6, "in its windows, but superseded by a later one before its turn"),
        ("v0002", 7, "in its windows, but superseded by a later one before its turn"),
        ("v0002", 8, "a retraction in its windows"),
    ]
    assert story.retracted
    assert story.labels == ()


def test_a_held_out_example_was_never_trained_on(tmp_path: Path) -> None:
    records: list[Record] = list(examples(60))
    held = next(r for r in records if isinstance(r, Example) and held_out(r))
    trigger = msgspec.structs.replace(triggers_of(lived(SMALL, 0))[0], rehearsal=())
    made = manifest_of(trigger, spans=(msgspec.structs.replace(trigger.spans[0], start=0, end=60),))
    story = story_of(held.key.partition(":")[2], records, made, path=tmp_path)
    assert story.holdout
    assert [use.role for use in story.uses] == ["in its windows, but held out: never trained on"]


def test_an_unknown_example_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"no example 'T9' \(looked for technique:T9, node:T9"):
        story_of("T9", list(examples(3)), path=tmp_path)


def test_an_example_that_was_taken_out_is_an_error_that_says_who_took_it_out(tmp_path: Path) -> None:
    records: list[Record] = [*examples(3), lineage(("entity=1",), 1_000)]
    with pytest.raises(BadConfiguration, match=r"no example '1'.*entity=1 was taken out by ada"):
        story_of("1", records, path=tmp_path)
    assert story_of("2", records, path=tmp_path).entries


def test_a_version_is_explained_with_the_exclusions_of_its_lineage() -> None:
    changes = [(10, lineage(("feed=a",), 1_000)), (50, lineage(("feed=a", "feed=b"), 2_000))]
    trigger = triggers_of(lived(SMALL, 0))[0]
    found = {
        version: left_out(manifest_of(trigger, version=version), changes)
        for version in ("v0008", "v1000", "v1001", "v1999", "v2001", "main")
    }
    assert found == {
        "v0008": (), "v1000": (), "v1001": ("feed=a",), "v1999": ("feed=a",), "v2001": ("feed=a", "feed=b"),
        "main": (),
    }  # fmt: skip


def test_the_numbers_of_a_trigger_are_those_of_the_manifest(tmp_path: Path) -> None:
    records = lived(SMALL, 5 * HOUR_MS)
    trigger = triggers_of(records)[2]
    made = manifest_of(trigger, decided_ms=trigger.at_ms, measures=trigger.measures)
    story = explained(records, made, tmp_path, last=1)
    assert (story.at_ms, story.measures) == (trigger.at_ms, trigger.measures)


@pytest.mark.parametrize(
    ("event", "link"),
    [
        (Technique(id="T1059.001", feed="f", stix_id="s", name="n"), "https://attack.mitre.org/techniques/T1059/001/"),
        (Entity(id="intrusion-set--1", feed="f", kind="group", name="n", external_id="G0007"),
         "https://attack.mitre.org/groups/G0007/"),
        (Entity(id="x-1", feed="f", kind="group", name="n"), ""),
        (Template(id="nuclei:a", feed="f", name="n", path="http/a.yaml"), "http/a.yaml"),
        (Relationship(id="r", feed="f", relation="uses", source=NodeRef(id="intrusion-set--1", kind="group"),
                      target=NodeRef(id="T1005", kind="technique")), "https://attack.mitre.org/techniques/T1005/"),
    ],
)  # fmt: skip
def test_an_event_links_to_its_page(event: Any, link: str) -> None:
    assert link_of(event) == link


def test_a_target_without_a_version_is_an_error() -> None:
    with pytest.raises(BadConfiguration, match="write MODEL@VERSION, such as gnn-threat@v0001"):
        parse_target("gnn-threat")


def test_the_command_explains_without_kafka(tmp_path: Path) -> None:
    records = lived(SMALL, 5 * HOUR_MS)
    trigger = triggers_of(records)[1]
    write_partition(tmp_path / "journal.jsonl", MemoryLog(records), Record)
    folder = tmp_path / "output/models" / MODEL / trigger.version
    folder.mkdir(parents=True)
    manifests.write(folder, manifest_of(trigger))
    env = os.environ | {"SX9_STATE_DIR": str(tmp_path / "state"), "SX9_OUTPUT_DIR": str(tmp_path / "output")}

    def explain(*arguments: str) -> Any:
        command = [sys.executable, "-m", "sx9_ml_models", "explain", *arguments, "--journal", "journal.jsonl"]
        done = subprocess.run(
            [*command, "--json"], capture_output=True, timeout=120, check=True, env=env, cwd=tmp_path
        )
        return json.loads(done.stdout)

    assert explain(f"{MODEL}@{trigger.version}")["measures"] == list(msgspec.to_builtins(trigger.measures))
    rehearsed = records[trigger.rehearsal[0]]
    assert isinstance(rehearsed, Example)
    story = explain("--example", rehearsed.key)
    assert [use["role"] for use in story["uses"] if use["offset"] == trigger.rehearsal[0]] == ["rehearsed"]
