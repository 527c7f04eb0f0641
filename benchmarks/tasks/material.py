"""Examples of `distilbert-mitre` from the feeds on disk, made by the fetchers and projections of the stream."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.progress import Progress

from benchmarks.rows import Setup
from schemas.encoding import EncodedEvent
from schemas.events import Event, Relationship, Technique
from schemas.journal import Example, Source
from streams.core.projections.base import project
from streams.fetchers.feeds import attack, nuclei
from trainers.core.dataset import Dataset, text_hash
from trainers.core.metrics.classification import Scores, marks, score
from trainers.core.progress import RunProgress
from trainers.core.report import Report
from trainers.models.distilbert.config import DistilbertConfig

MODEL = "distilbert-mitre"


class Told(msgspec.Struct, frozen=True):
    """An example, and the technique that it speaks of where there is one."""

    example: Example
    technique: str = ""


def release(setup: Setup, number: str) -> list[Told]:
    """What stands in a release of Enterprise ATT&CK: its techniques and procedure sentences."""
    path = setup.feed(f"attack/enterprise-attack-{number}.json")
    return _told(attack.parse(path.read_bytes(), "enterprise-attack", path.name).outcomes)


def templates(setup: Setup) -> list[Told]:
    """The Nuclei templates that have one of the five severities."""
    return _told(nuclei.parse_folder(setup.feed("nuclei-templates")))


def _told(outcomes: Sequence[object]) -> list[Told]:
    out = []
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, EncodedEvent):
            found = project(MODEL, outcome.event, Source("feed", 0, number))
            if found is not None and not found.retracted:
                out.append(Told(found, _technique(outcome.event)))
    return out


def _technique(event: Event) -> str:
    if isinstance(event, Technique):
        return event.id
    return event.target.id if isinstance(event, Relationship) else ""


def unseen(told: Sequence[Told], seen: Sequence[Told]) -> list[Told]:
    """Those whose text is in none of `seen`, up to case and white space."""
    texts = {text_hash(one.example.text) for one in seen}
    return [one for one in told if text_hash(one.example.text) not in texts]


def labels_of(told: Sequence[Told]) -> tuple[str, ...]:
    """All labels, sorted."""
    return tuple(sorted({label for one in told for label in one.example.labels}))


def train(
    data: Dataset, base: Path, config: DistilbertConfig, folder: Path, progress: Progress, title: str,
    parent: Path | None = None,
) -> Report:  # fmt: skip
    """A version in `folder`, which is made."""
    from trainers.models.distilbert import recipe as distilbert

    folder.mkdir(parents=True)
    labels = tuple(sorted({label for _, example in data.train for label in example.labels}))
    task = progress.add_task(title, total=None)

    def on_progress(step: RunProgress) -> None:
        said = f"{title}: {step.phase}" + (f", loss {step.loss:.3f}" if step.epoch else "")
        progress.update(task, description=said, completed=step.step, total=step.steps)

    report = distilbert.run(data, labels, base, parent, config, folder, on_progress)
    progress.remove_task(task)
    return report


def base(setup: Setup) -> Path:
    """Folder of the stand-in."""
    from trainers.bases.resolve import resolve

    return resolve("minilm", setup.cache, "distilbert").folder


def predicted(folder: Path, config: DistilbertConfig, told: Sequence[Told]) -> Scores:
    """Scores of a version on examples."""
    from trainers.models.distilbert.recipe import Classifier

    classifier = Classifier(folder, config)
    _, said = classifier([one.example.text for one in told])
    return scores(classifier.labels, said, told)


def scores(labels: Sequence[str], said: np.ndarray, told: Sequence[Told]) -> Scores:
    """Scores of predictions (examples, labels)."""
    sets = [one.example.labels for one in told]
    extra = tuple(sorted({label for names in sets for label in names} - set(labels)))
    missing = np.zeros((len(told), len(extra)), dtype=np.bool_)
    everything = (*labels, *extra)
    return score(marks(sets, everything), np.hstack([said, missing]), everything)


def linear(train_on: Sequence[Told], told: Sequence[Told], *, machine: str) -> Scores:
    """TF-IDF of words and pairs, and per label a linear SVM (`svm`), or a logistic regression (`regression`)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    labels = labels_of(train_on)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if machine == "svm" else 1)
    seen = words.fit_transform([one.example.text for one in train_on])
    asked = words.transform([one.example.text for one in told])
    if machine == "svm":
        model = OneVsRestClassifier(LinearSVC(class_weight="balanced"))
        said = model.fit(seen, marks([one.example.labels for one in train_on], labels)).predict(asked)
        return scores(labels, said.astype(np.bool_), told)
    regression = LogisticRegression(C=10.0, max_iter=1000)
    names = regression.fit(seen, [one.example.labels[0] for one in train_on]).predict(asked)
    return scores(labels, marks([(name,) for name in names], labels), told)


def workplace(setup: Setup) -> tempfile.TemporaryDirectory[str]:
    """A folder for versions that nobody keeps."""
    setup.output.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="quality-", dir=setup.output)
