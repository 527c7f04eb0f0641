"""Wrong use names the mistake and the remedy and exits with 2; help shows an example."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = (
    ["demo"], ["up"], ["fetch"], ["status"], ["windows"], ["triggers"], ["models", "list"], ["models", "show"],
    ["retrain"], ["run"], ["export", "content"], ["export", "ontology"], ["similar"],
)  # fmt: skip


def _sx9(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    folders = {"SX9_STATE_DIR": str(tmp_path / "state"), "SX9_OUTPUT_DIR": str(tmp_path / "output")}
    return subprocess.run(
        [sys.executable, "-m", "sx9_ml_models", *arguments],
        capture_output=True, text=True, timeout=120, check=False, env=os.environ | folders | env,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(tmp_path: Path, command: list[str]) -> None:
    done = _sx9(tmp_path, *command, "--help")
    assert done.returncode == 0
    assert "Example: " in done.stdout
    assert f"sx9 {' '.join(command)}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        (["fetsch"], {}, "fetch"),
        (["fetch", "nix"], {}, "attack-enterprise"),
        (["fetch", "attack-ics", "attack-mobile", "--source", "x.json"], {}, "--source is for one feed"),
        (["models", "show", "v0009"], {}, "v0009"),
        (["windows", "--model", "gpt"], {}, "distilbert-mitre"),
        (["windows", "--last", "0"], {}, "1"),
        (["retrain"], {}, "--reason"),
        (["run", "nothing"], {}, "journal"),
        (["run", "train", "--model", "gpt"], {}, "gnn-threat"),
        (["demo", "--continue", "--folder", "missing"], {}, "without --continue"),
        (["status"], {"SX9_KAFKA_BOOTSTRP": "x"}, "SX9_KAFKA_BOOTSTRP"),
        (["status"], {"SX9_KAFKA_PORT": "70000"}, "70000"),
    ],
)
def test_wrong_use_names_the_mistake_and_exits_with_2(
    tmp_path: Path, arguments: list[str], env: dict[str, str], named: str
) -> None:
    done = _sx9(tmp_path, *arguments, **env)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_leaves_a_folder_of_other_things_alone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    assert _sx9(tmp_path, "demo", "--folder", str(folder)).returncode == 2
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
