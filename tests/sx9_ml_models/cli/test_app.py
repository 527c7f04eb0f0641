"""The command line: help is fast and shows an example; wrong usage names the mistake and exits with 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sx9_ml_models import roles
from sx9_ml_models.cli import app
from sx9_ml_models.cli.app import COMMANDS, load_command
from sx9_ml_models.cli.run import RoleName

WITH_EXAMPLE = (
    ["demo"], ["up"], ["fetch"], ["status"], ["windows"], ["triggers"], ["models", "list"], ["models", "show"],
    ["retrain"], ["train"], ["run"], ["export", "content"], ["export", "ontology"], ["export", "training-data"],
    ["similar"], ["lookup"], ["quarantine", "release"],
)  # fmt: skip


def _sx9(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    folders = {"SX9_STATE_DIR": str(tmp_path / "state"), "SX9_OUTPUT_DIR": str(tmp_path / "output")}
    return subprocess.run(
        [sys.executable, "-m", "sx9_ml_models", *arguments],
        capture_output=True, text=True, timeout=120, check=False, env=os.environ | folders | env,
    )  # fmt: skip


def test_the_list_of_commands_needs_none_of_the_libraries_that_the_commands_need() -> None:
    code = """
import sys
from sx9_ml_models.cli.app import main
sys.argv = ["sx9", "--help"]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    heavy = {"kafka", "numpy", "pydantic", "torch", "faust", "neo4j", "msgspec", "rich", "httpx"}
    assert set(done.stderr.split()) & heavy == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_in_the_list_is_the_first_sentence_of_the_command_s_own_help(name: str) -> None:
    assert load_command(name).help.splitlines()[0] == COMMANDS[name]


def test_every_command_module_is_in_the_list() -> None:
    modules = {path.stem for path in Path(app.__file__).parent.glob("*.py")} - {"__init__", "app", "options"}
    assert modules == set(COMMANDS)


def test_run_offers_every_process() -> None:
    assert tuple(RoleName) == roles.NAMES


@pytest.mark.parametrize("command", WITH_EXAMPLE, ids=" ".join)
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
        (["export", "content", "--source", "nix=a"], {}, "attack-enterprise"),
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


def test_windows_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app.sys, "platform", "win32")
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 2
    assert "on Linux and macOS only: on Windows use WSL 2" in capsys.readouterr().err


def test_the_demo_refuses_a_folder_with_files_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    assert _sx9(tmp_path, "demo", "--folder", str(folder)).returncode == 2
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
