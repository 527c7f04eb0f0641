"""The training calls: a folder in, a version out, the next one from there; one process or several."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from schemas.codec import encode
from schemas.errors import BadConfiguration
from schemas.events import Event, NodeRef, Relationship, Technique
from schemas.models import MODELS
from schemas.recipes.base import OF_THE_MACHINE
from schemas.recipes.distilbert import DistilbertConfig
from schemas.scores import of_split
from schemas.topics import topic_of
from sx9_ml_models.cli.app import app
from sx9_ml_models.content import command
from sx9_ml_models.training import TrainingConfig, TrainingResult, train_distilbert, train_gnn, train_phi_lora
from tests.trainers.samples import examples
from trainers.core.history import HISTORY_FILE, History
from trainers.core.progress import ProgressCallback, RunProgress
from trainers.runs import batch
from trainers.runs.checkpoints import FolderCheckpointer
from trainers.settings import variable_prefix
from trainers.store.manifest import MANIFEST, read, verify, write
from trainers.store.registry import Registry

QUICK: dict[str, Any] = {
    "base": "tiny", "epochs": 4, "batch_size": 8, "learning_rate": 1e-2, "head_learning_rate": 5e-3,
    "max_tokens": 32, "frozen_layers": 0, "threads": 1, "device": "cpu",
}  # fmt: skip
CALLS = {"distilbert-mitre": train_distilbert, "phi3-mitre-lora": train_phi_lora, "gnn-threat": train_gnn}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where converted base models are, for these tests."""
    return tmp_path_factory.mktemp("cache")


