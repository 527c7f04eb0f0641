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
from streams.app.graph_sink import GraphSink, create_constraints
from streams.local.services import Endpoints
from streams.settings import Settings
from sx9_ml_models.serving import server as server_beside
from tests.serving.answers.test_ask import EVENTS
from tests.serving.browser import CONTROL, ENTER, TAB, Browser, browser
from tests.serving.http import listening
from tests.serving.versions import DISTILBERT, TACTICS, make
from tests.streams.app.messages import FakeProducer, FakeTopicIds, messages
from trainers.store.registry import Registry
from transport.neo4j import neo4j_driver

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


def test_before_any_version_the_page_says_so_and_what_a_text_waits_for(window: Browser, tmp_path: Path) -> None:
    with listening(build(ServeSettings(output_dir=tmp_path, state_dir=tmp_path / ".sx9"))) as client:
        window.open(str(client.base_url))
        window.until(lambda: window.text("#models").count("No version serves yet.") == 3)
        window.type("#text", "The macro started a script.")
        window.click("#classify-form button")
        window.until(lambda: "a trainer promotes the first one" in window.text("#answer"))
        window.errors()  # it has that of the answer 503


def test_the_graph_around_a_name_is_drawn_listed_and_leads_on_to_its_neighbours(
    window: Browser, tmp_path: Path, service_settings: Settings, endpoints: Endpoints
) -> None:
    if service_settings.neo4j_uri:
        pytest.skip("deletes everything: not in a configured Neo4j")
    with neo4j_driver(endpoints.neo4j_uri) as driver:
        create_constraints(driver)
        driver.execute_query("MATCH (n) DETACH DELETE n")
        GraphSink(driver, FakeProducer(), FakeTopicIds()).write(messages(EVENTS, 0, "threat.test"))  # type: ignore[arg-type]
    chosen = ServeSettings(output_dir=tmp_path, state_dir=tmp_path / ".sx9")
    with server_beside(service_settings, chosen) as serving, listening(serving) as client:
        window.open(str(client.base_url))
        window.type("#node", "cozy bear")
        window.press(ENTER)
        window.until(lambda: "G0016 APT29" in window.text("#neighbours strong"))
        window.click("#neighbours li button")
        window.until(lambda: "T1055 Process Injection" in window.text("#neighbours strong"))
        headings = window.run("return [...document.querySelectorAll('#neighbours h3')].map(h => h.textContent)")
        assert headings == ["used by (1)", "mitigations (1)", "rules that cover it (1)"]
        drawn = window.run(
            "return [...document.querySelectorAll('svg.neighbours .node')].map(t => t.firstChild.data)"
        )
        assert drawn == ["G0016 APT29", "M1040 Behavior Prevention on Endpoint", "sigma:1 Remote Thread Creation"]
        assert "used by: 1, mitigations: 1, rules that cover it: 1" in window.run(
            "return document.querySelector('svg.neighbours').getAttribute('aria-label')"
        )
        assert [error for error in window.errors() if "Failed to load resource" not in error] == []
        window.run("document.getElementById('node').value = 'T9999'")
        window.click("#graph-form button")
        window.until(lambda: "the graph has no 'T9999'" in window.text("#neighbours"))
        window.errors()


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
