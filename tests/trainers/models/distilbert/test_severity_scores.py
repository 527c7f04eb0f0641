"""The accuracy of severities, apart for texts whose severity is looked up and for those where it is predicted."""

from __future__ import annotations

import numpy as np

from schemas.journal import Example, Source
from trainers.models.distilbert.calibration import Predictions
from trainers.models.distilbert.evaluation import task_scores

LABELS = ("severity:high", "severity:low")
TEXTS = (
    "Log4Shell (CVE-2021-44228)",
    "It has CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    "An open panel",
    "A router",
)


def extra(texts: tuple[str, ...], predicted: list[str]) -> dict[str, float]:
    examples = [
        (n, Example(source=Source("t", 0, n), key=str(n), hash="0", text=text, labels=("severity:high",)))
        for n, text in enumerate(texts)
    ]
    said = np.array([[label == name for label in LABELS] for name in predicted])
    scores = task_scores(Predictions(said.astype(np.float64), said), examples, LABELS)
    return {name: value for name, value in scores["severity"].extra.items() if name != "ece"}


def test_stated_and_predicted_severities_are_counted_apart() -> None:
    high, low = LABELS
    assert extra(TEXTS, [high, high, high, low]) == {
        "share_stated": 0.5, "accuracy_if_stated": 1.0, "accuracy_if_not_stated": 0.5,
    }  # fmt: skip


def test_there_is_no_accuracy_of_texts_that_are_not_there() -> None:
    assert extra(TEXTS[2:], [LABELS[0], LABELS[0]]) == {"share_stated": 0.0, "accuracy_if_not_stated": 1.0}
