"""`sx9 export` writes files and reports what it wrote as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.topics import TECHNIQUES
from streams.content.events_folder import read_events
from tests.streams.fetchers.stix_bundles import ordinary, relationship, written


def sx9(folder: Path, *arguments: str) -> Any:
    """The JSON that a command prints."""
    env = os.environ | {"SX9_STATE_DIR": str(folder / "state"), "SX9_OUTPUT_DIR": str(folder / "output")}
    command = [sys.executable, "-m", "sx9_ml_models", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, timeout=120, check=True, env=env).stdout)


def test_sources_are_exported_without_kafka(tmp_path: Path) -> None:
    objects = ordinary(3)
    lost = relationship(9, objects[3], {"id": "attack-pattern--gone"})
    source = f"attack-enterprise={written(tmp_path, *objects, lost)}"
    graph = sx9(tmp_path, "export", "ontology", "--source", source)
    assert (graph["nodes"], graph["edges"], graph["rejected"]) == (4, 3, {"missing-end": 1})
    folder = tmp_path / "output/ontology"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert (graph["output"], graph["files"]) == (str(folder), files)
    nodes = json.loads((folder / "threat_ontology.json").read_bytes())["nodes"]
    kinds = Counter(node["kind"] for node in nodes)
    assert kinds == {"technique": 3, "group": 1}
    dsl = sx9(tmp_path, "export", "dsl", "--source", source)
    assert (dsl["output"], dsl["converted"]) == (str(tmp_path / "output/sx9_dsl"), {"Technique": 3})
    (broken,) = json.loads((tmp_path / "output/sx9_dsl/validation_errors.json").read_bytes())
    assert (broken["errors"][0]["rule"], broken["errors"][0]["kind"]) == ("missing-end", "syntax")
    content = sx9(tmp_path, "export", "content", "--source", source, "--output", str(tmp_path / "mine"))
    assert (content["output"], content[TECHNIQUES.name]) == (str(tmp_path / "mine"), 3)
    assert len(list(read_events(tmp_path / "mine"))) == 7
    assert not (tmp_path / "state").exists()
