"""Records as they were once written, kept so that every later reader can be held to them.

python -m tests.contracts.record     adds the samples below that are not recorded yet; a line is never changed

Each line of samples/<name>.jsonl has the bytes (`written`), and what they meant on that day with every
default spelt out (`meant`): a default that changes would silently give old records another meaning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from schemas.archive import ArchivedFile, ArchiveManifest
from schemas.codec import encode
from schemas.events import (
    DeadLetter,
    Entity,
    Event,
    LogSource,
    NodeRef,
    Relationship,
    Report,
    ReportSpan,
    Technique,
    Template,
)
from schemas.fetch_totals import FetchTotals
from schemas.journal import (
    Answered,
    ChampionChange,
    Example,
    ExampleScore,
    Held,
    Instruction,
    LineageChange,
    Link,
    Manual,
    Node,
    PolicyChange,
    Promoted,
    QuarantineSettled,
    QuarantineVerdict,
    Record,
    Refused,
    Score,
    Source,
    Tick,
)
from schemas.policy import GateLimits, Policy, QuarantineRules
from schemas.scores import LabelScores, TaskScores
from schemas.versions import GateCheck, Manifest, PhaseTime, VersionEvent
from schemas.windows import Measure, Span, Trigger, Window

SAMPLES = Path(__file__).parent / "samples"

MODEL = "distilbert-mitre"
FROM = {"feed": "attack-enterprise", "release": "15.1", "created_ms": 1_500_000_000_000, "modified_ms": -1}
KEPT = FROM | {"kept_by": "attack-ics"}
WITHDRAWN = FROM | {"status": "withdrawn"}
GONE = FROM | {"status": "revoked", "revoked_by": "T1685"}
SOURCE = Source("threat.relationships.v1", 3, 2**40, 1_700_000_000_000)
HELD = Example(
    source=Source(
        "threat.templates.v1", 3, 7, 1_700_000_000_000, "id-1", "sigma",
        FetchTotals(900, known=3_000, relabelled=4, alike=5), held=2**40,
    ),
    key="template:sigma:1", hash="00ff", text="t", labels=("severity:high",),
)  # fmt: skip
SPAN = Span(0, 1_000, 870, "00ff")

EVALUATION = {
    "tactics": {
        "holdout": TaskScores(
            examples=3, metrics={"micro_f1": 0.5}, labels={"execution": LabelScores(1.0, 0.5, 0.25, 2)},
            errors={"micro_f1": 0.1}, extra={"ece": 0.2},
        )
    }
}  # fmt: skip
EVENTS: dict[str, list[Any]] = {
    "technique": [
        Technique(id="T1", feed="f", stix_id="attack-pattern--1", name="Bare"),
        Technique(
            id="T1059.001", stix_id="attack-pattern--2", name="PowerShell\N{SNOWMAN}", text='Says "x"\n',
            tactics=("execution", "stealth"), platforms=("Windows",), domain="enterprise-attack",
            detection="Watch it.", **GONE,
        ),
        Technique(id="T2", stix_id="attack-pattern--3", name="Withdrawn", **WITHDRAWN),
        Technique(id="T3", stix_id="attack-pattern--4", name="Kept", **KEPT),
    ],
    "template": [
        Template(id="nuclei-templates:bare", feed="nuclei-templates", name="Bare"),
        Template(
            id="nuclei-templates:cve", name="CVE", text="t", severity="high", tags=("a", "b"),
            techniques=("T1190",), cves=("CVE-2024-1",), path="http/cves/x.yaml", **GONE,
        ),
        Template(id="nuclei-templates:kept", name="Kept", **KEPT),
        Template(
            id="sigma:1", feed="sigma", name="Rule", rule_type="sigma", rule_status="test", detection="a: b",
            log_source=LogSource(category="process_creation", product="windows", service="sysmon"), author="A, B",
            false_positives=("Backups",), date="2026-01-02", platforms=("windows",), tactics=("execution",),
            references=("https://rules.example/1",),
        ),
    ],
    "entity": [
        Entity(id="campaign--1", feed="f", kind="campaign", name="Bare"),
        Entity(
            id="intrusion-set--1", kind="group", name="APT0", text="t", external_id="G0001", aliases=("x", "y"),
            **GONE,
        ),
        Entity(id="campaign--2", kind="campaign", name="Kept", **KEPT),
        Entity(
            id="lolbas:x.exe", feed="lolbas", kind="lolbin", name="x.exe", category="OSBinaries",
            tags=("Download",), techniques=("T1105",), cves=("CVE-2024-1",), platforms=("Windows 11",),
            references=("https://x.example",), path="yml/x.yml", author="A", date="2026-01-02",
            severity="high", score=0.25,
        ),
    ],
    "report": [
        Report(id="reports:a:1", feed="reports", document="reports:a", name="A", text="They sent mail."),
        Report(id="reports:a:2", document="reports:a", name="A", text="They left.", **KEPT),
        Report(
            id="annoctr:b:2", document="annoctr:b", name="B", text="APT0 sent mail.", path="b.json",
            date="2021-06-10",
            spans=(
                ReportSpan(start=0, end=4, kind="group", id="G0001", name="APT0"),
                ReportSpan(
                    start=5, end=14, kind="technique", id="T1566", name="Phishing", tactics=("initial-access",)
                ),
            ),
            **GONE,
        ),
    ],
    "relationship": [
        Relationship(
            id="relationship--1", feed="f", relation="mitigates", source=NodeRef(id="a", kind="mitigation"),
            target=NodeRef(id="T1", kind="technique"),
        ),
        Relationship(
            id="relationship--2", relation="uses", text="APT0 has used it.", domain="enterprise-attack",
            source=NodeRef(id="intrusion-set--1", kind="group", name="APT0", status="deprecated"),
            target=NodeRef(id="T1059.001", kind="technique", name="PowerShell", tactics=("execution",),
                       status="revoked"),
            **GONE,
        ),
        Relationship(
            id="relationship--3", relation="mitigates", source=NodeRef(id="a", kind="mitigation"),
            target=NodeRef(id="T1", kind="technique"), **KEPT,
        ),
        Relationship(
            id="relationship--4", feed="f", relation="mitigates",
            source=NodeRef(id="a", kind="mitigation", name="Audit", external_id="M1047"),
            target=NodeRef(id="T1", kind="technique"),
        ),
    ],
}  # fmt: skip
JOURNAL: dict[str, list[Any]] = {
    "example": [
        Example(source=Source("threat.techniques.v1", 0, 0), key="technique:T1", hash="00", retracted=True),
        Example(
            source=SOURCE, key="relationship:r", hash="0123456789abcdef", text="APT0 has used it.",
            labels=("execution", "stealth"), taxonomy="enterprise-attack/15.1", observed_ms=1_700_000_000_001,
        ),
        Example(
            source=SOURCE, key="relationship:m", hash="01", group="technique:T1", labels=("execution",),
            instructions=(
                Instruction(instruction="What is T1?", output="T1 is a technique."),
                Instruction(instruction="How is it mitigated?", input="T1", output="By patches.\n"),
            ),
        ),
        Example(source=SOURCE, key="node:bare", hash="02", node=Node(id="malware--1", kind="malware")),
        Example(
            source=SOURCE, key="node:T1", hash="03", node=Node(id="T1", kind="technique", name="Bare", text="t")
        ),
        Example(
            source=SOURCE, key="link:r", hash="04", labels=("uses:group",),
            link=Link(
                source="intrusion-set--1", source_kind="group", relation="uses", target="T1",
                target_kind="technique",
            ),
        ),
        Example(
            source=Source("threat.techniques.v1", 0, 0, 1_700_000_000_000, "0b5e4a4c-8f0f-4a3c-9d9e-0f6f0e4a7b11"),
            key="technique:T1", hash="05", text="T1 is a technique.", labels=("execution",),
        ),
    ],
    "tick": [Tick(1_700_000_000_000)],
    "manual": [Manual(request="r-1", reason="new taxonomy", time_ms=1_700_000_000_000)],
    "policy": [PolicyChange(Policy()), PolicyChange(Policy(window_age_s=0.5, drift_threshold=1.0, seed=0)),
        PolicyChange(Policy(retrains_per_day=4, breaker_refusals=3, breaker_pause_s=0.5,
                            drift_in_a_row=2, score_every=4, input_drift_window=100, input_drift_threshold=0.3,
                            input_drift_in_a_row=4, performance_drift_threshold=40.0, performance_drift_delta=0.5,
                            performance_drift_in_a_row=5,
                            corrections_examples=7, run_examples=2_000, backlog_cooldown_s=0.5,
                            gate=GateLimits(margin=0.1, label_margin=0.2, min_examples=5, min_support=6),
                            recipe={"epochs": 3, "base": "minilm", "dropout": 0.5})),
        PolicyChange(Policy(quarantine=QuarantineRules(
            burst_factor=3.5, burst_events=9, burst_fetches=2, relabelled_share=0.3, relabelled_events=7,
            alike_share=0.2, alike_events=8, loss_excess=1.5, loss_events=6,
        ))),
    ],
    "held": [
        Held(example=HELD, reason="burst", value=900.0, limit=500.0),
        Held(example=HELD, reason="following"),
    ],
    "quarantine-verdict": [
        QuarantineVerdict(feed="sigma", action="purge", by="ada", why="poisoned", request="r", time_ms=1),
        QuarantineVerdict(
            feed="sigma", action="release", by="ada", why="real", request="s", time_ms=2, keys=("template:sigma:1",)
        ),
    ],
    "quarantine-settled": [
        QuarantineSettled(
            topic="threat.templates.v1", partition=3, feed="sigma", verdict=9, released=1, purged=2, kept=4
        ),
    ],
    "score": [
        Score(trigger=f"{MODEL}@9", version="v0001", examples=3, scores={}),
        Score(trigger=f"{MODEL}@9", version="v0001", examples=3, scores={"micro_f1": 0.1 + 0.2}, time_ms=1),
        Score(trigger=f"{MODEL}@9", version="v0001", examples=3, evaluation=EVALUATION),
        Score(trigger="", version="v0001", examples=1, time_ms=1, reference=True,
              each=(ExampleScore(offset=7, losses={"tactics": 0.1 + 0.2}, projection=(-1.5, 0.25)),)),
    ],
    "promoted": [Promoted(trigger=f"{MODEL}@9", version="v0001", time_ms=1)],
    "refused": [Refused(trigger=f"{MODEL}@9", version="v0001", reason="micro_f1 0.4 < 0.5", time_ms=1)],
    "champion": [
        ChampionChange(version="v0001", action="rolled-back", by="ada", why="poisoned", request="r", time_ms=1),
        ChampionChange(version="v0002", action="promoted", by="ada", why="checked", request="s", time_ms=2),
    ],
    "lineage": [
        LineageChange(
            version="v1001", exclusions=("feed=odd",), end=9, numbered_from=1_000, by="ada", why="poisoned",
            answers=(Answered(5, "v1001", True), Answered(9, "v1002", False)), request="r", time_ms=1,
        ),
        LineageChange(
            version="v2001", exclusions=(), end=12, numbered_from=2_000, by="ada", why="it was set right",
            answers=(Answered(12, "v2001", True),), request="s", time_ms=2, lifted=("feed=odd",),
        ),
    ],
}  # fmt: skip
OTHERS: dict[str, list[Any]] = {
    "dead-letter": [
        DeadLetter(origin="feed:file", reason="no-id", detail="no id"),
        DeadLetter(
            origin="threat.techniques.v1/0/7", reason="undecodable", detail="truncated", payload=b"\x00\xff{",
            payload_bytes=3, time_ms=1,
        ),
    ],
    "window": [
        Window(model=MODEL, start=0, end=1, closed_by="age"),
        Window(
            model=MODEL, start=5, end=9, closed_by="volume", opened_ms=1, closed_ms=2, examples=2, holdout=1,
            retracted=1, labels={"execution": 2}, digest="00ff",
        ),
    ],
    "trigger": [
        Trigger(model=MODEL, number=1, offset=0, reason="manual", at_ms=0),
        Trigger(
            model=MODEL, number=2, offset=999, reason="drift", at_ms=1_700_000_000_000, parent="v0001",
            spans=(SPAN,), rehearsal=(1, 4), holdout_old=(2,), holdout_recent=(3, 5), labels=("execution",),
            seed=17,
            measures=(Measure("volume", 870.0, 1_000.0, False), Measure("drift", 0.3, 0.25, True, "over 400")),
        ),
        Trigger(
            model=MODEL, number=3, offset=1_000, reason="volume", at_ms=1, gate=GateLimits(margin=0.1),
            recipe={"epochs": 3, "base": "minilm", "dropout": 0.5},
        ),
    ],
    "archive": [
        ArchiveManifest(topic="t", topic_id="id", partition=0),
        ArchiveManifest(
            topic="retrain.journal.v1", topic_id="0b5e4a4c-8f0f-4a3c-9d9e-0f6f0e4a7b11", partition=2,
            files=(ArchivedFile(name="0-7.00.parquet", start=0, end=7, records=6, bytes=900, sha256="00ff",
                                first_ms=1, last_ms=2),),
            fingerprint="00ff",
        ),
    ],
    "version-event": [
        VersionEvent(model=MODEL, version="v0001", outcome="rolled-back"),
        VersionEvent(model=MODEL, version="v0001", outcome="rolled-back", by="ada", request="r", detail="why"),
        VersionEvent(
            model=MODEL, version="v0002", outcome="promoted",
            trigger=f"{MODEL}@999", reason="drift", detail="better", parent="v0001",
            examples=870, scores={"micro_f1": 0.5}, parent_scores={"micro_f1": 0.4}, seconds=1.5,
            time_ms=1, newest_event_ms=2,
        ),
        VersionEvent(
            model=MODEL, version="v0002", outcome="promoted", evaluation=EVALUATION, parent_evaluation=EVALUATION
        ),
        VersionEvent(model=MODEL, version="v1001", outcome="promoted", request="r", exclusions=("feed=odd",)),
        VersionEvent(model=MODEL, version="v2001", outcome="promoted", request="s", exclusions=()),
    ],
    "manifest": [
        Manifest(model=MODEL, version="v0001", trigger=f"{MODEL}@9", reason="volume"),
        Manifest(
            model=MODEL, version="v0002", trigger=f"{MODEL}@999", reason="drift", parent="v0001", spans=(SPAN,),
            rehearsal=(1, 4), examples_trained=872, examples_left_out=3,
            examples_dropped={"superseded": 2, "retracted": 1}, newest_event_ms=2,
            config={"seed": 17, "rate": 3e-05, "frozen": False, "stages": [1, 2], "note": None}, base="minilm",
            base_sha256="00", labels=("execution",), taxonomies=("enterprise-attack/15.1",),
            libraries={"torch": "2.15"}, machine="x86_64",
            scores={"micro_f1": 0.5}, parent_scores={"micro_f1": 0.4},
            per_label={"execution": {"f1": 0.5, "support": 7.0}},
            gate=(GateCheck("recent micro_f1", 0.4, 0.5, 0.01, 300, True),), promoted=True,
            files={"model.safetensors": "00"}, created_ms=3, seconds=1.5,
        ),
        Manifest(
            model="gnn-threat", version="v0001", trigger="gnn-threat@9", reason="volume",
            baseline_scores={"item cosine": {"holdout_recall_at_20": 0.5}},
            report={"samples": [{"asked": "T1", "answer": None}], "ece": 0.1},
        ),
        Manifest(
            model=MODEL, version="v0001", trigger=f"{MODEL}@9", reason="volume", evaluation=EVALUATION,
            parent_evaluation=EVALUATION, baselines={"tf-idf": EVALUATION},
        ),
        Manifest(
            model=MODEL, version="v0001", trigger=f"{MODEL}@9", reason="volume", seconds=1.5,
            phases={"fit": PhaseTime(1.25, 2.5)},
        ),
        Manifest(
            model=MODEL, version="v0001", trigger=f"{MODEL}@9", reason="volume",
            left_out={"curves.png": "ValueError: no font"}, processes=2,
        ),
        Manifest(
            model=MODEL, version="v0002", trigger=f"{MODEL}@999", reason="drift", decided_ms=7,
            measures=(Measure("volume", 870.0, 1_000.0, False), Measure("drift", 0.3, 0.25, True, "over 400")),
        ),
    ],
}  # fmt: skip

TYPES: dict[str, Any] = {
    **dict.fromkeys(EVENTS, Event),
    **dict.fromkeys(JOURNAL, Record),
    "dead-letter": DeadLetter,
    "window": Window,
    "trigger": Trigger,
    "version-event": VersionEvent,
    "archive": ArchiveManifest,
    "manifest": Manifest,
}
"""Name -> the type that reads it, the whole union where a topic has one."""


def meaning(value: Any) -> Any:
    """A record as JSON data, with the fields that the wire leaves out and the name of its type."""
    if isinstance(value, msgspec.Struct):
        fields = {field: meaning(getattr(value, field)) for field in value.__struct_fields__}
        return {"": type(value).__name__} | fields
    if isinstance(value, dict):
        return {key: meaning(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [meaning(one) for one in value]
    return msgspec.to_builtins(value)


def line(record: Any) -> str:
    """One line of a samples file."""
    return json.dumps({"written": encode(record).decode(), "meant": meaning(record)}) + "\n"


def add() -> None:
    """Append what is new."""
    for name, records in (EVENTS | JOURNAL | OTHERS).items():
        file = SAMPLES / f"{name}.jsonl"
        there = set(file.read_text().splitlines(keepends=True)) if file.exists() else set()
        with file.open("a") as samples:
            samples.writelines(new for record in records if (new := line(record)) not in there)


if __name__ == "__main__":
    add()
