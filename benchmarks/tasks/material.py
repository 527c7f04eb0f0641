"""Shared by the tasks of `distilbert-mitre`: examples from feeds on disk, training, scores, linear baselines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from rich.progress import Progress

from benchmarks.rows import Setup
from schemas.encoding import EncodedEvent
from schemas.events import Event, Relationship, Technique
from schemas.journal import Example, Source
from schemas.recipes.distilbert import DistilbertConfig
from schemas.scores import TaskScores
from streams.core.projections.base import project
from streams.fetchers.feeds import attack, nuclei
from trainers.core.dataset import Dataset, text_hash
from trainers.core.loop import device_of
from trainers.core.metrics.classification import (
    LabelMatrix,
    classification_scores,
    extend_labels,
    label_matrix,
)
from trainers.core.progress import RunProgress
from trainers.core.report import Report

MODEL = "distilbert-mitre"


class FeedExample(msgspec.Struct, frozen=True):
    """An example, and the id of the technique that its text is about; empty if there is none."""

    example: Example
    technique: str = ""


def release(setup: Setup, number: str) -> list[FeedExample]:
    """The techniques and procedure sentences of a release of Enterprise ATT&CK."""
    path = setup.feed(f"attack/enterprise-attack-{number}.json")
    return examples_of(attack.parse(path.read_bytes(), "enterprise-attack", path.name).outcomes)


def templates(setup: Setup) -> list[FeedExample]:
    """The Nuclei templates that have one of the five severities."""
    return examples_of(nuclei.parse_folder(setup.feed("nuclei-templates")))


def examples_of(outcomes: Sequence[object]) -> list[FeedExample]:
    """What `distilbert-mitre` learns from the events among some outcomes of a feed."""
    examples = []
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, EncodedEvent):
            found = project(MODEL, outcome.event, Source("feed", 0, number))
            if found is not None and not found.retracted:
                examples.append(FeedExample(found, _technique(outcome.event)))
    return examples


def _technique(event: Event) -> str:
    if isinstance(event, Technique):
        return event.id
    return event.target.id if isinstance(event, Relationship) else ""


def unseen(examples: Sequence[FeedExample], seen: Sequence[FeedExample]) -> list[FeedExample]:
    """The examples whose text is not in `seen`, ignoring case and white space."""
    texts = {text_hash(one.example.text) for one in seen}
    return [one for one in examples if text_hash(one.example.text) not in texts]


def labels_of(examples: Sequence[FeedExample]) -> tuple[str, ...]:
    """All labels of some examples, sorted."""
    return tuple(sorted({label for one in examples for label in one.example.labels}))


def train(
    data: Dataset, base: Path, config: DistilbertConfig, folder: Path, progress: Progress, title: str,
    parent: Path | None = None,
) -> Report:  # fmt: skip
    """Train a version in `folder`, which is created, and show the progress."""
    from trainers.models.distilbert import recipe as distilbert

    folder.mkdir(parents=True)
    labels = tuple(sorted({label for _, example in data.train for label in example.labels}))
    task = progress.add_task(title, total=None)

    def on_progress(step: RunProgress) -> None:
        description = f"{title}: {step.phase}" + (f", loss {step.loss:.3f}" if step.epoch else "")
        progress.update(task, description=description, completed=step.step, total=step.steps)

    report = distilbert.run(data, labels, base, parent, config, folder, on_progress)
    progress.remove_task(task)
    return report


def base(setup: Setup) -> Path:
    """Folder of the base model."""
    from trainers.bases.resolve import resolve

    return resolve("minilm", setup.cache, "distilbert").folder


def evaluate(folder: Path, config: DistilbertConfig, examples: Sequence[FeedExample]) -> TaskScores:
    """Scores of a version on some examples, at least one; `config` only names the device."""
    from trainers.models.distilbert.predict import load

    classifier = load(folder, str(device_of(config)))
    predictions = classifier.predict_arrays([one.example.text for one in examples])
    return scores(classifier.labels, predictions.predicted, examples)


def scores(labels: Sequence[str], predicted: LabelMatrix, examples: Sequence[FeedExample]) -> TaskScores:
    """Scores of predictions, (examples, labels). Labels of examples that are not in `labels` count as missed."""
    sets = [one.example.labels for one in examples]
    all_labels = extend_labels(labels, sets)
    unknown = np.zeros((len(examples), len(all_labels) - len(labels)), dtype=np.bool_)
    return classification_scores(label_matrix(sets, all_labels), np.hstack([predicted, unknown]), all_labels)


def linear(
    training: Sequence[FeedExample], test: Sequence[FeedExample], *, classifier: Literal["svm", "regression"]
) -> TaskScores:
    """Scores of a linear model on TF-IDF features of words and word pairs.

    Args:
        training: What it is trained on.
        test: What it is tested on.
        classifier: `svm`, a linear SVM per label, or `regression`, a logistic regression of the first label.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    labels = labels_of(training)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if classifier == "svm" else 1)
    features = vectorizer.fit_transform([one.example.text for one in training])
    test_features = vectorizer.transform([one.example.text for one in test])
    if classifier == "svm":
        svm = OneVsRestClassifier(LinearSVC(class_weight="balanced"))
        svm.fit(features, label_matrix([one.example.labels for one in training], labels))
        return scores(labels, svm.predict(test_features).astype(np.bool_), test)
    regression = LogisticRegression(C=10.0, max_iter=1000)
    names = regression.fit(features, [one.example.labels[0] for one in training]).predict(test_features)
    return scores(labels, label_matrix([(name,) for name in names], labels), test)


def temporary_folder(setup: Setup) -> tempfile.TemporaryDirectory[str]:
    """A folder for versions that are not kept."""
    setup.output.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="quality-", dir=setup.output)
