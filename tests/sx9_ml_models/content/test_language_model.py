"""A language model is asked through the command `ontogpt`, and nothing is taken over that the text does not say."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BadConfiguration, RetryLater
from serving.reports.read import ReportText
from streams.content.current import current
from streams.settings import Settings, load_settings
from sx9_ml_models.content import language_model
from sx9_ml_models.content.language_model import LanguageModel
from tests.streams.content.ontology.events import world

ONTOGPT = Path(__file__).parents[3] / ".tools" / "ontogpt" / "bin" / "ontogpt"
TEXT = "Cozy sent a mail.\nIt ran PowerShell, and then its Wiper\ndumped the passwords (T1003) of all hosts."
ANSWER = """techniques: T1059.001 = It ran PowerShell; T1003 = passwords (T1003); T1059 = a shell that is not there;
T9999 = a mail; Phishing
actors: Cozy; Fancy Lemur
software: wiper
campaigns: none
"""
FOUND = [
    ("intrusion-set--1", "Cozy", 0.5),
    ("T1059.001", "It ran PowerShell", 0.5),
    ("malware--1", "Wiper", 0.5),
    ("T1003", "passwords (T1003", 1.0),
]
LEFT_OUT = {"not in the text": 4, "not known": 1}
"""The shell, `Phishing`, `Fancy Lemur` and `none`; and T9999."""

PROGRAM = """#!{python}
import json, pathlib, sys, urllib.request, yaml

if sys.argv[1:] == ["--version"]:
    sys.exit(print("ontogpt, version 0.0"))
options = dict(zip(sys.argv, sys.argv[1:]))
template = yaml.safe_load(pathlib.Path(options["-t"]).read_text())
slots = template["classes"]["Report"]["attributes"]
with open(options["-o"], "w") as output:
    for path in pathlib.Path(options["-i"]).glob("*.txt"):
        text = path.read_text()
        asked = json.dumps({{"model": options["-m"], "messages": [{{"role": "user", "content": text}}]}}).encode()
        request = urllib.request.Request(options["--api-base"] + "/chat/completions", asked)
        said = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
        fields = dict(line.split(": ", 1) for line in said.replace(";\\n", "; ").splitlines())
        found = {{slot: fields[slot].split("; ") for slot in slots}}
        answer = {{"input_text": text, "raw_completion_output": said, "extracted_object": found}}
        output.write("---\\n" + yaml.safe_dump(answer))
"""
"""Stands for OntoGPT where it is not installed: the same options, the same form of the answers."""


class Model(ThreadingHTTPServer):
    """Answers like a service with OpenAI's protocol, and writes down what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.status = 200
        self.answer = ANSWER


class Handler(BaseHTTPRequestHandler):
    """One answer for all."""

    server: Model

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked["messages"][-1]["content"])
        message = {"role": "assistant", "content": self.server.answer}
        body = json.dumps(
            {
                "id": "1", "object": "chat.completion", "created": 1, "model": asked["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()  # fmt: skip
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "ontogpt"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    return path


def settings(tmp_path: Path, model: Model, command: Path) -> Settings:
    return load_settings(
        state_dir=tmp_path, cache_dir=tmp_path / "cache", ontogpt_model="openai/tiny",
        ontogpt_api_base=f"http://127.0.0.1:{model.server_port}/v1", ontogpt_command=str(command),
    )  # fmt: skip


def found(asked: LanguageModel, text: str = TEXT) -> list[tuple[str, str, float]]:
    statements = asked.statements(ReportText("a.txt", text))
    assert all(text[each.span.start : each.span.end] == each.span.text for each in statements)
    return [(each.target, each.span.text, each.span.confidence) for each in statements]


def test_what_the_model_says_has_its_words_and_a_confidence_and_what_the_text_does_not_say_is_left_out(
    model: Model, program: Path, tmp_path: Path
) -> None:
    asked = LanguageModel(settings(tmp_path, model, program), current(world()))
    assert found(asked) == FOUND
    assert asked.left_out == LEFT_OUT
    assert asked.name == "OntoGPT 0.0, openai/tiny"
    assert model.asked == [TEXT]


def test_a_long_report_is_asked_about_in_passages_of_whole_sentences(
    model: Model, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "PASSAGE_CHARS", 40)
    asked = LanguageModel(settings(tmp_path, model, program), current(world()))
    assert found(asked) == FOUND
    assert len(model.asked) == 2
    assert sorted(text.strip() for text in model.asked) == ["Cozy sent a mail.", TEXT.partition("\n")[2]]


def test_without_the_program_or_an_answer_the_message_names_the_remedy(
    model: Model, program: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        BadConfiguration, match=r"there is no program .*missing: install OntoGPT \(`make ontogpt`\)"
    ):
        LanguageModel(settings(tmp_path, model, tmp_path / "missing"), current(world()))
    asked = LanguageModel(settings(tmp_path, model, program), current(world()))
    model.status = 500
    with pytest.raises(RetryLater, match=r"ended with code 1: .*HTTP Error 500.*; check SX9_ONTOGPT_MODEL"):
        found(asked)


@pytest.mark.skipif(not ONTOGPT.is_file(), reason="OntoGPT is not installed: make ontogpt")
def test_the_real_ontogpt_asks_a_service_with_openais_protocol_once_and_reads_its_answer(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    asked = LanguageModel(settings(tmp_path, model, ONTOGPT), current(world()))
    assert found(asked) == FOUND
    assert asked.left_out == LEFT_OUT
    (question,) = model.asked
    assert TEXT in question
    assert "techniques: <A semicolon-separated list" in question
    assert found(asked) == FOUND
    assert len(model.asked) == 1
    model.status = 500
    with pytest.raises(RetryLater, match=r"answered 0 of 1 passages|ended with code 1"):
        found(asked, "Another text that it was not asked about.")
