"""`threat_content_fetcher.py`: a complete tree, the same bytes again, and a broken source stops nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode
from schemas.events import Template
from schemas.topics import EVENT_TOPICS
from streams.content.events_folder import read_events
from streams.fetchers.feeds.registry import FEEDS
from streams.local.services import environment_of
from sx9_ml_models.content.command import main
from tests.streams.fetchers.feeds.samples import SAMPLES, put
from tests.streams.fetchers.site import serving
from tests.streams.fetchers.stix_bundles import bundle, thing

ROOT = Path(__file__).parents[3]
SHARED = next((p / "shared/feeds" for p in ROOT.parents if (p / "shared/feeds").is_dir()), None)
RECORD = {topic.name: topic.record for topic in EVENT_TOPICS}
REAL_FOLDERS = {
    "sigma": ("sigma", "rules/windows/process_creation/*.yml", 12),
    "nuclei-templates": ("nuclei-templates", "http/cves/2021/*.yaml", 12),
    "atomic-red-team": ("atomic-red-team", "atomics/T1059*/*.yaml", 3),
    "caldera": ("stockpile", "data/abilities/discovery/*.yml", 5),
    "car": ("car", "analytics/*.yaml", 5),
    "lolbas": ("LOLBAS", "yml/OSBinaries/*.yml", 5),
    "gtfobins": ("GTFOBins", "_gtfobins/*", 5),
    "loldrivers": ("LOLDrivers", "yaml/*.yaml", 3),
    "hijacklibs": ("HijackLibs", "yml/**/*.yml", 5),
    "wadcoms": ("WADComs", "_wadcoms/*.md", 5),
}
"""Feed -> its folder in the shared one, which files of it are taken, and how many."""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SX9_KAFKA_BOOTSTRAP", raising=False)


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def results(output: Path) -> dict[str, bytes]:
    """All files but those in which the command keeps what its latest run counted."""
    return {name: data for name, data in files_in(output).items() if "/.fetch/state/" not in name}


def check_files(output: Path) -> None:
    """Every file is what its name says."""
    for name, data in files_in(output).items():
        topic = Path(name).stem
        if topic in RECORD:
            assert [decode(line, RECORD[topic]).id for line in data.splitlines()]
        elif name.endswith(".json"):
            json.loads(data)


def test_all_sources_make_a_complete_tree_and_again_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--all", "--no-training", "--output", str(tmp_path / "output")]
    for feed in FEEDS:
        place = tmp_path / "missing" if feed == "gtfobins" else put(tmp_path / feed, SAMPLES[feed].files)
        arguments += ["--source", f"{feed}={place}"]
    assert main(arguments) == 3
    captured = capsys.readouterr()
    assert "fetch: gtfobins: failed: " in captured.err
    assert captured.out.count(" done ") == len(FEEDS) - 1 + 3
    content, first = tmp_path / "output/threat_content", results(tmp_path / "output")
    check_files(tmp_path / "output")
    expected = {feed: sample.events for feed, sample in SAMPLES.items() if feed != "gtfobins"}
    assert Counter(event.feed for event in read_events(content)) == expected
    raw = {"mitre_attack.json", "mitre_attack_ics.json", "mitre_attack_mobile.json", "d3fend.json"}
    indexes = {"mitre_index.json", "crosswalk_index.json", "threat_content_summary.json"}
    indexes |= {"kali_tools_inventory.json", "exploitdb_index.json"}
    kali = json.loads((content / "kali_tools_inventory.json").read_bytes())
    assert [tool["package"] for tool in kali["tools"]] == ["one", "two"]
    assert kali["categories"]["kali-linux-default"] == ["one", "two"]
    exploits = json.loads((content / "exploitdb_index.json").read_bytes())
    assert [(each["id"], each["file"], each["verified"]) for each in exploits["exploits"]] == [
        ("1", "exploits/a.py", True), ("2", "exploits/b.py", False),
    ]  # fmt: skip
    assert exploits["cves"] == {"CVE-2020-10001": ["1"]}
    assert {path.name for path in content.iterdir()} == raw | indexes | {"events", ".fetch"}
    dsl = {f"sx9_dsl/sx9_entities.{form}" for form in ("yaml", "json", "toml")} | {"sx9_dsl/pipeline_summary.json"}
    assert {"ontology/threat_ontology.json", *dsl} < set(first)
    assert main(arguments) == 3
    assert results(tmp_path / "output") == first


def test_a_second_run_reads_only_what_changed_and_says_what_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = SAMPLES["sigma"]
    arguments = ["--source", f"sigma={put(tmp_path / 'sigma', sample.files)}", "--no-training", "--no-ontology"]
    arguments += ["--no-dsl", "--output", str(tmp_path / "output")]
    assert main(arguments) == 0
    put(tmp_path / "sigma", sample.edited)
    assert main(arguments) == 0
    put(tmp_path / "sigma", sample.removed)
    assert main(arguments) == 0
    put(tmp_path / "sigma", sample.broken)
    assert main(arguments) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" fetch ")]
    assert "2 new" in told[0]
    assert "1 edited, 1 unchanged" in told[1]
    assert "1 withdrawn, 1 unchanged" in told[2]
    assert "1 bad-yaml" in told[3]
    events = [event for event in read_events(tmp_path / "output/threat_content") if isinstance(event, Template)]
    assert Counter(event.status for event in events) == {"active": 1, "withdrawn": 1}
    letters = tmp_path / "output/threat_content/events/sigma/threat.dead-letters.v1.jsonl"
    assert b"bad-yaml" in letters.read_bytes()


def slice_of_attack(folder: Path, techniques: int) -> None:
    """The first techniques of a release, with what is related to them."""
    bundle = json.loads((SHARED / "attack/enterprise-attack-17.1.json").read_bytes())  # type: ignore[operator]
    objects: list[dict[str, Any]] = bundle["objects"]
    patterns = [each["id"] for each in objects if each["type"] == "attack-pattern"][:techniques]
    others = {each["id"] for each in objects if each["type"] in ("x-mitre-tactic", "course-of-action")}
    kept = {*patterns, *others, *(each["id"] for each in objects if each["type"] == "intrusion-set")}
    bundle["objects"] = [
        each for each in objects if each["id"] in kept or {each.get("source_ref"), each.get("target_ref")} <= kept
    ]
    (folder / "enterprise-attack-17.1.json").write_text(json.dumps(bundle))


@pytest.mark.skipif(SHARED is None, reason="there is no ../shared/feeds with real content beside the checkout")
def test_slices_of_real_sources_make_the_crosswalk_that_they_say(tmp_path: Path) -> None:
    assert SHARED is not None
    arguments = ["--no-training", "--output", str(tmp_path / "output")]
    for feed, (name, pattern, number) in REAL_FOLDERS.items():
        for path in sorted((SHARED / name).glob(pattern))[:number]:
            target = tmp_path / feed / path.relative_to(SHARED / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        arguments += ["--source", f"{feed}={tmp_path / feed}"]
    slice_of_attack(tmp_path, 60)
    arguments += ["--source", f"mitre_attack={tmp_path / 'enterprise-attack-17.1.json'}"]
    assert main(arguments) == 0
    check_files(tmp_path / "output")
    index = json.loads((tmp_path / "output/threat_content/crosswalk_index.json").read_bytes())
    assert all(isinstance(count, int) for count in index["technique_to_atomic"].values())
    filled = {name for name, entries in index.items() if entries}
    assert filled >= {"technique_to_atomic", "technique_to_sigma", "technique_to_car", "technique_to_lolbas"}
    assert {"technique_to_caldera", "cve_to_nuclei"} <= filled
    first = results(tmp_path / "output")
    assert main(arguments) == 0
    assert results(tmp_path / "output") == first


def test_a_source_without_its_key_is_skipped_and_says_where_a_key_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sigma = put(tmp_path / "sigma", SAMPLES["sigma"].files)
    arguments = ["--otx", "--source", f"sigma={sigma}", "--no-training", "--output", str(tmp_path / "output")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "SX9_FEED_KEYS" in captured.err
    assert " otx " in captured.out
    assert " skipped " in captured.out


def test_mirrors_are_removed_and_the_json_stays(tmp_path: Path) -> None:
    content = tmp_path / "output/threat_content"
    put(
        content,
        {"mitre_index.json": "{}", ".fetch/feeds/sigma/HEAD": "x", "lolbas/.git/HEAD": "x", "car/mine": "x"},
    )
    assert main(["--cleanup-repos", "--output", str(tmp_path / "output")]) == 0
    assert set(files_in(content)) == {"mitre_index.json", "car/mine", ".fetch/lock"}


def test_the_script_at_the_root_says_what_is_missing_and_a_lookup_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "threat_content_fetcher.py"), "--output", str(tmp_path / "output")]
    done = subprocess.run([*command, "--lookup", "T1059"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "--all --no-training" in done.stderr) == (2, True)
    assert not (tmp_path / "output").exists()


def test_train_only_without_content_names_the_folder_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--train-only", "--output", str(tmp_path / "output")]) == 8
    error = capsys.readouterr().err
    assert str(tmp_path / "output/threat_content") in error
    assert "--all --no-training" in error


def test_with_a_broker_the_same_run_publishes_what_it_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kafka_bootstrap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in environment_of(kafka_bootstrap).items():
        monkeypatch.setenv(variable, value)
    place = put(tmp_path / "mine", {"mine.jsonl": '{"text": "They ran a shell.", "techniques": ["T1059"]}\n'})
    arguments = ["--source", f"reports-fetcher={place}", "--no-training", "--no-ontology", "--no-dsl"]
    arguments += ["--output", str(tmp_path / "output")]
    told: list[list[str]] = []
    with serving() as site:
        site.pages["/bundle.json"] = [(200, {}, bundle(thing("malware", 7, "Fetched over HTTP")))]
        arguments += ["--source", f"stix-fetcher=http://127.0.0.1:{site.server_port}/bundle.json"]
        for _ in range(2):
            assert main(arguments) == 0
            lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(" publish")]
            told += [line[:5] for line in sorted(lines) if line[1] != "topics"]
        assert site.paths == ["/bundle.json"] * 2  # once in each run
    assert told == [
        ["publish", name, "done", count, "events"]
        for count in ("1", "0") for name in ("reports-fetcher", "stix-fetcher")
    ]  # fmt: skip