def set_policy(monkeypatch: pytest.MonkeyPatch, folder: Path, min_holdout: int, **recipes: dict[str, Any]) -> None:
    """Name a policy file whose gates need so many holdout examples, with some fields of recipes."""
    lines = [f"[{model}.gate]\nmin_examples = {min_holdout}\n" for model in MODELS]
    for model, fields in recipes.items():
        values = "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
        lines.append(f"[{model.replace('_', '-')}.recipe]\n{values}")
    (folder / "policy.toml").write_text("".join(lines))
    monkeypatch.setenv("SX9_POLICY_FILE", str(folder / "policy.toml"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    """A gate for small holdouts; and a folder to work in, for what is written to relative ones."""
    monkeypatch.setenv("SX9_CACHE_DIR", str(cache))
    set_policy(monkeypatch, tmp_path, 5)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def procedures(count: int, first: int = 0) -> list[Event]:
    """So many `uses` relationships with the texts and tactics that a tiny model can learn."""
    return [
        Relationship(
            id=f"relationship--{example.key}",
            feed="attack-enterprise",
            release="15.1",
            relation="uses",
            source=NodeRef(id="G1", kind="group", name="one"),
            target=NodeRef(id="T1", kind="technique", name="that", tactics=example.labels),
            text=example.text,
            domain="enterprise-attack",
        )
        for example in examples(count, first=first)
    ]


def techniques(count: int) -> list[Event]:
    """So many techniques, and a group that uses each."""
    made: list[Event] = []
    for number, example in enumerate(examples(count)):
        name = f"T{1000 + number}"
        made.append(
            Technique(
                id=name, feed="attack-enterprise", release="15.1", stix_id=f"attack-pattern--{number}",
                name=f"Technique {number}", text=example.text, tactics=example.labels, domain="enterprise-attack",
                detection="Monitor for that in the logs of the system.",
            )
        )  # fmt: skip
        made.append(
            Relationship(
                id=f"relationship--{number}", feed="attack-enterprise", release="15.1", relation="uses",
                source=NodeRef(id=f"G{number % 7}", kind="group", name=f"Group {number % 7}"),
                target=NodeRef(id=name, kind="technique", name=f"Technique {number}", tactics=example.labels),
                text=example.text, domain="enterprise-attack",
            )
        )  # fmt: skip
    return made


def content(folder: Path, events: list[Event]) -> Path:
    """A folder of threat content with more events in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for event in events:
        with (folder / f"{topic_of(event).name}.jsonl").open("ab") as file:
            file.write(encode(event) + b"\n")
    return folder


def history(result: TrainingResult) -> History:
    """What happened on the way."""
    return msgspec.json.decode((result.folder / HISTORY_FILE).read_bytes(), type=History)


def metrics(result: TrainingResult) -> dict[str, float]:
    """Every metric on the holdout."""
    scores = of_split(result.evaluation, "holdout")
    return {f"{task}/{name}": value for task, one in scores.items() for name, value in one.metrics.items()}


def losses(result: TrainingResult) -> list[float]:
    """Of every step."""
    return [point.loss for point in history(result).points]


def files(result: TrainingResult) -> dict[str, str]:
    """Name -> sha256 of what the version is, its card left out, which names the folder's version."""
    return verify(result.folder).files


def test_a_call_writes_a_version_that_serves(tmp_path: Path) -> None:
    result = train_distilbert(content(tmp_path / "content", procedures(240)), tmp_path / "mine", **QUICK)
    assert result
    assert (result.version, result.parent, result.promoted, result.refused) == ("v0001", "", True, "")
    assert result.folder == tmp_path / "mine" / "v0001"
    assert result.evaluation["tactics"]["holdout"].metrics["micro_f1"] > 0.5
    assert result.evaluation["tactics"]["holdout"].examples + result.examples == 240
    found = verify(result.folder)
    assert (found.model, found.trigger, found.reason) == ("distilbert-mitre", "batch:v0001", "manual")
    assert found.evaluation == result.evaluation
    assert (tmp_path / "mine" / "champion").readlink() == Path("v0001")
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mine", trust_remote_code=True)
    assert model.num_labels == 4


def test_the_next_call_trains_on_what_is_new_and_starts_from_the_champion(tmp_path: Path) -> None:
    folder = content(tmp_path / "content", procedures(200))
    first = train_distilbert(folder, tmp_path / "mine", max_examples=150, **QUICK)
    assert (first.examples, first.left_out > 0) == (150, True)
    content(folder, procedures(60, first=200))
    second = train_distilbert(folder, tmp_path / "mine", **QUICK)
    found = read(second.folder)
    assert (second.version, second.parent, len(found.rehearsal)) == ("v0002", "v0001", 150)
    fresh = second.examples - 150
    assert second.parent_evaluation["tactics"]["prequential"].examples == fresh >= first.left_out + 45
    assert second.evaluation["tactics"]["old"].examples == first.evaluation["tactics"]["holdout"].examples
    assert second.evaluation["tactics"]["recent"].examples == 60 - (fresh - first.left_out)
    assert second.promoted == (Registry(tmp_path, tmp_path / "mine").champion("distilbert-mitre") == "v0002")


def test_a_call_without_news_trains_on_what_there_is_once_more(tmp_path: Path) -> None:
    folder = content(tmp_path / "content", procedures(240))
    first = train_distilbert(folder, tmp_path / "mine", **QUICK)
    second = train_distilbert(folder, tmp_path / "mine", **QUICK)
    assert (second.version, second.parent, second.examples) == ("v0002", "v0001", first.examples)
    assert second.parent_evaluation["tactics"]["prequential"].examples == 0


def test_a_version_that_the_gate_refuses_is_written_and_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_policy(monkeypatch, tmp_path, 1000)
    folder = content(tmp_path / "content", procedures(60))
    results = [train_distilbert(folder, tmp_path / "mine", **QUICK) for _ in range(2)]
    assert [(bool(each), each.promoted, each.version, each.parent) for each in results] == [
        (True, False, "v0001", ""), (True, False, "v0002", ""),
    ]  # fmt: skip
    assert "holdout/examples" in results[0].refused
    assert f"v0001: written, but not promoted: {results[0].refused}" in caplog.text
    assert not (tmp_path / "mine" / "champion").exists()


def test_equal_calls_give_equal_bytes_and_another_seed_others(tmp_path: Path) -> None:
    folder = content(tmp_path / "content", procedures(80))
    one, two, other = (
        train_distilbert(folder, tmp_path / str(n), seed=seed, **QUICK) for n, seed in enumerate((3, 3, 4))
    )
    assert files(one) == files(two)
    assert files(one)["model.safetensors"] != files(other)["model.safetensors"]


def test_the_defaults_are_the_documented_ones() -> None:
    assert msgspec.structs.asdict(TrainingConfig()) == {
        "epochs": 5, "batch_size": 16, "learning_rate": 2e-5, "output_dir": "models", "device": None,
        "gradient_accumulation_steps": 1, "save_steps": 500, "eval_steps": 500, "logging_steps": 100,
    }  # fmt: skip


def test_each_field_of_the_configuration_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(FolderCheckpointer, "save", lambda *a: saved.append(a[-1].step))
    caplog.set_level(logging.INFO)
    config = TrainingConfig(
        epochs=3, batch_size=8, learning_rate=1e-3, output_dir=tmp_path / "all", device="cpu",
        gradient_accumulation_steps=2, save_steps=7, eval_steps=3, logging_steps=5,
    )  # fmt: skip
    small = {name: QUICK[name] for name in ("base", "max_tokens", "frozen_layers", "threads")}
    folder = content(tmp_path / "content", procedures(100))
    result = train_distilbert(folder, config=config, max_examples=80, **small)
    assert result.folder == tmp_path / "all" / "distilbert-mitre" / "v0001"
    steps = 3 * 5  # 80 examples are 10 batches, which are 5 steps an epoch
    assert len(losses(result)) == steps
    assert saved == [7, 14]
    logged = [r.getMessage() for r in caplog.records if r.name == "trainers.core.loop"]
    assert [line.split(",")[0] for line in logged] == ["step 5 of 15", "step 10 of 15", "step 15 of 15"]
    resolved = read(result.folder).config
    said = msgspec.structs.asdict(config)
    said.pop("output_dir")
    assert {name: resolved[name] for name in said} == said


def test_without_a_configuration_the_policy_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_policy(monkeypatch, tmp_path, 5, distilbert_mitre={"epochs": 1, "base": "tiny", "threads": 1})
    folder = content(tmp_path / "content", procedures(60))
    result = train_distilbert(folder, tmp_path / "mine", max_examples=20)
    resolved, tuned = read(result.folder).config, DistilbertConfig()
    assert (resolved["epochs"], result.examples) == (1, 20)
    assert (resolved["learning_rate"], resolved["batch_size"]) == (tuned.learning_rate, tuned.batch_size)
    over = train_distilbert(folder, tmp_path / "over", TrainingConfig(epochs=2))
    assert read(over.folder).config["epochs"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"config": TrainingConfig(epochs=0)}, r"TrainingConfig: epochs=0: Expected `int` >= 1 .*epochs"),
        ({"config": TrainingConfig(device="gpu")}, r"device=gpu: .*choose cpu, cuda"),
        (
            {"config": TrainingConfig(device="cuda:77")},
            r"device=cuda:77: torch sees \d GPUs; choose another device",
        ),
        ({"epoch": 3}, r"distilbert-mitre has no option 'epoch': correct it; the options are base, batch_size, "),
        ({"seed": "x"}, r"seed='x': Expected `int`"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        train_distilbert(content(tmp_path / "content", procedures(20)), tmp_path / "mine", **wrong)
    assert not (tmp_path / "mine").exists()


def test_a_folder_without_examples_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(
            BadConfiguration, match=rf"no examples for distilbert-mitre in {folder}: a folder needs events of "
        ):
            train_distilbert(folder, tmp_path / "mine", **QUICK)
    assert not (tmp_path / "mine").exists()


def test_versions_of_a_stream_are_left_alone(tmp_path: Path) -> None:
    folder = content(tmp_path / "content", procedures(60))
    first = train_distilbert(folder, tmp_path / "mine", **QUICK)
    (first.folder / batch.EXAMPLES_FILE).unlink()
    write(first.folder, msgspec.structs.replace(read(first.folder), trigger="distilbert-mitre/1"))
    with pytest.raises(BadConfiguration, match=r"v0001 is a version of distilbert-mitre that no batch call wrote"):
        train_distilbert(folder, tmp_path / "mine", **QUICK)


def test_a_call_that_was_killed_goes_on_when_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = content(tmp_path / "content", procedures(80))
    fields = QUICK | {"save_steps": 5}
    straight = train_distilbert(folder, tmp_path / "straight", **fields)

    @contextlib.contextmanager
    def killing(*_: object) -> Iterator[ProgressCallback]:
        def on_progress(step: RunProgress) -> None:
            if step.phase == "training" and step.step == 13:
                raise KeyboardInterrupt

        yield on_progress

    with monkeypatch.context() as patch:
        patch.setattr(batch, "show_progress", killing)
        with pytest.raises(KeyboardInterrupt):
            train_distilbert(folder, tmp_path / "mine", **fields)
    assert not (tmp_path / "mine" / "v0001").exists()
    resumed = train_distilbert(folder, tmp_path / "mine", **fields)
    assert "resuming at step 10 of 36" in caplog.text
    assert files(resumed) == files(straight)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_has_its_call(tmp_path: Path, model: str) -> None:
    folder = content(tmp_path / "content", techniques(60))
    base = "tiny-phi3" if model == "phi3-mitre-lora" else "tiny"
    config = TrainingConfig(epochs=1, batch_size=4, output_dir=tmp_path, device="cpu", eval_steps=5)
    for version in ("v0001", "v0002"):
        result = CALLS[model](folder, config=config, base=base, threads=1)
        assert (result.model, result.version) == (model, version)
        assert verify(tmp_path / model / version).config["epochs"] == 1
        assert history(result).scores.keys() >= {5}, "a score every eval_steps"


PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_page_has_the_defaults_of_the_configuration() -> None:
    cells = [
        [cell.strip("` ") for cell in row.split("|")[1:3]] for row in PAGE.splitlines() if row.startswith("| `")
    ]
    in_code = msgspec.structs.asdict(TrainingConfig())
    assert dict(cells) == {name: "none" if value is None else str(value) for name, value in in_code.items()}


def test_the_fields_of_the_result_are_on_the_page() -> None:
    (listed,) = re.findall(r"The fields are (.*?)\.\n", PAGE, re.DOTALL)
    assert tuple(re.findall(r"`(\w+)`", listed)) == TrainingResult.__struct_fields__


def test_the_code_of_the_page_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bases = {model.replace("-", "_"): {"base": "tiny"} for model in MODELS} | {
        "phi3_mitre_lora": {"base": "tiny-phi3"}
    }
    set_policy(monkeypatch, tmp_path, 50, **bases)
    for recipe in ("DISTILBERT", "PHI3_LORA", "GNN"):
        monkeypatch.setenv(f"SX9_TRAINER_{recipe}_DEVICE", "cpu")
    content(Path("output/threat_content"), techniques(30))
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    assert "v0001 is not promoted: holdout/examples" in capsys.readouterr().out
    exec(second, names)
    assert read(Path("models/phi3-mitre-lora/v0001")).config["batch_size"] == 32
    assert read(Path("models/gnn-threat/v0001")).config["seed"] == 5


def test_the_owners_command_trains_the_three_models_on_what_was_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = {model.replace("-", "_"): {"base": "tiny", "epochs": 1, "threads": 1} for model in MODELS}
    set_policy(
        monkeypatch, tmp_path, 50, **small | {"phi3_mitre_lora": {"base": "tiny-phi3", "epochs": 1, "threads": 1}}
    )
    monkeypatch.setenv("SX9_STATE_DIR", str(tmp_path / "state"))
    for recipe in ("DISTILBERT", "PHI3_LORA", "GNN"):
        monkeypatch.setenv(f"SX9_TRAINER_{recipe}_DEVICE", "cpu")
    content(Path("output/threat_content"), techniques(30))
    assert command.main(["--train-only"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(" training")]
    assert [line[:3] for line in lines] == [["training", model, "done"] for model in MODELS]
    assert [verify(Path("output/models") / model / "v0001").model for model in MODELS] == list(MODELS)


ONE_OF_TWO: dict[str, dict[str, Any]] = {
    "distilbert-mitre": QUICK | {"save_steps": 40},
    "phi3-mitre-lora": {
        "base": "tiny-phi3", "epochs": 1, "max_tokens": 96, "precision": "float32", "sample_answers": 2,
        "answer_tokens": 4,
    },
    "gnn-threat": {
        "base": "tiny", "epochs": 3, "batch_size": 5, "dropout": 0.0, "shown_from": 0.0, "shown_to": 0.0,
        "threshold": 0.1,
    },
}  # fmt: skip
"""What each model is trained with. Dropout, and what the graph model is shown, are drawn in each process by itself:
there is none of it here. bfloat16 rounds what is beside an example in a packed row."""
NEAR = {"distilbert-mitre": 1e-4, "phi3-mitre-lora": 1e-4, "gnn-threat": 0.05}
"""How near the losses are. The graph model leaves out the edges of all sources that are computed together."""


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_compute_what_one_does_and_write_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    folder = content(tmp_path / "content", procedures(240) if model == "distilbert-mitre" else techniques(60))
    fields = ONE_OF_TWO[model] | {"threads": 1, "device": "cpu"}
    alone = CALLS[model](folder, output_dir=tmp_path / "alone", **fields)
    of_machine = {name: value for name, value in fields.items() if name in OF_THE_MACHINE}
    for name, value in of_machine.items():
        monkeypatch.setenv(f"{variable_prefix(model)}{name}".upper(), str(value))
    decisive = {name: value for name, value in fields.items() if name not in of_machine}
    set_policy(monkeypatch, tmp_path, 5, **{model.replace("-", "_"): decisive})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), "-m"]
    call = ["sx9_ml_models.training", model, "--content", str(folder), "--output", "both", "--json"]
    done = subprocess.run(
        [sys.executable, *launcher, *call],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    said = json.loads(done.stdout)
    assert (said["version"], said["folder"]) == ("v0001", str(tmp_path / "both" / "v0001"))
    both = msgspec.convert(said | {"folder": Path(said["folder"])}, TrainingResult)
    assert losses(both) == pytest.approx(losses(alone), abs=NEAR[model])
    assert metrics(both) == pytest.approx(metrics(alone), abs=0.02)
    assert sorted(p.name for p in (tmp_path / "both").iterdir() if p.is_dir() and not p.is_symlink()) == ["v0001"]
    assert verify(both.folder).files.keys() == verify(alone.folder).files.keys()
    assert read(tmp_path / "both").version == "v0001", "the folder itself is the champion"
    assert (tmp_path / "both" / MANIFEST).is_symlink()


def test_the_command_trains_and_prints_what_came_of_it(tmp_path: Path) -> None:
    folder = content(tmp_path / "content", procedures(60))
    options = ["--content", str(folder), "--output", "mine", "--base", "tiny", "--epochs", "1", "--seed", "5"]
    done = CliRunner().invoke(app, ["train", "distilbert-mitre", *options, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["version"], said["folder"]) == ("v0001", str(tmp_path / "mine" / "v0001"))
    assert read(tmp_path / "mine" / "v0001").config["seed"] == 5


def test_the_command_has_help_with_an_example_and_names_wrong_use(tmp_path: Path) -> None:
    helped = CliRunner().invoke(app, ["train", "--help"])
    assert "Example: sx9 train gnn-threat" in helped.output
    wrong = CliRunner().invoke(app, ["train", "distilbert-mitre", "--export", "x.json"])
    assert isinstance(wrong.exception, BadConfiguration)
    assert "--export is for gnn-threat, not distilbert-mitre" in str(wrong.exception)
