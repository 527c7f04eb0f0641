"""The predictor of a folder, and the folder in the hands of `transformers`, give the same probabilities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from schemas.errors import Corrupt
from schemas.versions import Manifest
from tests.trainers.models.distilbert.training import TINY, tiny_config, train
from tests.trainers.samples import LABELS, example, examples
from trainers.bases.resolve import Base
from trainers.core.report import Report
from trainers.models.distilbert.predict import TextPrediction, load


def probabilities_by_transformers(folder: Path, texts: list[str], max_tokens: int) -> np.ndarray:
    """(texts, labels)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits.sigmoid().numpy()


def tactics_of(predictions: list[TextPrediction]) -> np.ndarray:
    """(texts, tactics)."""
    return np.array([list(prediction.tactics.values()) for prediction in predictions])


def test_transformers_loads_the_folder(first: tuple[Path, Report]) -> None:
    folder, _ = first
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert model.config.problem_type == "multi_label_classification"
    assert tuple(model.config.id2label.values()) == LABELS
    classify = pipeline(
        "text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), top_k=None
    )
    scores = {one["label"]: one["score"] for one in classify(["attacker powershell script shell system"])[0]}
    assert max(scores, key=lambda label: scores[label]) == "execution"
    assert scores["execution"] > 0.5


def test_the_predictor_and_transformers_agree_that_a_text_has_a_tactic(first: tuple[Path, Report]) -> None:
    texts = ["attacker shell system user-7", "", "Der Angreifer las ein Buch.", "hash hash password command"]
    ours = tactics_of(load(first[0]).predict(texts))
    assert ours == pytest.approx(probabilities_by_transformers(first[0], texts, 512), abs=1e-5)
    assert (ours.sum(1) >= 1 - 1e-6).all(), "at least one on average"


def test_the_predictor_truncates_as_transformers_does(first: tuple[Path, Report]) -> None:
    texts = ["attacker powershell script shell system", "password hash", "wipe " * 20_000, ""]
    predictions = load(first[0]).predict(texts)
    expected = probabilities_by_transformers(first[0], texts, TINY.max_tokens)
    assert np.abs(tactics_of(predictions) - expected).max() < 1e-5
    assert "execution" in predictions[0].predicted_tactics


def test_without_trust_remote_code_the_encoder_alone_is_loaded(first: tuple[Path, Report]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(first[0])
    assert type(model).__name__ == "DistilBertForSequenceClassification"
    weights = load_file(first[0] / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_prediction_names_all_labels_and_those_above_their_threshold(first: tuple[Path, Report]) -> None:
    thresholds = json.loads((first[0] / "config.json").read_bytes())["thresholds"]
    classifier = load(str(first[0]))
    assert (classifier.labels, classifier.max_tokens) == (LABELS, TINY.max_tokens)
    for prediction in classifier.predict([one.text for one in examples(20)]):
        assert tuple(prediction.tactics) == LABELS
        above = tuple(tactic for tactic, p in prediction.tactics.items() if p >= thresholds[tactic])
        assert prediction.predicted_tactics == above
        assert (prediction.severity, prediction.severities) == (None, None), "the version knows no severities"


def test_no_texts_have_no_predictions(first: tuple[Path, Report]) -> None:
    assert load(first[0]).predict([]) == []


def test_a_severity_is_predicted_with_its_probability(tiny: Base, tmp_path: Path) -> None:
    words = {"severity:high": "remote unauthenticated takeover", "severity:info": "version banner detected"}
    templates = [
        example(n, [label], key=f"template:{n}", text=f"template {words[label]} number-{n}")
        for n, label in enumerate(list(words) * 60, 1_000)
    ]
    labels = (*LABELS, *words)
    train(tmp_path / "v1", tiny, [*examples(100), *templates], labels=labels, config=tiny_config(epochs=3))
    high, info = load(tmp_path / "v1").predict([f"template {text}" for text in words.values()])
    assert (high.severity, info.severity) == tuple(words)
    assert high.severities is not None
    assert high.severities.keys() == words.keys()
    assert sum(high.severities.values()) == pytest.approx(1.0)
    assert high.severities["severity:high"] > 0.5
    assert high.tactics.keys() == set(LABELS)


def test_a_predictor_of_severities_alone_predicts_no_tactics(tiny: Base, tmp_path: Path) -> None:
    journal = [example(n, ["severity:low"], key=f"template:{n}", text=f"banner {n}") for n in range(12)]
    train(tmp_path / "v1", tiny, journal, labels=("severity:low",), config=tiny_config(epochs=1))
    (prediction,) = load(tmp_path / "v1").predict(["banner"])
    assert (prediction.tactics, prediction.predicted_tactics) == ({}, ())
    assert prediction.severities == {"severity:low": 1.0}


def test_an_older_folder_has_its_length_in_the_manifest(first: tuple[Path, Report], tmp_path: Path) -> None:
    folder = tmp_path / "older"
    shutil.copytree(first[0], folder)
    config = json.loads((folder / "config.json").read_bytes())
    del config["max_tokens"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Corrupt, match=rf"{folder}: neither config.json nor manifest.json has max_tokens"):
        load(folder)
    manifest = Manifest(
        model="distilbert-mitre", version="v0001", trigger="", reason="", config={"max_tokens": TINY.max_tokens}
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    texts = ["attacker powershell " + "script " * 100]
    assert load(folder).predict(texts) == load(first[0]).predict(texts)
