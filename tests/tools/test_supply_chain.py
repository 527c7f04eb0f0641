"""The bill of materials has everything that is locked; the audit says what is known of it, or that nothing is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from streams.local.jars import LISTS, lock_file, read_lock
from streams.local.machine import free_port
from tools import audit, bill_of_materials
from tools.bill_of_materials import LOCKS, ROOT, components, document

VULNERABLE = {"pkg:pypi/torch": ["GHSA-a", "GHSA-b"], "pkg:maven/org.yaml/snakeyaml": ["GHSA-c"]}


def test_every_pin_and_every_jar_is_a_component_with_its_hashes() -> None:
    found = components()
    pins = {
        line.partition(" ")[0].replace("==", "@").replace("_", "-").lower()
        for lock in LOCKS
        for line in (ROOT / "requirements" / lock).read_text().splitlines()
        if line[:1].isalnum()
    }
    assert {f"{each.name}@{each.version}" for each in found if not each.group} == pins
    jars = {jar.sha256 for name in LISTS for jar in read_lock(lock_file(name))}
    assert {each.hashes for each in found if each.group} == {(sha256,) for sha256 in jars}
    assert all(each.hashes for each in found)
    assert len(found) > 300


def test_who_needs_what_is_said_and_the_same_locks_give_the_same_bytes() -> None:
    made = document()
    assert json.dumps(made) == json.dumps(document())
    refs = [each["bom-ref"] for each in made["components"]]
    assert len(refs) == len(set(refs))
    needs = {each["ref"]: each["dependsOn"] for each in made["dependencies"]}
    assert needs.keys() == {*refs, made["metadata"]["component"]["bom-ref"]}
    assert {ref for on in needs.values() for ref in on} == set(refs), "each is reached"
    (peft,) = (ref for ref in refs if ref.startswith("pkg:pypi/peft@"))
    assert any(ref.startswith("pkg:pypi/torch@") for ref in needs[peft])


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does, the second id of a package on a second page."""

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        body = json.dumps({"results": [self._result(query) for query in queries]}).encode()
        self.send_response(200 if self.path == "/v1/querybatch" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _result(self, query: dict[str, Any]) -> dict[str, Any]:
        ids = VULNERABLE.get(query["package"]["purl"].partition("@")[0], [])
        index = int(query.get("page_token", 0))
        if index >= len(ids):
            return {}
        page: dict[str, Any] = {"vulns": [{"id": ids[index], "modified": "2026-11-27T00:00:00Z"}]}
        return page | ({"next_page_token": str(index + 1)} if index + 1 < len(ids) else {})

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OSV_URL", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def accept(path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    (path / "accepted.txt").write_text("\n".join(lines))
    monkeypatch.setattr(audit, "ACCEPTED", path / "accepted.txt")


def test_what_is_found_fails_until_it_is_accepted_with_a_reason(
    osv: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(tmp_path, monkeypatch, "GHSA-a only on a GPU of another kind")
    assert audit.main() == audit.FOUND
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "GHSA-c", "GHSA-a (accepted: only on a GPU of another kind)", "GHSA-b",
    ]  # fmt: skip
    accept(tmp_path, monkeypatch, "# id, reason", "GHSA-a x", "GHSA-b y", "GHSA-c z", "GHSA-d w")
    assert audit.main() == 0
    assert "GHSA-d is accepted and no longer found: remove its line" in capsys.readouterr().out
    accept(tmp_path, monkeypatch, "GHSA-a")
    with pytest.raises(ValueError, match="GHSA-a has no reason"):
        audit.main()


def test_without_an_answer_it_says_that_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OSV_URL", f"http://127.0.0.1:{free_port(set())}")
    assert audit.main() == audit.AWAY
    assert "nothing is known of" in capsys.readouterr().err


def test_the_file_is_written_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bill_of_materials", str(tmp_path / "new" / "sbom.json")])
    bill_of_materials.main()
    made = json.loads((tmp_path / "new" / "sbom.json").read_text())
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
