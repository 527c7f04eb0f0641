"""A version in memory: from its folder alone, without the code that trains, and whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import BadConfiguration, Corrupt
from schemas.models import MODELS
from serving.predictors import load
from tests.serving.versions import make
from tests.trainers.samples import examples
from trainers.store.registry import Registry

QUERIES = {
    "distilbert-mitre": 'texts = ["the attacker steals passwords", "", "scan " * 900]',
    "phi3-mitre-lora": """from schemas.journal import Instruction
texts = [Instruction(instruction="Explain it.", input=each, output="") for each in ("T1", "x" * 999, "")]""",
    "gnn-threat": """from trainers.models.gnn.predict import UnseenSource
texts = [UnseenSource(kind="group", shown=shown) for shown in (("T1000", "T1004"), (), ("nothing",))]""",
}
CHILD = """
import json, sys
from pathlib import Path
from serving.predictors import load
loaded = load(sys.argv[1])
{query}
answers = loaded.predict(texts)
for file in Path(sys.argv[1]).iterdir():
    with file.open("r+b") as opened:
        opened.truncate(0)  # would end a process that has pages of the file mapped
assert loaded.predict(texts) == answers
print(json.dumps([loaded.model, loaded.version, len(answers), list(loaded.predict([])), sorted(sys.modules)]))
"""
LOADS_AT_ONCE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from torch.nn import init
from transformers import PreTrainedModel
from serving.predictors import load
load(sys.argv[1])
before = PreTrainedModel.tie_weights, dict(vars(init))
with ThreadPoolExecutor(8) as pool:
    list(pool.map(load, [sys.argv[1]] * 40))
assert (PreTrainedModel.tie_weights, dict(vars(init))) == before
"""
TRAINING = (
    "recipe", "objective", "training", "evaluation", "sampling", "answer_loss", "scorer", "baselines", "tfidf",
    "loop", "gate", "runs", "reporting.card", "trainers.settings", "streams", "faust", "kafka",
)  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_a_folder_answers_a_batch_without_settings_or_training_code_also_when_its_files_are_cut_off_later(
    trained: Registry, tmp_path: Path, model: str
) -> None:
    folder = tmp_path / "somewhere else"
    shutil.copytree(trained.folder(model, "v0001"), folder)
    # A stand-in for a base model is made in the cache of the user; nothing else of the environment is there.
    env = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path), "SX9_OUTPUT_DIR": "/nowhere"}
    command = [sys.executable, "-c", CHILD.format(query=QUERIES[model]), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, version, answers, none, modules = json.loads(done.stdout.splitlines()[-1])
    assert (name, version, answers, none) == (model, "v0001", 3, [])
    ours = [each for each in modules if each.partition(".")[0] in ("trainers", "streams", "faust", "kafka")]
    assert [each for each in ours if any(f".{word}." in f".{each}." for word in TRAINING)] == []


def test_a_damaged_or_missing_file_is_named(serving_cache: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    copied = make(registry, serving_cache, "v0002")
    registry.promote("distilbert-mitre", "v0002")
    assert load(registry.home("distilbert-mitre")).folder == copied, "the folder of a model loads as its champion"
    weights = copied / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Corrupt, match=r"model\.safetensors has sha256"):
        load(copied)
    weights.write_bytes(whole[:1000])
    with pytest.raises(Corrupt, match="v0002 can't be loaded"):
        load(copied, verify=False)
    (copied / "manifest.json").unlink()
    with pytest.raises(Corrupt, match=r"manifest\.json is missing"):
        load(copied)


def test_a_version_in_int8_says_the_same_of_nearly_all_texts_and_is_not_float32(trained: Registry) -> None:
    folder = trained.folder("distilbert-mitre", "v0001")
    exact, ours = load(folder), load(folder, precision="int8")
    assert (exact.precision, ours.precision) == ("float32", "int8")
    texts = [each.text for each in examples(400)]
    pairs = list(zip(exact.predict(texts), ours.predict(texts), strict=True))
    same = [a.predicted_tactics == b.predicted_tactics and a.severity == b.severity for a, b in pairs]
    assert sum(same) >= 0.97 * len(texts)
    differences = [abs(a.tactics[label] - b.tactics[label]) for a, b in pairs for label in a.tactics]
    assert 0.0 < max(differences) < 0.1
    alone = [ours.predict([text])[0].tactics for text in texts[:20]]
    assert all(one == pytest.approx(b.tactics, abs=0.02) for one, (_, b) in zip(alone, pairs, strict=False))


def test_only_the_classifier_has_a_precision_and_an_unknown_one_is_refused(trained: Registry) -> None:
    with pytest.raises(BadConfiguration, match=r"precision='int4': it is one of float32, int8"):
        load(trained.folder("distilbert-mitre", "v0001"), precision="int4")  # type: ignore[arg-type]
    assert load(trained.folder("gnn-threat", "v0001"), precision="int8").precision is None


def test_versions_that_are_loaded_by_many_threads_at_once_leave_the_library_as_it_was(trained: Registry) -> None:
    folder = trained.folder("distilbert-mitre", "v0001")
    command = [sys.executable, "-c", LOADS_AT_ONCE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
