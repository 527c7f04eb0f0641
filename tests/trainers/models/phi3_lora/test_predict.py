"""Answers of a loaded version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration
from schemas.journal import Instruction
from tests.trainers.models.phi3_lora.material import ADAPTER, TINY, hashes
from trainers.bases.resolve import Base
from trainers.core.report import Report
from trainers.models.phi3_lora.adapter import default_precision
from trainers.models.phi3_lora.predict import load


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision of the version under test, whatever the processor can do."""
    monkeypatch.setattr("trainers.models.phi3_lora.predict.default_precision", lambda device: "float32")


def questions(report: Report) -> list[Instruction]:
    return [Instruction(instruction=sample["question"], output="") for sample in report.details["samples"]]


@pytest.mark.usefixtures("float32")
def test_a_loaded_version_gives_the_answers_of_the_report(
    first: tuple[Path, Report], tiny_phi3: Base, models_cache: Path
) -> None:
    folder, report = first
    before = hashes(folder)
    expected = [sample["after"] for sample in report.details["samples"]]
    by_name = load(folder, max_new_tokens=TINY.answer_tokens, cache_dir=models_cache, device="cpu")
    assert by_name.predict(questions(report)) == expected
    by_folder = load(str(folder), tiny_phi3.folder, max_new_tokens=TINY.answer_tokens, device="cpu")
    assert by_folder.predict(questions(report)) == expected
    assert by_folder.predict([]) == []
    assert hashes(folder) == before, "loading does not change the folder"


@pytest.mark.usefixtures("float32")
def test_the_limit_of_an_answer_is_that_of_the_training(
    first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path
) -> None:
    folder, report = first
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["max_new_tokens"] == TINY.max_tokens
    assert settings["max_question_tokens"] == TINY.max_tokens + TINY.context_chars // 2
    shorter = tmp_path / "shorter"
    shutil.copytree(folder, shorter)
    (shorter / "generation_config.json").write_text(json.dumps(settings | {"max_new_tokens": 8}))
    answers = [load(path, tiny_phi3.folder, device="cpu").predict(questions(report)) for path in (folder, shorter)]
    assert all(long.startswith(short.rstrip("\ufffd")) for long, short in zip(*answers, strict=True))
    assert sum(map(len, answers[0])) > sum(map(len, answers[1]))


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"has no adapter_config\.json: give the folder of a version"):
        load(tmp_path)


def test_pickled_weights_are_refused(first: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(first[0], tmp_path / "x")
    (tmp_path / "x" / ADAPTER).rename(tmp_path / "x" / "adapter_model.bin")
    with pytest.raises(BadConfiguration, match=r"has no adapter_model\.safetensors"):
        load(tmp_path / "x")


def test_a_base_that_is_not_found_has_to_be_passed(
    first: tuple[Path, Report], models_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(first[0], tmp_path / "x")
    path = tmp_path / "x" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "phi-of-elsewhere"}))
    with pytest.raises(
        BadConfiguration, match=r"adapter of base model phi-of-elsewhere: pass its folder as `base`"
    ):
        load(tmp_path / "x", cache_dir=models_cache)


def test_the_precision_is_one_that_the_hardware_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert default_precision(torch.device("cpu")) == "float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert default_precision(torch.device("cuda")) == "float32", "a GPU before Ampere"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert default_precision(torch.device("cuda")) == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert default_precision(torch.device("cpu")) == "bfloat16"
