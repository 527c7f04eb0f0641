"""The page in a real browser: clicks and keys, not only loading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.app import PAGE
from serving.context import Serving
from serving.server import build
from serving.settings import ServeSettings
from tests.serving.browser import CONTROL, ENTER, TAB, Browser, browser
from tests.serving.http import listening
from tests.serving.versions import DISTILBERT, TACTICS, make
from trainers.store.registry import Registry

REPORT = "Caf\u00e9 \U0001f600 mail came. The macro started a script."


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, serving_cache: Path) -> Iterator[tuple[httpx.Client, Serving]]:
    """Two versions; the second serves, and there is no Kafka."""
    folder = tmp_path_factory.mktemp("page")
    registry = Registry(folder / "models")
    for version, tactic in (("v0001", TACTICS[0]), ("v0002", TACTICS[1])):
        make(registry, serving_cache, version, {tactic: 0.9})
    registry.promote(DISTILBERT, "v0002")
    serving = build(ServeSettings(output_dir=folder, state_dir=folder / ".sx9", models=DISTILBERT, follow_s=0.05))
    with listening(serving) as client:
        yield client, serving


@pytest.fixture
def page(window: Browser, server: tuple[httpx.Client, Serving]) -> Browser:
    """The page, when it has shown the versions."""
    client, _ = server
    window.open(str(client.base_url))
    window.run("sessionStorage.clear()")
    window.until(lambda: "v0002" in window.text("#versions"))
    window.errors()
    return window


def test_a_text_is_marked_sentence_by_sentence_by_keyboard_alone(page: Browser) -> None:
    page.type("#text", REPORT.replace("\U0001f600", ""))
    page.run(f"document.getElementById('text').value = {REPORT!r}")
    page.press(CONTROL, ENTER)
    page.until(lambda: TACTICS[1] in page.text("#answer"))
    marks = page.run("return [...document.querySelectorAll('.report mark')].map(m => m.firstChild.textContent)")
    assert marks == ["Caf\u00e9 \U0001f600 mail came.", "The macro started a script."]
    assert "v0002" in page.text("#answer")
    assert page.errors() == []


def test_the_first_key_goes_to_a_link_that_skips_to_the_content(page: Browser) -> None:
    page.press(TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press(ENTER)
    assert page.run("return document.activeElement.id") == "main"


def test_a_rollback_is_confirmed_with_a_reason_and_needs_an_admin_key(
    page: Browser, server: tuple[httpx.Client, Serving]
) -> None:
    page.click("#versions td button")
    assert page.run("return document.getElementById('confirm').open") is True
    page.type("#why", "it was better")
    page.click("#confirm button.strong")
    page.until(lambda: "needs a key with the scope admin" in page.text("#events"))
    assert page.run("return document.getElementById('access').open") is True
    page.type("#key", server[1].keys.add("ada", "admin", 0))
    page.click("#key-form button")
    page.click("#versions td button")
    page.type("#why", "it was better")
    page.click("#confirm button.strong")
    page.until(lambda: "no Kafka runs" in page.text("#events"))
    server[1].keys.revoke("ada")  # without keys the other tests need none


def test_a_rollback_that_is_not_confirmed_asks_for_nothing(page: Browser) -> None:
    before = page.text("#events")
    page.click("#versions td button")
    page.click("#confirm button[value=cancel]")
    assert page.run("return document.getElementById('confirm').open") is False
    assert page.text("#events") == before


def test_events_arrive_while_the_page_is_open_and_their_text_is_only_text(
    page: Browser, server: tuple[httpx.Client, Serving]
) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    server[1].hub.publish("version", {"model": DISTILBERT, "text": hostile})
    page.until(lambda: hostile in page.text("#events"))
    assert page.run("return document.querySelectorAll('#events img').length") == 0
    assert page.run("return document.title") == "sx9-ml-models"


def test_the_page_allows_no_foreign_content_and_is_small(server: tuple[httpx.Client, Serving]) -> None:
    answer = server[0].get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 300_000
    assert not [path for path in PAGE.iterdir() if "http://" in path.read_text().replace("http://www.w3.org", "")]
