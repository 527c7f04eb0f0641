"""What a language model finds in reports, asked through the command `ontogpt`, which is in a venv of its own.

    text ──passages──> ontogpt extract ──LLM──> items with words of the text ──are they there?──> statements

Nothing is taken over that the text does not say: an item names the words it rests on, and one whose words are not
in the text, or that no feed describes, is left out and counted.
"""

from __future__ import annotations

import bisect
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import BadConfiguration, RetryLater
from schemas.ids import ANY_TECHNIQUE
from serving.reports.read import ReportText
from serving.reports.sentences import sentences
from streams.content.current import Current
from streams.content.ontology.model import SourceSpan
from streams.content.ontology.reports import Statement
from streams.settings import PREFIX, Settings
from transport.secrets import without_secrets

log = logging.getLogger(__name__)

PASSAGE_CHARS = 4_000
"""Longest text that the model is asked about at once, unless one sentence alone is longer."""
PASSAGE_TIMEOUT_S = 120.0
"""Longest wait for the answers about a report, for each of its passages, seconds."""
START_TIMEOUT_S = 600.0
"""And for the start of the command, which imports for half a minute on two free cores."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024

NAMED_KINDS = {"actors": ("group",), "software": ("malware", "tool"), "campaigns": ("campaign",)}
"""Slot of the template -> the kinds of entities that its names may be of."""
TEMPLATE = {
    "id": "https://w3id.org/sx9/report",
    "name": "sx9_report",
    "prefixes": {"linkml": "https://w3id.org/linkml/", "sx9": "https://w3id.org/sx9/report/"},
    "default_prefix": "sx9",
    "default_range": "string",
    "imports": ["linkml:types"],
    "classes": {
        "Report": {
            "tree_root": True,
            "attributes": {
                name: {"description": f"A semicolon-separated list of {asked}", "multivalued": True}
                for name, asked in (
                    (
                        "techniques",
                        "the techniques of MITRE ATT&CK that adversaries use in the text: the id, an equals sign, "
                        "and the words of the text that tell of it, copied as they are, such as "
                        "T1566.001 = a mail with a document",
                    ),
                    ("actors", "the groups of adversaries that the text names, each name as it is in the text"),
                    ("software", "the malware and tools that the text names, each name as it is in the text"),
                    ("campaigns", "the campaigns that the text names, each name as it is in the text"),
                )
            },
        }
    },
}
"""The LinkML schema from which OntoGPT makes its question."""

_ITEM = re.compile(rf"\s*({ANY_TECHNIQUE})\b[^=]*=(.*)", re.DOTALL)
_WORD = re.compile(r"\w+")
_VERSION = re.compile(r"version (\S+)")
_INSTALL = (
    "install OntoGPT (`make ontogpt`) and name its program with SX9_ONTOGPT_COMMAND, or unset SX9_ONTOGPT_MODEL to "
    "go without a language model"
)


class LanguageModel:
    """A language model that is asked through OntoGPT.

    Args:
        settings: Name the command, the model and where it answers, and the cache folder.
        content: Says which techniques, groups, software and campaigns there are.

    Raises:
        BadConfiguration: There is no such command, or it does not start.
    """

    def __init__(self, settings: Settings, content: Current) -> None:
        self._settings = settings
        self._content = content
        self._names = {slot: _names(content, kinds) for slot, kinds in NAMED_KINDS.items()}
        self._command = _program(settings.ontogpt_command)
        version = _VERSION.search(self._run(["--version"], START_TIMEOUT_S, Path.cwd()))
        self.name = f"OntoGPT {version[1] if version else '?'}, {settings.ontogpt_model}"
        self.left_out = Counter[str]()

    def statements(self, report: ReportText) -> list[Statement]:
        """What the model finds in a text. The same text is asked about once: OntoGPT keeps the answers.

        Args:
            report: The text.

        Returns:
            In order of their places.

        Raises:
            RetryLater: The model did not answer.
        """
        passages, words = list(_passages(report.text)), _Words(report.text)
        found: dict[Statement, None] = {}
        log.info("%s: %s is asked about %d passages", report.id, self.name, len(passages))
        for answer in self._answers(report.id, passages):
            for slot, item in _items(answer):
                target, said = self._target(slot, item)
                place = words.find(said)
                if not target or place is None:
                    reason = "not known" if place else "not in the text"
                    self.left_out[reason] += 1
                    log.info("%s: %s %r is left out: it is %s", report.id, slot, item[:200], reason)
                    continue
                text = report.text[slice(*place)]
                confidence = 1.0 if target in text else self._settings.ontogpt_confidence
                found[Statement(target, SourceSpan(*place, text, confidence, self.name))] = None
        return sorted(found, key=lambda each: (each.span.start, each.span.end, each.target))

    def _target(self, slot: str, item: str) -> tuple[str, str]:
        """The key of the term that an item is about, empty if it is not known, and the words that it rests on."""
        if slot != "techniques":
            return self._names[slot].get(item.strip().lower(), ""), item
        found = _ITEM.fullmatch(item)
        if not found:
            return "", item
        id_ = self._content.valid_id(found[1])
        return id_ if id_ in self._content.techniques else "", found[2]

    def _answers(self, report: str, passages: list[str]) -> Iterator[Mapping[str, Any]]:
        """OntoGPT's answers about some passages of a report, in any order."""
        settings = self._settings
        with tempfile.TemporaryDirectory(prefix="sx9-ontogpt-") as name:
            folder, asked = Path(name), Path(name) / "passages"
            answered = settings.cache_dir.absolute() / "ontogpt"  # it keeps answers in the folder that it runs in
            asked.mkdir()
            for number, passage in enumerate(passages):
                (asked / f"{number:06}.txt").write_text(passage, encoding="utf-8", errors="replace")
            template, output = folder / "sx9_report.yaml", folder / "answers.yaml"
            template.write_text(yaml.safe_dump(TEMPLATE, sort_keys=False), encoding="utf-8")
            command = ["extract", "-i", str(asked)]
            command += ["-t", str(template), "-m", settings.ontogpt_model, "-O", "yaml", "-o", str(output)]
            if settings.ontogpt_api_base:
                command += ["--api-base", settings.ontogpt_api_base]
            answered.mkdir(parents=True, exist_ok=True)
            said = self._run(command, START_TIMEOUT_S + PASSAGE_TIMEOUT_S * len(passages), answered)
            answers = list(_documents(output))
        if len(answers) < len(passages):
            raise RetryLater(
                f"{report}: {self.name} answered {len(answers)} of {len(passages)} passages: {_tail(said)}; "
                "check the model, its key and SX9_ONTOGPT_API_BASE and try again: what was answered is not asked "
                "again. Or unset SX9_ONTOGPT_MODEL"
            )
        yield from answers

    def _run(self, arguments: list[str], timeout_s: float, folder: Path) -> str:
        """Run the command; what it wrote."""
        # Neither our own settings, with their secrets, nor a list of prices from the network are for it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}
        try:
            done = subprocess.run(
                [self._command, *arguments], cwd=folder, env=environment, timeout=timeout_s, check=False, text=True,
                encoding="utf-8", errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            raise BadConfiguration(f"{self._command} can't be run ({error.strerror}): {_INSTALL}") from error
        except subprocess.TimeoutExpired as error:
            raise RetryLater(
                f"{self._command} did not end within {timeout_s:.0f} s: check that the model answers, and try "
                "again; what was answered is not asked again"
            ) from error
        if done.returncode:
            raise RetryLater(
                f"{self._command} ended with code {done.returncode}: {_tail(done.stdout)}; check SX9_ONTOGPT_MODEL "
                f"({self._settings.ontogpt_model}), SX9_ONTOGPT_API_BASE and the key of the model, and try again"
            )
        return done.stdout


def _program(command: str) -> str:
    """The path of a program; the command runs in a folder of its own, so it must not be relative."""
    found = shutil.which(command)
    if found is None:
        raise BadConfiguration(
            f"SX9_ONTOGPT_MODEL names a language model, but there is no program {command}: {_INSTALL}"
        )
    return str(Path(found).absolute())


def _names(content: Current, kinds: tuple[str, ...]) -> dict[str, str]:
    """Name or alias, in lower case -> id of the entity; one that two entities have is left out."""
    found: dict[str, set[str]] = {}
    for entity in content.entities.values():
        if entity.kind in kinds:
            for name in (entity.name, *entity.aliases):
                found.setdefault(name.strip().lower(), set()).add(entity.id)
    return {name: next(iter(ids)) for name, ids in found.items() if len(ids) == 1}


def _passages(text: str) -> Iterator[str]:
    """The text in parts of whole sentences."""
    start = end = 0
    for sentence in sentences(text):
        if sentence.end - start > PASSAGE_CHARS and end > start:
            yield text[start:end]
            start = end
        end = sentence.end
    if text[start:].strip():
        yield text[start:]


def _documents(output: Path) -> Iterator[Mapping[str, Any]]:
    """The answers in a file of OntoGPT's; one without the words of the model is none."""
    if not output.is_file():
        return
    if output.stat().st_size > MAX_ANSWER_BYTES:
        raise RetryLater(
            f"OntoGPT wrote {output.stat().st_size} bytes, the limit is {MAX_ANSWER_BYTES}: split the report"
        )
    try:
        documents = list(yaml.load_all(output.read_bytes(), Loader=yaml.CBaseLoader))  # all scalars are texts
    except yaml.YAMLError as error:
        raise RetryLater(f"OntoGPT wrote no YAML ({error!s:.200}): report the version of OntoGPT") from error
    for document in documents:
        if isinstance(document, dict) and document.get("raw_completion_output"):
            yield document


def _items(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(slot, item) of an answer."""
    extracted = answer.get("extracted_object")
    for slot in ("techniques", *NAMED_KINDS):
        items = extracted.get(slot) if isinstance(extracted, dict) else None
        yield from ((slot, item) for item in items or () if isinstance(item, str) and item.strip())


def _tail(text: str) -> str:
    return without_secrets(" ".join(text.split())[-500:]) or "no message"


class _Words:
    """Finds words in a text, whatever their case and what is between them."""

    def __init__(self, text: str) -> None:
        found = list(_WORD.finditer(text))
        self._spans = [each.span() for each in found]
        self._starts: list[int] = []
        length = 1
        lowered = [each[0].lower() for each in found]
        for word in lowered:
            self._starts.append(length)
            length += len(word) + 1
        self._joined = f" {' '.join(lowered)} "

    def find(self, said: str) -> tuple[int, int] | None:
        """The first place where a text has the words; None if it does not."""
        words = [each.lower() for each in _WORD.findall(said)]
        at = self._joined.find(f" {' '.join(words)} ") if words else -1
        if at < 0:
            return None
        first = bisect.bisect_left(self._starts, at + 1)
        return self._spans[first][0], self._spans[first + len(words) - 1][1]
