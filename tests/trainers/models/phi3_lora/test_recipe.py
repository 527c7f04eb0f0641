"""The LoRA recipe: what a version contains, how well it answers, and that a second run gives the same bytes."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.context import Context, Line, answer, as_text, says_no_answer
from schemas.errors import BadConfiguration
from schemas.journal import Example, Instruction, held_out
from tests.trainers.models.phi3_lora.material import (
    ADAPTER,
    TACTICS,
    TINY,
    data,
    example_of,
    hashes,
    trained,
)
from trainers.bases.resolve import Base
from trainers.core.dataset import Dataset
from trainers.core.progress import RunProgress
from trainers.core.report import Report
from trainers.models.phi3_lora.chat import question_text
from trainers.models.phi3_lora.packing import PackedRow
from trainers.models.phi3_lora.recipe import run
from trainers.models.phi3_lora.scorer import LanguageModelScorer
from trainers.reporting.markdown import markdown_text
from trainers.runs.checkpoints import FolderCheckpointer
from transport.files import sha256_of


def test_a_version_beats_its_base_on_techniques_it_was_not_trained_on(first: tuple[Path, Report]) -> None:
    _, report = first
    ours, base = report.candidate["answers"]["holdout"], report.trivial_baseline["answers"]["holdout"]
    assert ours.extra["perplexity"] < 0.6 * base.extra["perplexity"]
    assert ours.metrics["bits_saved"] > base.metrics["bits_saved"] + 0.05
    assert ours.metrics["token_accuracy"] > base.metrics["token_accuracy"]
    assert {name: scores.examples for name, scores in report.candidate["answers"].items()} == {
        "old": 6, "recent": 6, "holdout": 12,
    }  # fmt: skip
    assert {"tactic_named", "mitigation_named"} < set(ours.extra)
    assert {"tactic_named", "mitigation_named"} < set(report.baselines["untuned base"]["answers"]["holdout"].extra)
    assert report.history.scores[report.history.step] == {"answers": ours.metrics}


def test_a_version_loads_with_stock_peft_and_has_the_reported_perplexity(
    first: tuple[Path, Report], tiny_phi3: Base
) -> None:
    folder, report = first
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_phi3.folder), str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_phi3.folder).chat_template
    loss = tokens = 0.0
    for number in range(90, 102):
        (instruction,) = example_of(number).instructions
        messages = [{"role": "user", "content": question_text(instruction)}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        answer = tokenizer(instruction.output + "<|end|>").input_ids[: TINY.max_tokens]
        ids = tokenizer(prompt).input_ids
        labels = torch.tensor([[-100] * len(ids) + answer])
        loss += float(model(input_ids=torch.tensor([ids + answer]), labels=labels).loss.detach()) * len(answer)
        tokens += len(answer)
    assert math.isclose(
        math.exp(loss / tokens), report.candidate["answers"]["holdout"].extra["perplexity"], rel_tol=1e-4
    )


def test_a_folder_refers_to_its_base_without_a_path_and_contains_only_the_adapter(
    first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path
) -> None:
    folder, _ = first
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny-phi3"
    assert settings["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    assert {path.name for path in folder.iterdir()} == {
        ADAPTER, "adapter_config.json", "generation_config.json", "samples.md",
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert {name.rsplit(".", 2)[1] for name in load_file(folder / ADAPTER)} == {"lora_A", "lora_B"}
    elsewhere = replace(TINY, base=str(tiny_phi3.folder), epochs=1)
    trained(data(range(3)), tiny_phi3, tmp_path / "of-a-folder", config=elsewhere)
    settings = json.loads((tmp_path / "of-a-folder" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == tiny_phi3.folder.name


def test_the_same_run_writes_the_same_bytes(first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path) -> None:
    folder, report = first
    again = trained(data(range(48)), tiny_phi3, tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(folder)
    assert again == report


def test_another_seed_gives_other_weights(first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path) -> None:
    folder, _ = first
    trained(data(range(48)), tiny_phi3, tmp_path / "other", config=replace(TINY, seed=4))
    assert hashes(tmp_path / "other")[ADAPTER] != hashes(folder)[ADAPTER]


def test_a_child_continues_to_train_its_parents_adapter(
    first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path
) -> None:
    parent, before = first
    unchanged = hashes(parent)
    report = trained(data(range(48, 72), rehearsal=range(12)), tiny_phi3, tmp_path / "second", parent)
    assert hashes(parent) == unchanged, "the parent does not change"
    assert sha256_of(tiny_phi3.folder / "model.safetensors") == tiny_phi3.sha256, "nor does the base"
    old, new = load_file(parent / ADAPTER), load_file(tmp_path / "second" / ADAPTER)
    assert old.keys() == new.keys()
    assert all(not torch.equal(old[name], new[name]) for name in old), "every matrix is trained"
    served = before.candidate["answers"]["holdout"]
    scored_again = replace(served, extra={"perplexity": served.extra["perplexity"]})
    assert report.champion["answers"]["holdout"] == scored_again
    assert report.details["rehearsed"] == list(range(12)), "at most half as many as new examples"
    assert report.champion["answers"]["prequential"].examples == 3, "a quarter of the evaluation examples"
    nearest = 2 * sum(float((new[n] - old[n]).abs().sum()) for n in old)
    assert nearest < sum(float(value.abs().sum()) for value in new.values()), "it starts from the parent's weights"


def test_a_parent_of_another_base_is_refused(first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path) -> None:
    config = replace(TINY, base="microsoft/Phi-3-mini-4k-instruct")
    with pytest.raises(
        BadConfiguration,
        match=r"is an adapter of base model tiny-phi3, not of microsoft/Phi-3-mini-4k-instruct: set",
    ):
        trained(data(range(3)), tiny_phi3, tmp_path / "x", first[0], config)


def test_gradient_checkpointing_does_not_change_the_weights(
    first: tuple[Path, Report], tiny_phi3: Base, tmp_path: Path
) -> None:
    with_dropout = replace(TINY, dropout=0.2, epochs=1)
    for name, checkpointed in (("plain", False), ("checkpointed", True)):
        config = replace(with_dropout, gradient_checkpointing=checkpointed)
        trained(data(range(24)), tiny_phi3, tmp_path / name, config=config)
    plain, checkpointed = (load_file(tmp_path / name / ADAPTER) for name in ("plain", "checkpointed"))
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-5) for name in plain)


class Killed(BaseException):
    """The process is gone."""


def test_a_killed_run_with_dropout_resumes_to_the_same_weights(tiny_phi3: Base, tmp_path: Path) -> None:
    config = replace(TINY, dropout=0.3, epochs=2, save_steps=2)

    def killer(step: RunProgress) -> None:
        if step.phase == "training" and step.step == 5:
            raise Killed

    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    report = trained(data(range(24)), tiny_phi3, straight, config=config)
    parts = (data(range(24)), TACTICS, tiny_phi3.folder, None, config, resumed)
    resumed.mkdir()
    with pytest.raises(Killed):
        run(*parts, killer, checkpointer=FolderCheckpointer(tmp_path / "checkpoints", "it"))
    seen: list[int] = []
    again = run(
        *parts,
        lambda step: seen.append(step.step) if step.phase == "training" else None,
        checkpointer=FolderCheckpointer(tmp_path / "checkpoints", "it"),
    )
    assert seen[0] == 5, "it resumes from the checkpoint after step 4"
    assert again.history.points == report.history.points
    assert hashes(resumed) == hashes(straight)


def test_out_of_memory_makes_rows_smaller_and_is_logged(
    tiny_phi3: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = LanguageModelScorer.forward

    def small(self: LanguageModelScorer, row: PackedRow) -> torch.Tensor:
        if len(row.answer_lengths) > 2:
            raise torch.OutOfMemoryError
        return real(self, row)

    monkeypatch.setattr(LanguageModelScorer, "forward", small)
    with caplog.at_level(logging.WARNING):
        report = trained(data(range(12)), tiny_phi3, tmp_path / "small", config=replace(TINY, epochs=1))
    assert report.history.micro_batch_size == 2
    assert "out of memory: continuing with micro-batches of 2 examples" in caplog.text


@pytest.mark.parametrize("number", [0, 1])
def test_a_window_with_no_or_one_example_gives_a_version(tiny_phi3: Base, tmp_path: Path, number: int) -> None:
    report = trained(data(range(number), range(0)), tiny_phi3, tmp_path / "small")
    assert report.candidate["answers"]["holdout"].examples == 0
    assert (tmp_path / "small" / ADAPTER).is_file()
    assert report.history.step == number * TINY.epochs


def test_other_languages_are_learned(tiny_phi3: Base, tmp_path: Path) -> None:
    german = Instruction(
        instruction="Was ist Phishing? 什么是网络钓鱼？", output="Es dient der Taktik „initial access“ 🎣"
    )
    some = Dataset(fresh=((0, replace(example_of(0), instructions=(german,))),))
    report = trained(some, tiny_phi3, tmp_path / "x", config=replace(TINY, epochs=20))
    assert report.history.points[-1].loss < 0.7 * report.history.points[0].loss


def test_the_samples_show_the_answers_of_base_version_and_attack(first: tuple[Path, Report]) -> None:
    folder, report = first
    samples = report.details["samples"]
    assert len(samples) == 4, "as many as configured"
    page = (folder / "samples.md").read_text()
    for sample in samples:
        assert sample.keys() == {"question", "attack", "before", "after"}
        assert markdown_text(" ".join(sample["question"].split())) in page
        assert markdown_text(sample["attack"]) in page
    questions = [sample["question"].split("?")[0] for sample in samples]
    assert any(question.startswith("How is") for question in questions)
    assert any(question.startswith("What is") for question in questions)
    assert json.loads(json.dumps(report.details)) == report.details


def test_a_version_is_trained_with_contexts_and_says_how_well_its_answers_hold_to_them(
    tiny_phi3: Base, tmp_path: Path
) -> None:
    def of(number: int) -> Example:
        line = Line(role="mitigation", name="Audit", id="M1047", text="Look at it.")
        known = Context(name=f"Trick {number}", id=f"T{1000 + number}", tactics=("impact",), lines=(line,))
        asked = Instruction(instruction="Mitigate it.", input=as_text([known]), output=answer(known, "mitigate"))
        return replace(example_of(number), group=f"technique:{known.id}", instructions=(asked,), labels=("impact",))

    journal = [(number, of(number)) for number in range(60)]
    holdout = tuple(at for at in journal if held_out(at[1]))
    data = Dataset(fresh=tuple(at for at in journal if not held_out(at[1]))[:12], recent=holdout, context=journal)
    config = replace(TINY, epochs=1, sample_answers=12, eval_examples=4, context_chars=200)
    report = trained(data, tiny_phi3, tmp_path / "version", config=config)
    found = report.candidate["answers"]["holdout"].extra
    assert found.keys() >= {"tactic_named", "mitigation_named", "grounded", "no_answer_recall", "false_no_answer"}
    asked = [sample["question"] for sample in report.details["samples"]]
    assert any("Mitigation: Audit (M1047): Look at it." in question for question in asked)
    right = [sample["attack"] for sample in report.details["samples"]]
    assert any(map(says_no_answer, right)), "some contexts do not have the answer"
