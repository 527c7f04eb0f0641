"""Starting, finding, replacing and stopping a service, with a small Java program instead of Kafka."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from schemas.errors import BadConfiguration, RetryLater
from streams.local import process
from streams.local.machine import free_port, is_free
from streams.local.process import Started
from streams.local.state import Folders, find
from tests.streams.local.web import Web

pytestmark = pytest.mark.services
BACKGROUND = ("/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Put before a command, it ignores SIGINT, as a shell does for a job that it starts in the background."""
PATIENCE_S = 600.0
"""Longest wait of a test, seconds: no machine is that busy."""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "web.lock").write_text("")
    return Folders(tmp_path, tmp_path)


@pytest.fixture
def web(folders: Folders) -> Web:
    return Web(folders.state / "web", folders.state / "web.lock")


def start(service: Web, folders: Folders, timeout_s: float = 60) -> Started:
    return process.start(service, folders, None, timeout_s, None, threading.Event())


def entry(folders: Folders) -> dict[str, int]:
    return json.loads(folders.run("web", "json").read_text())


def is_running(pid: int) -> bool:
    """False for a process that has ended and was not waited for, as orphans are in some containers."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(*pids: int) -> None:
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the end of the processes")


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.05)


@pytest.fixture
def owner(folders: Folders) -> Iterator[subprocess.Popen[str]]:
    """Another process that has started the service."""
    command = [*BACKGROUND, sys.executable, "-m", "tests.streams.local.owner", str(folders.state), "web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "port" in json.loads(running.stdout.readline())
        yield running
        running.kill()


def test_a_service_answers_while_it_runs_and_leaves_nothing_behind(web: Web, folders: Folders) -> None:
    started = start(web, folders)
    pids = entry(folders)["child"], entry(folders)["watchdog"]
    assert not is_free(started.port)
    assert find("web", folders) == started.port
    process.stop([started])
    assert is_free(started.port)
    assert not any(is_running(pid) for pid in pids)
    assert find("web", folders) is None
    assert not folders.run("web", "json").exists()


def test_the_next_start_uses_the_same_port(web: Web, folders: Folders) -> None:
    ports = []
    for _ in range(2):
        started = start(web, folders)
        process.stop([started])
        ports.append(started.port)
    assert ports[0] == ports[1]


def test_a_second_start_finds_the_running_one_and_does_not_stop_it(
    web: Web, folders: Folders, owner: subprocess.Popen[str]
) -> None:
    before = entry(folders)
    found = start(web, folders)
    assert found == Started("web", before["port"], folders.log("web"), None)
    process.stop([found])
    assert entry(folders) == before
    assert web.is_ready(before["port"])


def test_the_owner_keeps_its_data_while_its_service_is_down(web: Web, folders: Folders) -> None:
    started = start(web, folders)
    os.kill(entry(folders)["child"], signal.SIGKILL)
    assert started.watchdog is not None
    started.watchdog.wait()
    found: list[Started] = []
    other = threading.Thread(target=lambda: found.append(start(web, folders)))
    other.start()
    other.join(1.0)
    assert other.is_alive(), "it waits for the owner and starts none of its own"
    started.relaunch()
    other.join()
    assert found == [Started("web", started.port, folders.log("web"), None)]
    process.stop([started])


def test_a_service_that_its_owner_does_not_start_again_is_refused_with_the_remedy(
    web: Web, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start(web, folders)
    os.kill(entry(folders)["child"], signal.SIGKILL)
    assert started.watchdog is not None
    started.watchdog.wait()
    monkeypatch.setattr(process, "OWNER_TIMEOUT_S", 0.3)
    with pytest.raises(RetryLater, match=r"another process owns the Web in .*web and it does not answer: see"):
        start(web, folders)
    process.stop([started])


def test_a_process_that_must_own_a_service_waits_until_another_owner_has_stopped_it(
    web: Web, folders: Folders, owner: subprocess.Popen[str]
) -> None:
    before = entry(folders)
    mine: list[Started] = []
    args = (web, folders, None, 600, None, threading.Event())
    waiting = threading.Thread(target=lambda: mine.append(process.start(*args, own=True)))
    waiting.start()
    waiting.join(1.0)
    assert waiting.is_alive()
    assert entry(folders) == before
    owner.terminate()
    waiting.join()
    assert mine[0].watchdog is not None
    process.stop(mine)


def test_two_concurrent_starts_start_one_service(web: Web, folders: Folders) -> None:
    started: list[Started] = []
    threads = [threading.Thread(target=lambda: started.append(start(web, folders))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.stop(started)
    assert len({one.port for one in started}) == 1
    assert [one.watchdog is None for one in started].count(True) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_there_are_no_orphans_however_the_owner_ends(
    folders: Folders, owner: subprocess.Popen[str], number: signal.Signals
) -> None:
    running = entry(folders)
    owner.send_signal(number)
    wait_gone(running["child"], running["watchdog"])
    assert is_free(running["port"])
    assert find("web", folders) is None


def test_there_is_no_orphan_when_the_watchdog_is_killed(web: Web, folders: Folders) -> None:
    started = start(web, folders)
    java, watchdog = entry(folders)["child"], entry(folders)["watchdog"]
    os.kill(watchdog, signal.SIGKILL)
    wait_gone(watchdog)
    started.relaunch()
    wait_until(lambda: web.is_ready(started.port), "an answer")
    assert entry(folders)["child"] != java
    assert not is_running(java)
    process.stop([started])


def test_a_service_stops_although_a_forked_process_holds_the_pipe_open(web: Web, folders: Folders) -> None:
    started = start(web, folders)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    began = time.monotonic()
    process.stop([started])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert time.monotonic() - began < 10


def test_a_service_whose_owner_is_dead_is_replaced(
    web: Web, folders: Folders, owner: subprocess.Popen[str]
) -> None:
    before = entry(folders)
    os.kill(before["watchdog"], signal.SIGSTOP)  # so that it can't clean up
    owner.kill()
    owner.wait()
    assert find("web", folders) is None
    os.kill(before["watchdog"], signal.SIGCONT)
    started = start(web, folders)
    assert started.watchdog is not None
    assert entry(folders)["child"] != before["child"]
    process.stop([started])


def test_a_process_id_that_another_program_has_now_is_not_mistaken_for_ours(web: Web, folders: Folders) -> None:
    folders.run("web", "json").parent.mkdir()
    known = {"port": 1, "owner": os.getppid(), "watchdog": os.getpid(), "child": os.getpid(), "stopping": False}
    folders.run("web", "json").write_text(json.dumps(known))
    assert find("web", folders) is None
    process.stop([start(web, folders)])  # and we are still alive


def test_a_state_file_emptied_by_a_power_failure_does_not_prevent_a_start(web: Web, folders: Folders) -> None:
    folders.run("web", "json").parent.mkdir()
    for suffix in ("json", "port"):
        folders.run("web", suffix).write_text("")
    process.stop([start(web, folders)])


def test_a_configured_port_that_is_taken_is_named_with_its_setting(folders: Folders) -> None:
    port = free_port(set())
    with start_server(port), pytest.raises(BadConfiguration, match=f"port {port} .SX9_WEB_PORT. is taken"):
        start(Web(folders.state / "web", folders.state / "web.lock", port=port), folders)


def test_another_port_is_chosen_if_that_of_the_last_start_is_taken(web: Web, folders: Folders) -> None:
    first = start(web, folders)
    process.stop([first])
    with start_server(first.port):
        second = start(web, folders)
        process.stop([second])
    assert second.port != first.port


def test_the_error_of_a_failed_start_has_the_exit_code_and_the_log(folders: Folders) -> None:
    broken = Web(folders.state / "web", folders.state / "web.lock", extra=("-XX:NoSuchOption",))
    with pytest.raises(
        BadConfiguration, match=r"(?s)Web ended at its start with exit code 1.*web\.log.*NoSuchOption"
    ) as e:
        start(broken, folders)
    assert "web.log" in str(e.value)
    assert not folders.run("web", "json").exists()


def test_a_service_that_does_not_answer_in_time_is_stopped(folders: Folders) -> None:
    silent = Web(folders.state / "web", folders.state / "web.lock", answers=False)
    with pytest.raises(RetryLater, match=r"(?s)did not answer on port .* within 1 s.*SX9_START_TIMEOUT_S"):
        start(silent, folders, timeout_s=1)
    assert not folders.run("web", "json").exists()


def test_a_cancelled_start_stops_the_service(folders: Folders) -> None:
    silent = Web(folders.state / "web", folders.state / "web.lock", answers=False)
    cancelled = threading.Event()
    threading.Timer(1, cancelled.set).start()
    with pytest.raises(RetryLater, match="the start of Web was stopped"):
        process.start(silent, folders, None, 60, None, cancelled)
    assert not folders.run("web", "json").exists()


def test_the_log_of_the_previous_start_is_kept(web: Web, folders: Folders) -> None:
    for _ in range(2):
        process.stop([start(web, folders)])
    assert folders.log("web").exists()
    assert folders.log("web").with_suffix(".log.1").exists()


def start_server(port: int) -> socket.socket:
    """Another program on the port."""
    return socket.create_server(("127.0.0.1", port))
