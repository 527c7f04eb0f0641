"""Only one instance of the system runs in a state folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration, RetryLater
from serving.settings import ServeSettings
from streams.settings import load_settings
from sx9_ml_models import system
from sx9_ml_models.system import server_settings, single_instance
from tests.streams.local.test_process import is_running

COMMAND = "import signal, time; signal.signal(15, signal.SIG_IGN); print('started', flush=True); time.sleep(600)"
INSTANCE = f"""
import sys, time
from pathlib import Path
from streams.local import supervisor
from sx9_ml_models.system import single_instance
folder = Path(sys.argv[1])
with single_instance(folder) as lock_fd:
    command = [sys.executable, "-c", {COMMAND!r}]
    watchdog = supervisor.launch(command, folder / "log", grace_s=3, pass_fds=[lock_fd])
    while "started" not in (folder / "log").read_text():
        time.sleep(0.05)
    print(watchdog.pid, flush=True)
    time.sleep(600)
"""


def test_a_second_instance_is_refused_at_once_with_the_process_id_of_the_first(tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        single_instance(tmp_path),
        pytest.raises(RetryLater, match=f"it already runs here, as process {os.getpid()}: see `sx9 status`"),
        single_instance(tmp_path),
    ):
        pass
    assert time.monotonic() - began < 5
    with single_instance(tmp_path):
        pass


def test_an_instance_waits_until_the_children_of_a_killed_one_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INSTANCE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        watchdog = int(one.stdout.readline())
        one.kill()
    with monkeypatch.context() as patch:
        patch.setattr(system, "LOCK_TIMEOUT_S", 0.2)
        with pytest.raises(RetryLater, match="processes of an earlier start still hold"), single_instance(tmp_path):
            pass
    assert is_running(watchdog)
    with single_instance(tmp_path):
        assert not is_running(watchdog)


def test_the_topics_are_archived_where_an_archive_is_named(tmp_path: Path) -> None:
    for url, wanted in ((None, False), (str(tmp_path / "archive"), True)):
        settings = load_settings(state_dir=tmp_path / "state", archive_url=url)
        children = system.system_children(settings, [], fetch=False, env={}, lock_fd=0)
        assert ("archive" in {child.name for child in children.all}) is wanted


def test_the_server_gets_the_port_that_is_set_or_a_free_one_and_loads_models_when_they_are_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadConfiguration, match=rf"SX9_SERVE_PORT={port}: .*set another port.*--no-serve"):
            server_settings(ServeSettings(port=port))
        usual = ServeSettings.model_construct(**ServeSettings().model_dump() | {"port": port}, _fields_set=set())
        assert server_settings(usual).port not in (0, port)
    assert server_settings(ServeSettings(port=port)).port == port
    assert server_settings(ServeSettings(port=0)).load == "asked"
    assert server_settings(ServeSettings(port=0, load="start")).load == "start"
