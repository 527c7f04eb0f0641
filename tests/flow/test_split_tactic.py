"""ATT&CK splits a tactic: labels, heads, edges and rules follow it, technique by technique.

The release is made from ATT&CK 17.1 by a table: `defense-evasion` becomes `stealth` or `defense-impairment`, and
T1562.001 is re-issued as T1685, while its relationships still name the old one.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.journal import Example, PolicyChange, Promoted, Source, Tick
from schemas.policy import Policy
from schemas.windows import Trigger
from streams.app.catch_up import from_kafka
from streams.app.graph_sink import GraphSink, create_constraints
from streams.core.fold import Output, State, fold
from streams.core.projections.base import project_all
from streams.fetchers.base.labels import OTHER_RELEASE
from streams.fetchers.base.runner import FetchReport, fetch
from streams.settings import load_settings
from tests.flow.graph import stored_graph
from tests.flow.world import World, triggers_of
from tests.streams.app.messages import FakeProducer, FakeTopicIds

ATTACK = Path(__file__).resolve().parents[3] / "shared/feeds/attack/enterprise-attack-17.1.json"
DEAD, NEW = "defense-evasion", ("stealth", "defense-impairment")
OLD, REISSUED = "T1562.001", "T1685"
TEXT_MODEL, GRAPH_MODEL = "distilbert-mitre", "gnn-threat"
POLICY = Policy(
    window_examples=50, bootstrap_examples=100, retrain_examples=10_000, drift_threshold=1.0, drift_rearm=1.0,
    taxonomy_examples=15, champion_age_s=1e12, cooldown_s=0.0, reservoir=2_000,
)  # fmt: skip

Raw = dict[str, Any]


def id_of(found: Raw) -> str:
    return next((r["external_id"] for r in found.get("external_references", ()) if "external_id" in r), "")


def excerpt() -> list[Raw]:
    """80 techniques, half of them of the tactic, 20 groups, and what these do with those."""
    everything = json.loads(ATTACK.read_text())["objects"]
    active = [o for o in everything if not o.get("revoked") and not o.get("x_mitre_deprecated")]
    techniques = sorted((o for o in active if o["type"] == "attack-pattern"), key=id_of)
    phases = {o["id"]: {phase["phase_name"] for phase in o["kill_chain_phases"]} for o in techniques}
    of_tactic = [o for o in techniques if phases[o["id"]] == {DEAD}]
    chosen = [o for o in of_tactic if id_of(o) == OLD] + [o for o in of_tactic if id_of(o) != OLD][:39]
    chosen += [o for o in techniques if DEAD not in phases[o["id"]]][:40]
    groups = [o for o in active if o["type"] == "intrusion-set"][:60]
    names = {o["id"] for o in (*chosen, *groups)}
    uses = [
        o for o in active if o.get("relationship_type") == "uses" and {o["source_ref"], o["target_ref"]} <= names
    ]
    about = [o for o in everything if o["type"] == "x-mitre-collection"]
    return [*about, *chosen, *groups, *uses]


def tactic_of(technique: str) -> str:
    """The table."""
    return NEW[1] if technique.startswith(("T1562", REISSUED)) else NEW[0]


def split(release: list[Raw]) -> list[Raw]:
    """The release after it."""
    after = copy.deepcopy(release)
    for found in after:
        found["modified"] = "2026-04-28T00:00:00.000Z" if found["type"] != "relationship" else found["modified"]
        if found["type"] == "x-mitre-collection":
            found["x_mitre_version"] = "19.0"
        for phase in found.get("kill_chain_phases", ()):
            if phase["phase_name"] == DEAD and id_of(found) != OLD:
                phase["phase_name"] = tactic_of(id_of(found))
    (old,) = (found for found in after if id_of(found) == OLD)
    new = copy.deepcopy(old) | {"id": "attack-pattern--00000000-0000-4000-8000-000000001685"}
    new["external_references"] = [{"source_name": "mitre-attack", "external_id": REISSUED}]
    new["kill_chain_phases"] = [{"kill_chain_name": "mitre-attack", "phase_name": NEW[1]}]
    old["revoked"] = True
    revoked_by: Raw = {
        "type": "relationship", "id": "relationship--00000000-0000-4000-8000-000000001685",
        "created": new["modified"], "modified": new["modified"], "relationship_type": "revoked-by",
        "source_ref": old["id"], "target_ref": new["id"],
    }  # fmt: skip
    return [*after, new, revoked_by]


RULES = {"by-technique": f"{NEW[1]}, attack.t1562.001", "by-tactic": NEW[0], "behind": f"{DEAD}, attack.t1027"}


def write_rules(folder: Path) -> None:
    for name, tags in RULES.items():
        rule = f"title: {name}\nid: {name}\nlevel: high\ntags: [attack.{tags}]\ndetection: {{a: b}}\n"
        (folder / f"{name}.yml").write_text(rule)


def latest(world: World, feed: str) -> dict[str, Any]:
    return {event.id: event for _, event in world.events() if event.feed == feed}


def tactics_of_rules(world: World) -> dict[str, tuple[str, ...]]:
    return {key.removeprefix("sigma:"): event.tactics for key, event in latest(world, "sigma").items()}


def examples_of(world: World, model: str) -> list[Example]:
    """The examples of all events on the topics."""
    found: list[Example] = []
    for message, event in world.events():
        source = Source(message.topic, message.partition, message.offset, feed=event.feed)
        found += project_all(event, source, 0, [model]).values()
    return found


def graph_edges(world: World) -> list[Any]:
    """The edges in Neo4j once the graph sink has read all events."""
    create_constraints(world.driver)
    for topic in sorted({message.topic for message, _ in world.events()}):
        messages = [from_kafka(message) for message, _ in world.events() if message.topic == topic]
        GraphSink(world.driver, FakeProducer(), FakeTopicIds()).write(messages)  # type: ignore[arg-type]
    return stored_graph(world.driver)[1]


@pytest.mark.skipif(not ATTACK.is_file(), reason=f"needs {ATTACK}")
def test_a_split_tactic_is_relabelled_through_its_techniques_everywhere(world: World, tmp_path: Path) -> None:
    settings = load_settings(state_dir=tmp_path)
    rules = tmp_path / "rules"
    rules.mkdir()
    write_rules(rules)

    def fetch_attack(release: str, objects: list[Raw]) -> FetchReport:
        path = tmp_path / f"enterprise-attack-{release}.json"
        path.write_text(json.dumps({"type": "bundle", "id": "bundle--1", "objects": objects}))
        return fetch("attack-enterprise", str(path), settings, world.bootstrap)

    before = excerpt()
    fetch_attack("17.1", before)
    report = fetch("sigma", str(rules), settings, world.bootstrap)
    assert report.rejected == {OTHER_RELEASE: 1}
    assert tactics_of_rules(world) == {"by-technique": (DEAD,), "by-tactic": (), "behind": (DEAD,)}
    assert OLD in ends(graph_edges(world))
    champions = {model: champion(world, model) for model in (TEXT_MODEL, GRAPH_MODEL)}

    fetch_attack("19.0", split(before))
    report = fetch("sigma", str(rules), settings, world.bootstrap)
    assert report.rejected == {}
    assert tactics_of_rules(world) == {"by-technique": (NEW[1],), "by-tactic": (NEW[0],), "behind": (NEW[0],)}
    for model, (before_split, read) in champions.items():
        now = examples_of(world, model)
        new = [each for each in now if each.source not in read]
        state, triggers = settled(*fold(before_split, enumerate(new, 21_000)))
        assert {trigger.reason for trigger in triggers} == {"taxonomy"}
        assert NEW[0] in state.champion_labels
        assert {DEAD}.isdisjoint({*triggers[-1].labels, *state.champion_labels})
        current = {each.key: each for each in sorted(now, key=lambda each: each.source.offset)}
        assert DEAD not in {label for each in current.values() for label in each.labels}
    edges = graph_edges(world)
    assert REISSUED in ends(edges)
    assert OLD not in ends(edges)
    used = {(source, target) for _, kind, source, target, _, _ in edges if kind == "USES"}
    assert len(used) == sum(found.get("relationship_type") == "uses" for found in before)


def champion(world: World, model: str) -> tuple[State, set[Source]]:
    """The state once all versions before the split were promoted, and the events that its journal has."""
    found = examples_of(world, model)
    state, outputs = fold(State(model=model), [(0, PolicyChange(POLICY)), (1, Tick(1)), *enumerate(found, 10)])
    state, _ = settled(state, outputs)
    assert DEAD in state.champion_labels
    return state, {each.source for each in found}


def settled(state: State, outputs: list[Output]) -> tuple[State, list[Trigger]]:
    """The state once nothing is left to train, and all triggers; each candidate is promoted."""
    found = triggers_of(outputs)
    while state.open_trigger:
        asked = state.open_trigger
        answer = Promoted(trigger=asked.id, version=asked.version, time_ms=0)
        state, outputs = fold(state, [(state.next_offset, answer), (state.next_offset + 1, Tick(state.now_ms + 1))])
        found += triggers_of(outputs)
    return state, found


def ends(edges: list[Any]) -> set[str]:
    """Targets of the edges that stand, other than those that say what replaced what."""
    return {target for _, kind, _, target, _, status in edges if status == "active" and kind != "REVOKED_BY"}
