"""What a version makes of single texts: the losses of both tasks, and the direction of the text's embedding.

The embedding is the hidden state of [CLS] that the head reads.
"""

from __future__ import annotations

from pathlib import Path

from schemas.journal import ExampleScore
from schemas.scores import SEVERITY, TACTICS
from trainers.core.dataset import OffsetExample
from trainers.core.losses import log_loss, multi_label_loss
from trainers.core.metrics.classification import TASKS
from trainers.core.projection import project
from trainers.models.distilbert import predict
from trainers.models.distilbert.labels import columns_by_task


class TextScorer:
    """A version in memory; see `trainers.models.scorer.Scorer`.

    Args:
        classifier: The version.
    """

    def __init__(self, classifier: predict.TextClassifier) -> None:
        self._classifier = classifier
        self._columns = columns_by_task(classifier.labels)

    def score(self, example: OffsetExample) -> ExampleScore | None:
        """The mean binary log loss of its tactics, and the log loss of its severity; None without a text."""
        offset, content = example
        if not content.text:
            return None
        probabilities, embedding = self._classifier.predict_with_embedding(content.text)
        losses = {}
        for task, columns in self._columns.items():
            true = [label for label in content.labels if TASKS[task](label)]
            names = [self._classifier.labels[i] for i in columns]
            if true and task == TACTICS:
                losses[task] = multi_label_loss(probabilities[columns], names, true)
            elif true and task == SEVERITY:
                known = dict(zip(names, probabilities[columns], strict=True))
                losses[task] = log_loss(float(known.get(true[0], 0.0)))
        return ExampleScore(offset=offset, losses=losses, projection=project(embedding))


def load(folder: Path, cache_dir: Path) -> TextScorer:  # noqa: ARG001  part of the interface
    """Load a version on the CPU; it needs no base model."""
    return TextScorer(predict.load(folder))
