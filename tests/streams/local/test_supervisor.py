"""A command under a watchdog: its exit code is reported, and it never outlives its owner or its watchdog."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams.local import supervisor
from tests.streams.local.test_process import PATIENCE_S, is_running, wait_gone

SLEEP = [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('started', flush=True); time.sleep(600)",
]
OWNER = """
import json, sys, time
from pathlib import Path
from streams.local import supervisor
command, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
watchdog = supervisor.launch(command, folder / "log", grace_s=5, state_file=folder / "state.json")
time.sleep(600)
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def started(folder: Path) -> dict[str, Any]:
    """The state file, once the command has started."""
    until(lambda: (folder / "state.json").exists() and "started" in (folder / "log").read_text(), "a start")
    return json.loads((folder / "state.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., supervisor.Watchdog]]:
    """Launches commands that are stopped at the end of the test."""
    watchdogs: list[supervisor.Watchdog] = []

    def launch(command: list[str], **arguments: Any) -> supervisor.Watchdog:
        arguments = {"grace_s": 5.0, "state_file": tmp_path / "state.json"} | arguments
        watchdogs.append(supervisor.launch(command, tmp_path / "log", **arguments))
        return watchdogs[-1]

    yield launch
    supervisor.stop(watchdogs, 5.0)


@pytest.mark.parametrize(
    ("code", "reported"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_code_of_the_command_is_reported(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path, code: str, reported: int
) -> None:
    assert launch([sys.executable, "-c", code]).wait() == reported
    assert not (tmp_path / "state.json").exists()


def test_the_command_has_our_environment_and_no_ignored_signals(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    code = (
        "import os, signal; print(os.environ['COLOUR'], *(signal.getsignal(s) == signal.SIG_DFL for s in "
        "(signal.SIGTERM, signal.SIGHUP)), signal.getsignal(signal.SIGINT) == signal.default_int_handler)"
    )
    launch([sys.executable, "-c", code], env=os.environ | {"COLOUR": "red"}).wait()
    assert (tmp_path / "log").read_text() == "red True True True\n"


def test_the_state_file_names_the_processes_while_the_command_runs(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    watchdog = launch(SLEEP, details={"port": 7})
    state = started(tmp_path)
    assert psutil.Process(state["child"]).ppid() == watchdog.pid
    assert state == {
        "port": 7, "owner": os.getpid(), "watchdog": watchdog.pid, "child": state["child"], "stopping": False,
    }  # fmt: skip
    assert supervisor.stop([watchdog], 5.0) == []
    assert watchdog.returncode == 128 + signal.SIGTERM
    assert not is_running(state["child"])
    assert not (tmp_path / "state.json").exists()


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace_period(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    watchdog = launch(STUBBORN, grace_s=1.0)
    child = started(tmp_path)["child"]
    began = time.monotonic()
    assert supervisor.stop([watchdog], 1.0) == []
    assert time.monotonic() - began >= 1.0
    assert watchdog.returncode == 128 + signal.SIGKILL
    assert not is_running(child)


def test_a_watchdog_that_hangs_is_killed_and_reported(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT_S", 0.5)
    watchdog = launch(SLEEP)
    child = started(tmp_path)["child"]
    watchdog.send_signal(signal.SIGSTOP)
    assert supervisor.stop([watchdog], 0.1) == [watchdog.pid]
    wait_gone(child)


@pytest.mark.parametrize("command", [SLEEP, STUBBORN])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_does_not_outlive_its_owner(tmp_path: Path, command: list[str], number: signal.Signals) -> None:
    arguments = [sys.executable, "-c", OWNER, json.dumps(command), str(tmp_path)]
    with subprocess.Popen(arguments) as owner:
        state = started(tmp_path)
        owner.send_signal(number)
    wait_gone(state["child"], state["watchdog"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PDEATHSIG")
def test_a_command_does_not_outlive_its_watchdog(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    watchdog = launch(SLEEP)
    child = started(tmp_path)["child"]
    watchdog.kill()
    wait_gone(child)


def test_the_log_of_the_previous_start_is_kept(launch: Callable[..., supervisor.Watchdog], tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        launch([sys.executable, "-c", f"print('{text}')"]).wait()
    assert [(tmp_path / name).read_text() for name in ("log.1", "log")] == ["two\n", "three\n"]


def test_a_command_that_writes_without_end_has_logs_of_bounded_size_with_the_newest_lines(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    lines = 20_000
    launch([sys.executable, "-c", f"for n in range({lines}): print(n)"], max_log_bytes=10_000).wait()
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("log*")}
    assert sizes.keys() == {"log", "log.1"}
    assert max(sizes.values()) <= 10_000 + 65_536
    kept = ((tmp_path / "log.1").read_text() + (tmp_path / "log").read_text()).split()
    assert kept[-1] == str(lines - 1)
    assert [int(line) for line in kept[1:]] == list(range(lines - len(kept) + 1, lines)), "no line is missing"


def test_a_command_goes_on_when_its_log_cannot_be_written(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    code = (
        f"import os, shutil; os.unlink({str(folder)!r}); os.mkdir({str(folder)!r})\n"
        "for n in range(20_000): print(n)"
    )
    assert launch([sys.executable, "-c", code]).wait() == 0


def test_the_log_and_what_the_command_writes_are_readable_by_their_owner_only(
    launch: Callable[..., supervisor.Watchdog], tmp_path: Path
) -> None:
    launch([sys.executable, "-c", f"open({str(tmp_path / 'data')!r}, 'w'); print('x')"]).wait()
    assert {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("log", "data")} == {
        "log": 0o600,
        "data": 0o600,
    }
