"""A headless Chromium, driven over the W3C WebDriver protocol."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from streams.local.machine import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element in an answer, by the standard."""
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1200,1400",
)  # fmt: skip
CONTROL, ENTER, TAB = "\ue009", "\ue007", "\ue004"
WAIT_S = 120.0


class Browser:
    """One window.

    Args:
        driver: A client of the driver.
        session: Path of the session.
    """

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver, self._session = driver, session

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        url = self._session + path
        answer = self._driver.post(url, json=body) if body is not None else self._driver.get(url)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    def open(self, url: str) -> None:
        """Load a page."""
        self._ask("/url", {"url": url})

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self._ask("/execute/sync", {"script": script, "args": []})

    def text(self, css: str) -> str:
        """What a person sees of the first element that fits; empty if there is none."""
        return str(self.run(f"return document.querySelector({css!r})?.innerText ?? ''"))

    def click(self, css: str) -> None:
        """Click the first element that fits."""
        self._ask(f"/element/{self._find(css)}/click", {})

    def type(self, css: str, keys: str) -> None:
        """Type into an element."""
        self._ask(f"/element/{self._find(css)}/value", {"text": keys})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is; Control is held until the end."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._ask("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": down + up}]})

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < deadline, self.text("body")
            time.sleep(0.05)

    def errors(self) -> list[str]:
        """What the browser's console has of errors."""
        return [
            entry["message"] for entry in self._ask("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"
        ]

    def _find(self, css: str) -> str:
        return str(self._ask("/element", {"using": "css selector", "value": css})[ELEMENT])


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser; the test is skipped where none is installed."""
    program = shutil.which("chromedriver")
    if program is None:
        pytest.skip("chromedriver is not on the path: install chromium and chromium-driver to run this")
    port = free_port(set())
    process = subprocess.Popen([program, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S, trust_env=False) as driver:
            _until_up(driver)
            options = {"args": list(ARGUMENTS)}
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            made = driver.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            session = f"/session/{made['sessionId']}"
            yield Browser(driver, session)
            driver.delete(session)
    finally:
        process.terminate()
        process.wait()


def _until_up(driver: httpx.Client) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            driver.get("/status")
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
