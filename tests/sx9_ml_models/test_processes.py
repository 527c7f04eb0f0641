"""A child process that exits is restarted, after pauses that grow."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from sx9_ml_models import processes
from sx9_ml_models.processes import RESTART_PAUSES_S, STEADY_S, Child, Children, role_child, running


class Clock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    return clock


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """A child that exits at once with code 7, after a line in its log."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho the reason\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setattr(processes, "sys", SimpleNamespace(executable=str(program)))
    return role_child("example", ["run", "example"], tmp_path / "logs" / "example.log", 0, {}, None)


def wait_for_exit(child: Child) -> None:
    """Wait until a child has exited, and leave its exit code for others to read."""
    assert child.watchdog is not None
    os.waitid(os.P_PID, child.watchdog.pid, os.WEXITED | os.WNOWAIT)


def test_a_child_that_exits_is_restarted_after_growing_pauses(one: Child, clock: Clock) -> None:
    with running(Children([one])) as children:
        for number, pause_s in enumerate((*RESTART_PAUSES_S, RESTART_PAUSES_S[-1]), start=1):
            assert one.starts == number
            wait_for_exit(one)
            (message,) = children.restart_exited()
            assert f"example exited with code 7 and restarts in {pause_s:.0f} s" in message
            assert message.endswith("example.log:\nthe reason")
            clock.now_s += pause_s - 0.1
            assert children.restart_exited() == []
            assert one.starts == number, "the pause is not over"
            clock.now_s += 0.2
            assert children.restart_exited() == []


def test_a_child_that_ran_for_long_is_restarted_after_the_shortest_pause(one: Child, clock: Clock) -> None:
    with running(Children([one])) as children:
        for _ in range(2):
            wait_for_exit(one)
            children.restart_exited()
            clock.now_s += max(RESTART_PAUSES_S)
            children.restart_exited()
        assert one.starts == 3
        wait_for_exit(one)
        clock.now_s += STEADY_S + 1
        (message,) = children.restart_exited()
        assert "restarts in 1 s" in message


def test_children_that_were_never_started_can_be_stopped(one: Child) -> None:
    children = Children([one])
    children.stop()
    assert children.restart_exited() == []
    assert one.starts == 0
