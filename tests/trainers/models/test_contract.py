"""What all recipes have in common: same bytes, resumed runs, unchanged parents, unusual windows and texts."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from schemas.errors import BadConfiguration
from schemas.journal import Example, held_out
from schemas.models import MODELS
from schemas.recipes.base import RecipeConfig
from schemas.scores import TaskScores
from schemas.versions import Manifest
from tests.trainers.journals import CONFIGS, JOURNALS, labels_of, later, reworded
from tests.trainers.samples import Killed
from trainers.bases.resolve import Base, resolve
from trainers.core.dataset import Dataset, split
from trainers.core.gate import GateLimits
from trainers.core.holdout import Holdout
from trainers.core.phases import Phase
from trainers.core.progress import Cancelled, ProgressCallback, RunProgress, no_progress
from trainers.core.report import Report
from trainers.models.phi3_lora.predict import load as load_explainer
from trainers.models.predictor import load_predictor
from trainers.models.recipe import recipe
from trainers.models.scorer import load_scorer
from trainers.runs import train_version as versions
from trainers.runs.checkpoints import FolderCheckpointer
from trainers.runs.train_version import TrainingRequest, train_version
from trainers.store import manifest as manifests
from trainers.store.registry import Registry

FIRST, SECOND = 240, 80
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")


class Lab:
    """One recipe, its tiny base and a folder to train in."""

    def __init__(self, model: str, cache: Path, path: Path) -> None:
        self.model = model
        self.config = CONFIGS[model]
        self.recipe = recipe(model)
        self.base: Base = resolve(self.config.base, cache, self.recipe.BASE_ARCHITECTURE)
        self.path = path
        self.journal = JOURNALS[model](FIRST)
        self.window = JOURNALS[model](SECOND, FIRST)

    def run(
        self,
        name: str,
        data: Dataset | Sequence[Example],
        *,
        parent: Path | None = None,
        config: RecipeConfig | None = None,
        labels: Sequence[str] = (),
        on_progress: ProgressCallback = no_progress,
        checkpoints: Path | None = None,
    ) -> Report:
        """Train into a folder of that name."""
        data = data if isinstance(data, Dataset) else split(data, 10_000, 17)
        known = labels or labels_of([example for _, example in data.train])
        folder = self.path / name
        folder.mkdir()
        return self.recipe.run(
            data,
            known,
            self.base.folder,
            parent,
            config or self.config,
            folder,
            on_progress,
            checkpointer=FolderCheckpointer(checkpoints, "it") if checkpoints else None,
        )

    def files(self, name: str) -> dict[str, str]:
        """File -> hash of its bytes."""
        folder = self.path / name
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}

    def weights(self, name: str) -> dict[str, str]:
        """Of what was trained."""
        return {file: digest for file, digest in self.files(name).items() if file in WEIGHTS}


@pytest.fixture(params=MODELS)
def lab(request: pytest.FixtureRequest, models_cache: Path, tmp_path: Path) -> Lab:
    return Lab(request.param, models_cache, tmp_path)


def losses(report: Report) -> list[float]:
    return [point.loss for point in report.history.points]


def values(report: Report) -> list[float]:
    """Every metric of a report."""
    evaluations = [report.candidate, report.champion, report.trivial_baseline, *report.baselines.values()]
    scores = [each for evaluation in evaluations for splits in evaluation.values() for each in splits.values()]
    return [value for each in scores for value in each.metrics.values()]


def stops_after(number: int) -> ProgressCallback:
    def on_progress(step: RunProgress) -> None:
        if step.phase == "training" and step.step == number:
            raise Cancelled

    return on_progress


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(lab: Lab) -> None:
    first, second = lab.run("first", lab.journal), lab.run("second", lab.journal)
    assert lab.files("first") == lab.files("second")
    assert lab.weights("first")
    assert losses(first) == losses(second)
    lab.run("other", lab.journal, config=msgspec.structs.replace(lab.config, seed=18))
    assert lab.weights("other") != lab.weights("first")


def test_its_report_is_complete(lab: Lab) -> None:
    report = lab.run("version", lab.journal)
    assert report.candidate
    for task, splits in report.candidate.items():
        assert splits.keys() == {"old", "recent", "holdout"}
        assert report.trivial_baseline[task]["holdout"].metrics.keys() == splits["holdout"].metrics.keys()
    assert report.baselines, "there is a simple baseline to compare with"
    assert all(0.0 <= value <= 1.0 for value in values(report))
    assert all(map(math.isfinite, losses(report)))
    assert report.history.scores, "the last evaluation is after the last step"
    assert msgspec.json.encode(report.details)


def test_a_version_is_scored_alone_as_its_run_scored_it(lab: Lab) -> None:
    data = split(lab.journal, 10_000, 17)
    every = {"eval_examples": 1_000} if hasattr(lab.config, "eval_examples") else {}
    report = lab.run("version", data, config=msgspec.structs.replace(lab.config, **every))
    examples = data.old + data.recent
    holdout = Holdout(examples=examples, current=data.context, known=data.context)
    everything = tuple(range(len(examples)))

    def scores(holdout: Holdout) -> list[dict[str, TaskScores]]:
        parts = (everything, (), everything[::2], everything[1::2])
        folder, base = lab.path / "version", lab.base.folder
        return lab.recipe.evaluate(holdout, parts, folder, base, lab.config, no_progress)

    whole, empty, even, odd = scores(holdout)
    before = lab.files("version")
    for task, splits in report.candidate.items():
        assert whole[task].examples == splits["holdout"].examples
        assert whole[task].metrics == pytest.approx(splits["holdout"].metrics, abs=0.02)
        assert empty.get(task, TaskScores(0)).examples == 0
        assert max(even[task].examples, odd[task].examples) <= whole[task].examples
    assert max(each.examples for each in whole.values()) > 0
    assert lab.files("version") == before

    # who knows less answers the same questions
    fewer = msgspec.structs.replace(holdout, known=data.context[::2])
    assert {task: each.examples for task, each in scores(fewer)[0].items()} == {
        task: each.examples for task, each in whole.items()
    }


def test_a_resumed_run_gives_the_result_of_an_uninterrupted_one(lab: Lab) -> None:
    straight = lab.run("straight", lab.journal)
    killed_at = lab.config.save_steps * 2 + 1
    assert len(losses(straight)) > killed_at
    checkpoints, seen = lab.path / "checkpoint", list[RunProgress]()
    with pytest.raises(Cancelled):
        lab.run("killed", lab.journal, on_progress=stops_after(killed_at), checkpoints=checkpoints)
    resumed = lab.run("resumed", lab.journal, on_progress=seen.append, checkpoints=checkpoints)
    assert next(s.step for s in seen if s.phase == "training") == lab.config.save_steps * 2 + 1
    assert losses(resumed) == losses(straight)
    assert lab.files("resumed") == lab.files("straight")


def test_a_child_starts_from_its_parent_and_does_not_change_it(lab: Lab) -> None:
    lab.run("parent", lab.journal)
    before = lab.files("parent")
    data = later(lab.journal, lab.window)
    report = lab.run("child", data, parent=lab.path / "parent")
    assert lab.files("parent") == before
    assert lab.weights("child") != lab.weights("parent")
    lab.run("orphan", data)
    assert lab.weights("child") != lab.weights("orphan")
    assert report.champion.keys() >= report.candidate.keys()
    assert all(report.champion[task].keys() >= splits.keys() for task, splits in report.candidate.items())
    assert any("prequential" in splits for splits in report.champion.values()), "scored before training"


@pytest.mark.parametrize("size", [0, 1])
def test_a_window_with_one_example_or_none_is_trained_with_the_rehearsal(lab: Lab, size: int) -> None:
    lab.run("parent", lab.journal)
    trained = [one for one in lab.window if not held_out(one)][:size]
    report = lab.run("child", later(lab.journal, trained), parent=lab.path / "parent")
    assert losses(report)
    assert all(map(math.isfinite, losses(report)))


def test_a_first_window_with_one_example_gives_a_version(lab: Lab) -> None:
    one = next(one for one in reversed(lab.journal) if not held_out(one))
    report = lab.run("version", [one])
    assert losses(report)
    assert all(0.0 <= value <= 1.0 for value in values(report))


def test_an_unknown_label_in_the_holdout_counts_as_missed(lab: Lab) -> None:
    strange = [
        msgspec.structs.replace(one, labels=("never-seen",)) if held_out(one) and one.labels else one
        for one in lab.journal
    ]
    report = lab.run("version", strange)
    assert "never-seen" not in report.labels
    assert all(0.0 <= value <= 1.0 for value in values(report))


def test_the_holdout_does_not_change_the_weights(lab: Lab) -> None:
    lab.run("version", lab.journal)
    without = [one for one in lab.journal if one.node or not held_out(one)]
    assert len(without) < len(lab.journal)
    lab.run("without", without)
    assert lab.weights("without") == lab.weights("version")


LONG = "powershell script " * 6_000
FOREIGN = "攻撃者はパスワードを盗む。 Злоумышленник удаляет файлы. المهاجم يشفر القرص 🦠 é ß \u0000 \u200b"


@pytest.mark.parametrize("text", [LONG, FOREIGN, " "], ids=["100,000 characters", "non-English", "blank"])
def test_unusual_texts_are_trained_on_and_evaluated(lab: Lab, text: str) -> None:
    odd = [reworded(one, text) if number % 7 == 0 else one for number, one in enumerate(lab.journal)]
    report = lab.run("version", odd)
    assert all(map(math.isfinite, losses(report)))
    lab.run("child", later(odd, [reworded(one, text) for one in lab.window]), parent=lab.path / "version")


HOSTILE = (r"$\x$", "_hidden", "[/red]", "a|b", "<img src=x>", "\x1b[2J", "ラベル", "n" * 3_000)


def test_a_label_is_text_in_every_picture_and_document(lab: Lab) -> None:
    named = [
        msgspec.structs.replace(one, labels=(HOSTILE[n // 8 % len(HOSTILE)],))
        if one.labels and not one.link
        else one
        for n, one in enumerate(lab.journal)
    ]
    data = split(named, 10_000, 17)
    known = labels_of([example for _, example in data.train])
    request = TrainingRequest(model=lab.model, version="v0001", trigger="t@1", reason="volume", labels=known)
    registry = Registry(lab.path / "models")
    train_version(registry, request, data, lab.base, lab.config, GateLimits(min_examples=5), no_progress)
    manifest = registry.verified(lab.model, "v0001")
    assert manifest.left_out == {}
    assert {"README.md", "curves.png"} <= manifest.files.keys()
    card = (registry.folder(lab.model, "v0001") / "README.md").read_text()
    assert "<img" not in card.replace(r"\<img", "")
    assert "\x1b" not in card


@pytest.mark.parametrize("name", ["save_curves", "card"])
def test_a_version_is_complete_without_a_picture_or_a_card(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no font")

    monkeypatch.setattr(versions, name, fail)
    request = TrainingRequest(
        model=lab.model, version="v0001", trigger="t@1", reason="volume", labels=labels_of(lab.journal)
    )
    registry = Registry(lab.path / "models")
    data, limits = split(lab.journal, 10_000, 17), GateLimits(min_examples=5)
    train_version(registry, request, data, lab.base, lab.config, limits, no_progress)
    file = {"save_curves": "curves.png", "card": "README.md"}[name]
    manifest = registry.verified(lab.model, "v0001")
    assert manifest.left_out == {file: "ValueError: no font"}
    assert file not in manifest.files
    assert "history.json" in manifest.files


def test_after_a_kill_while_saving_the_next_run_writes_the_version(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TrainingRequest(
        model=lab.model, version="v0001", trigger="t@1", reason="volume", labels=labels_of(lab.journal)
    )
    data, limits = split(lab.journal, 10_000, 17), GateLimits(min_examples=5)

    def version(registry: Registry) -> dict[str, str]:
        return train_version(registry, request, data, lab.base, lab.config, limits, no_progress).files

    def die(*_: Any) -> None:
        raise Killed

    registry = Registry(lab.path / "models")
    for place, name in ((manifests, "write"), (versions, "save_curves")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            with pytest.raises(Killed):
                version(registry)
        assert not registry.has(lab.model, "v0001")
    assert version(registry) == version(Registry(lab.path / "straight"))
    assert registry.verified(lab.model, "v0001").promoted in (True, False)
    assert not list((lab.path / "models").rglob(".*.checkpoint"))


def test_the_manifest_says_how_long_each_phase_took(lab: Lab) -> None:
    request = TrainingRequest(
        model=lab.model, version="v0001", trigger="t@1", reason="volume", labels=labels_of(lab.journal)
    )
    data, limits = split(lab.journal, 10_000, 17), GateLimits(min_examples=5)
    registry = Registry(lab.path / "models")
    train_version(registry, request, data, lab.base, lab.config, limits, no_progress)
    manifest = registry.verified(lab.model, "v0001")
    assert set(manifest.phases) == set(get_args(Phase))
    assert 0 < sum(time.seconds for time in manifest.phases.values()) <= manifest.seconds + 1e-2
    assert all(time.processor_seconds >= 0 for time in manifest.phases.values())


def test_nothing_to_train_on_is_a_clear_error(lab: Lab) -> None:
    request = TrainingRequest(model=lab.model, version="v0001", trigger="t@1", reason="volume")
    with pytest.raises(BadConfiguration, match=f"{lab.model} v0001: no example to train on"):
        train_version(
            Registry(lab.path / "models"), request, Dataset(), lab.base, lab.config, GateLimits(), no_progress
        )  # fmt: skip


def test_its_predictor_and_its_scorer_load_a_version(lab: Lab, models_cache: Path) -> None:
    lab.run("version", lab.journal)
    predictor = load_predictor(lab.model, lab.path / "version")
    assert list(predictor.predict([])) == []

    scorer = load_scorer(lab.model, lab.path / "version", models_cache)
    numbered = list(enumerate(lab.window[:12]))
    scores = [scorer.score(each) for each in numbered]
    assert [score.offset for score in scores if score] == list(range(12))
    assert len({len(score.projection) for score in scores if score}) == 1
    losses = [loss for score in scores if score for loss in score.losses.values()]
    assert losses
    assert all(0 <= loss < 20 for loss in losses)
    assert len({score.projection for score in scores if score}) > 1
    assert [scorer.score(each) for each in reversed(numbered)] == scores[::-1]
    empty = msgspec.structs.replace(numbered[0][1], text="", instructions=(), node=None, link=None)
    assert scorer.score((0, empty)) is None


def test_the_code_in_its_card_runs_in_the_folder_of_a_version(
    lab: Lab, models_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("version", lab.journal)
    manifest = Manifest(model=lab.model, version="v0001", trigger="t@1", reason="volume", base=lab.config.base)
    blocks = re.findall(r"```python\n(.*?)```", lab.recipe.introduction(manifest), re.DOTALL)
    assert blocks
    monkeypatch.chdir(lab.path / "version")
    monkeypatch.setenv("SX9_CACHE_DIR", str(models_cache))
    monkeypatch.setitem(load_explainer.__kwdefaults__, "cache_dir", models_cache)
    for block in blocks:
        exec(compile(block, f"{lab.model}, card", "exec"), {})
