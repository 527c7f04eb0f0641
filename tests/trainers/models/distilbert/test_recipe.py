"""The recipe: equal input gives equal bytes; it learns; it extends and retires labels; its parent stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from schemas.journal import Example
from tests.trainers.models.distilbert.training import TINY, data_of, digest, tiny_config, train
from tests.trainers.samples import ALL_LABELS, LABELS, example, examples, held_out
from trainers.bases.resolve import Base
from trainers.core.progress import Cancelled, RunProgress, no_progress
from trainers.core.report import Report
from trainers.models.distilbert.predict import load
from trainers.models.distilbert.recipe import run
from trainers.models.distilbert.text_regression import PRECISION_FILE


def test_it_learns(first: tuple[Path, Report]) -> None:
    _, report = first
    assert report.labels == LABELS
    assert report.champion == {}
    assert report.candidate["tactics"]["recent"].examples >= 30
    assert report.candidate["tactics"]["old"].examples == 0
    assert (
        report.candidate["tactics"]["holdout"].metrics["macro_f1"]
        > report.trivial_baseline["tactics"]["holdout"].metrics["macro_f1"] + 0.3
    )


def test_the_same_input_gives_the_same_bytes(first: tuple[Path, Report], tiny: Base, tmp_path: Path) -> None:
    folder, report = first
    assert train(tmp_path / "again", tiny, examples(300)) == report
    assert digest(tmp_path / "again") == digest(folder)


def test_the_same_input_gives_the_same_bytes_in_another_thread(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    torch.rand(3)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, tmp_path / "again", tiny, examples(300)).result()
    assert digest(tmp_path / "again") == digest(first[0])


def test_another_seed_gives_other_weights(first: tuple[Path, Report], tiny: Base, tmp_path: Path) -> None:
    train(tmp_path / "other", tiny, examples(300), config=tiny_config(seed=18))
    assert digest(tmp_path / "other")["model.safetensors"] != digest(first[0])["model.safetensors"]


def test_without_the_text_regression_the_encoder_decides_alone(tiny: Base, tmp_path: Path) -> None:
    train(tmp_path / "v1", tiny, examples(100), config=tiny_config(words=0.0))
    weights = load_file(tmp_path / "v1" / "model.safetensors")
    assert not weights["words.weight"].any()
    assert not weights["words.scale"].any()


def test_a_child_starts_from_its_parent_and_does_not_change_it(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    parent, before = first
    digest_before = digest(parent)
    report = train(tmp_path / "v0002", tiny, examples(200, first=400), parent=parent)
    assert digest(parent) == digest_before
    assert report.champion["tactics"]["prequential"].examples == len(data_of(examples(200, first=400)).fresh)
    learnt = before.trivial_baseline["tactics"]["holdout"].metrics["macro_f1"] + 0.3
    assert report.champion["tactics"]["prequential"].metrics["macro_f1"] > learnt, "it predicts unseen examples"
    assert report.champion["tactics"]["holdout"].metrics["macro_f1"] > learnt
    assert (
        report.candidate["tactics"]["holdout"].metrics["macro_f1"]
        >= report.champion["tactics"]["holdout"].metrics["macro_f1"] - 0.05
    )


def test_an_extended_head_keeps_the_rows_of_known_labels(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    config = tiny_config(learning_rate=0.0, head_learning_rate=0.0)
    report = train(
        tmp_path / "v0002",
        tiny,
        examples(20, ALL_LABELS),
        labels=("collection", "impact"),
        parent=first[0],
        config=config,
    )
    assert report.labels == ALL_LABELS, "labels of the parent stay in their places"
    before, after = load_file(first[0] / "model.safetensors"), load_file(tmp_path / "v0002" / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(after[name][: len(LABELS)], before[name])
        assert len(after[name]) == len(ALL_LABELS)
    for name in before.keys() - {"classifier.weight", "classifier.bias"}:
        if name.startswith("words."):  # fitted to convergence, whatever the learning rates
            continue
        assert torch.equal(after[name], before[name]), name


def test_the_share_of_the_parent_divides_the_way_from_its_weights_to_the_trained_ones(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    weights, reports = {}, {}
    for share in (0.0, 0.25, 1.0):
        reports[share] = train(
            tmp_path / f"share-{share}", tiny, examples(100, ALL_LABELS), labels=ALL_LABELS, parent=first[0],
            config=tiny_config(parent_share=share),
        )  # fmt: skip
        weights[share] = load_file(tmp_path / f"share-{share}" / "model.safetensors")
    parent = load_file(first[0] / "model.safetensors")
    for name in (name for name in parent if name.startswith(("distilbert.transformer", "pre_classifier"))):
        expected = 0.75 * weights[0.0][name] + 0.25 * parent[name]
        assert torch.allclose(weights[0.25][name], expected, atol=1e-6), name
        assert torch.equal(weights[1.0][name], parent[name]), name
        assert not torch.equal(weights[0.0][name], parent[name]), name
    new = len(LABELS)
    calibrations = {share: report.details["calibration"]["tactics"] for share, report in reports.items()}
    rows = {share: weights[share]["classifier.weight"] / calibrations[share]["scale"] for share in weights}
    assert torch.allclose(rows[1.0][:new], parent["classifier.weight"], atol=1e-6)
    assert torch.allclose(rows[0.25][new:], rows[0.0][new:], atol=1e-6), "the parent says nothing of new labels"
    assert reports[0.25].candidate != reports[0.0].candidate, "what is scored is what is saved"


def test_a_child_with_new_labels_keeps_the_text_regression_of_its_parent(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    train(tmp_path / "v0002", tiny, examples(20, ALL_LABELS), labels=("collection", "impact"), parent=first[0])
    before, after = (load_file(folder / "model.safetensors") for folder in (first[0], tmp_path / "v0002"))
    untouched = (after["words.weight"][:, len(LABELS) :] == 0).all(1)
    assert before["words.weight"][untouched].any(), "words that do not occur in the window"
    assert torch.equal(after["words.weight"][untouched, : len(LABELS)], before["words.weight"][untouched])
    assert torch.equal(after["words.idf"], before["words.idf"])
    was, now = (load_file(folder / PRECISION_FILE)["precision"] for folder in (first[0], tmp_path / "v0002"))
    assert (was > was.min()).any()
    assert (now[:, : len(LABELS)] >= was).all(), "the precision never falls"


def test_an_extended_head_learns_the_new_label(first: tuple[Path, Report], tiny: Base, tmp_path: Path) -> None:
    report = train(tmp_path / "v0002", tiny, examples(300, ALL_LABELS), labels=ALL_LABELS, parent=first[0])
    assert report.champion["tactics"]["recent"].labels["impact"].f1 == 0.0
    assert report.candidate["tactics"]["recent"].labels["impact"].f1 > 0.8


def test_it_learns_severities_and_tactics(tiny: Base, tmp_path: Path) -> None:
    labels = ("credential-access", "execution")
    words = {"severity:high": "remote unauthenticated takeover", "severity:info": "version banner detected"}
    severe = [
        example(n, [label], key=f"template:{n}", text=f"template {words[label]} number-{n}")
        for n, label in enumerate(list(words) * 150, 1_000)
    ]
    both = example(3_000, ["execution", "severity:high"], text="attacker script shell remote takeover")
    journal = [*examples(300, labels), *severe, both]
    report = train(tmp_path / "both", tiny, journal, labels=(*labels, *words))
    assert report.labels == (*labels, *words)
    assert report.candidate["tactics"]["holdout"].examples + report.candidate["severity"][
        "holdout"
    ].examples >= sum(map(held_out, journal))
    assert report.candidate["severity"]["holdout"].labels.keys() == words.keys()
    for task in ("tactics", "severity"):
        trivial = report.trivial_baseline[task]["holdout"].metrics["macro_f1"]
        assert report.candidate[task]["holdout"].metrics["macro_f1"] > trivial + 0.3
    child = train(
        tmp_path / "child", tiny, examples(40, labels), labels=labels, parent=tmp_path / "both",
        config=tiny_config(epochs=1, learning_rate=1e-6, head_learning_rate=1e-6),
    )  # fmt: skip
    assert child.labels == report.labels, "it keeps severities that do not occur in its window"
    assert child.candidate["severity"]["recent"].examples == 0


def test_a_window_of_severities_alone_does_not_make_it_forget_the_tactics(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    parent, _ = first
    words = {"severity:high": "remote unauthenticated takeover", "severity:info": "version banner detected"}
    severe = [
        example(n, [label], key=f"template:{n}", text=f"{words[label]} by script and password token {n}")
        for n, label in enumerate(list(words) * 150, 1_000)
    ]
    data = data_of([*severe, *(one for one in examples(400) if held_out(one))])
    (tmp_path / "child").mkdir()
    report = run(data, (*LABELS, *words), tiny.folder, parent, TINY, tmp_path / "child", no_progress)
    assert (
        report.candidate["severity"]["holdout"].metrics["macro_f1"]
        > report.champion["severity"]["holdout"].metrics["macro_f1"] + 0.3
    )
    before = report.champion["tactics"]["holdout"].metrics["macro_f1"]
    assert report.candidate["tactics"]["holdout"].metrics["macro_f1"] > before - 0.3, "else it loses half"


def test_without_severities_there_are_no_scores_of_them(first: tuple[Path, Report]) -> None:
    assert first[1].candidate.keys() == {"tactics"}


def test_frozen_layers_keep_their_weights(tiny: Base, tmp_path: Path) -> None:
    train(tmp_path / "v1", tiny, examples(20), config=tiny_config(frozen_layers=1))
    before, after = load_file(tiny.folder / "model.safetensors"), load_file(tmp_path / "v1" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[f"distilbert.{name}"])}
    assert changed
    assert all(name.startswith("transformer.layer.1.") for name in changed)


@pytest.mark.parametrize(
    "journal",
    [
        [example(1, ["impact"])],
        [example(1, ["impact"], text="wipe " * 20_000)],
        [example(1, ["impact"], text="攻撃者は認証情報を収集した"), example(2, [], text=" ")],
    ],
    ids=["one example", "100,000 characters", "not English, and no text"],
)
def test_unusual_examples_can_be_trained_on(tiny: Base, tmp_path: Path, journal: list[Example]) -> None:
    report = train(tmp_path / "v1", tiny, journal, labels=("impact",))
    assert report.candidate["tactics"]["holdout"].examples == 0


def test_the_progress_callback_can_cancel_a_run(tiny: Base, tmp_path: Path) -> None:
    seen: list[RunProgress] = []

    def on_progress(step: RunProgress) -> None:
        seen.append(step)
        if (step.phase, step.step) == ("training", 3):
            raise Cancelled

    with pytest.raises(Cancelled):
        train(tmp_path / "v1", tiny, examples(100), on_progress=on_progress)
    trained_on = [s for s in seen if s.phase not in ("computing hidden states", "fitting the text regression")]
    assert [(s.phase, s.epoch, s.step) for s in trained_on] == [("training", 1, n) for n in (1, 2, 3)]
    assert seen[-1].loss > 0


def test_a_loss_that_is_not_finite_ends_the_run(tiny: Base, tmp_path: Path) -> None:
    wild = tiny_config(learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(ArithmeticError, match=r"loss is (nan|inf) at step \d+ of \d+: lower the learning rate"):
        train(tmp_path / "v1", tiny, examples(100), config=wild)


def test_a_label_without_examples_is_retired_from_the_head(
    first: tuple[Path, Report], tiny: Base, tmp_path: Path
) -> None:
    in_use = LABELS[1:]
    window, older = examples(40, in_use, first=900), examples(60, in_use, first=400)
    data = data_of(window)
    rehearsal = tuple((1_000 + n, one) for n, one in enumerate(older) if not held_out(one))
    results = {}
    for name, given in (("rehearsed", rehearsal), ("alone", ())):
        (tmp_path / name).mkdir()
        run_on = msgspec.structs.replace(data, rehearsal=given)
        results[name] = run(run_on, LABELS, tiny.folder, first[0], TINY, tmp_path / name, no_progress)
    assert results["rehearsed"].labels == in_use, "it is among the requested labels, but no example has it"
    assert results["rehearsed"].details["retired_labels"] == [LABELS[0]]
    assert results["alone"].labels == LABELS, "without rehearsal it is unknown which labels are in use"
    weights = load_file(tmp_path / "rehearsed" / "model.safetensors")
    assert len(weights["classifier.weight"]) == len(in_use)
    again = train(tmp_path / "back", tiny, examples(40), labels=LABELS, parent=tmp_path / "rehearsed")
    assert again.labels == (*in_use, LABELS[0]), "it returns with its examples"


def test_a_saved_version_is_calibrated_and_has_thresholds(tiny: Base, tmp_path: Path) -> None:
    report = train(tmp_path / "v1", tiny, examples(900), config=tiny_config(epochs=2))
    fitted = report.details["calibration"]["tactics"]
    assert fitted["examples"] == report.candidate["tactics"]["holdout"].examples >= 50
    assert fitted["scale"] != 1.0
    scales = load_file(tmp_path / "v1" / "model.safetensors")["words.scale"].tolist()
    assert scales == pytest.approx([TINY.words * fitted["scale"]] * len(LABELS)), (
        "both parts of the logits are calibrated"
    )
    settings = AutoConfig.from_pretrained(tmp_path / "v1")
    assert settings.thresholds == dict(zip(LABELS, fitted["thresholds"], strict=True))
    assert 0.0 <= report.candidate["tactics"]["holdout"].extra["ece"] < 0.2
    assert (tmp_path / "v1" / "precision_recall.png").stat().st_size > 1_000
    assert report.baselines["tf-idf"]["tactics"]["holdout"].metrics["macro_f1"] > 0.5


def test_a_long_text_is_trained_on_in_chunks(tiny: Base, tmp_path: Path) -> None:
    end = [example(n, ["impact"], text="system " * 28 + "wipe disk encrypt delete " * 6) for n in range(40)]
    other = [example(n, ["execution"], text="system " * 28 + "script shell command " * 8) for n in range(40, 80)]
    found = {}
    for chunks in (1, 4):
        name = f"chunks-{chunks}"
        train(
            tmp_path / name, tiny, [*end, *other], labels=("execution", "impact"),
            config=tiny_config(pieces=chunks),
        )  # fmt: skip
        (prediction,) = load(tmp_path / name).predict(["wipe disk encrypt delete"])
        found[chunks] = [prediction.tactics[label] for label in ("execution", "impact")]
    assert found[4][1] > found[4][0] + 0.5, "text after the first chunk is learnt"
    assert abs(found[1][1] - found[1][0]) < abs(found[4][1] - found[4][0])


def test_the_holdout_is_scored_every_eval_steps_and_at_the_end(tiny: Base, tmp_path: Path) -> None:
    config = tiny_config(epochs=1, eval_steps=10)
    history = train(tmp_path / "v1", tiny, examples(300), config=config).history
    assert sorted(history.scores) == [*range(10, history.step, 10), history.step]
    assert all("macro_f1" in scores["tactics"] for scores in history.scores.values())
