"""`sx9 export`: the same files from the topics as from the sources, and what is left out is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.encoding import encode_event
from schemas.errors import BadConfiguration
from schemas.topics import TECHNIQUES
from streams.content.events_folder import read_events
from streams.fetchers.base.publish import outgoing_event, publish
from sx9_ml_models.exports import events_on_topics, named_sources
from tests.flow.material import group, technique
from tests.streams.fetchers.stix_bundles import ordinary, relationship, written
from transport.kafka import consumer, producer
from transport.topics import create_topics


def sx9(folder: Path, *arguments: str) -> Any:
    """What a command says, as JSON."""
    env = os.environ | {"SX9_STATE_DIR": str(folder / "state"), "SX9_OUTPUT_DIR": str(folder / "output")}
    command = [sys.executable, "-m", "sx9_ml_models", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, timeout=120, check=True, env=env).stdout)


def test_sources_are_exported_without_kafka(tmp_path: Path) -> None:
    objects = ordinary(3)
    lost = relationship(9, objects[3], {"id": "attack-pattern--gone"})
    source = f"attack-enterprise={written(tmp_path, *objects, lost)}"
    graph = sx9(tmp_path, "export", "ontology", "--source", source)
    assert graph == {
        "output": str(tmp_path / "output/ontology/threat_ontology.json"),
        "nodes": 4, "edges": 3, "rejected": {"missing-end": 1},
    }  # fmt: skip
    kinds = Counter(node["kind"] for node in json.loads(Path(graph["output"]).read_bytes())["nodes"])
    assert kinds == {"technique": 3, "group": 1}
    content = sx9(tmp_path, "export", "content", "--source", source, "--output", str(tmp_path / "mine"))
    assert (content["output"], content[TECHNIQUES.name]) == (str(tmp_path / "mine"), 3)
    assert len(list(read_events(tmp_path / "mine"))) == 7
    assert not (tmp_path / "state").exists()


def test_topics_give_every_event_in_its_order_and_pass_over_what_does_not_decode(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap)
    feed = [technique(900), group(901), technique(900, 1_600_000_000_000)]
    publish(kafka_bootstrap, [outgoing_event(encode_event(event), 0) for event in feed], lambda *_: None)
    writer = producer(kafka_bootstrap)
    writer.send(TECHNIQUES.name, key=b"bad", value=b"{nonsense").get(timeout=30)
    writer.close()
    reader, rejected = consumer(kafka_bootstrap), Counter[str]()
    found = list(events_on_topics(reader, rejected))
    reader.close()
    assert [event for event in found if event.id == "T1900"] == [feed[0], feed[2]]
    assert feed[1] in found
    assert rejected["undecodable"] >= 1


@pytest.mark.parametrize(
    ("words", "named"), [(["nix=a"], "attack-enterprise"), (["attack-ics=a", "attack-ics"], "twice")]
)
def test_a_source_that_is_not_one_is_named(words: list[str], named: str) -> None:
    with pytest.raises(BadConfiguration, match=named):
        named_sources(words)
    assert named_sources(["attack-ics=a=b", "attack-mobile"]) == {"attack-ics": "a=b", "attack-mobile": None}
