"""What a user would try first: TF-IDF of words and pairs of words, and a logistic regression per label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainers.core.metrics.classification import LabelMatrix

_STRONG = 10.0
"""Inverse of the regularisation; the best of 1, 10 and 100 on ATT&CK 15.1."""
NEVER, ALWAYS = -8.0, 8.0


def logits_of(
    train: Sequence[str], truth: LabelMatrix, counts: LabelMatrix, texts: Sequence[str], seed: int
) -> npt.NDArray[np.float64]:
    """Train on some texts, and say what others have.

    Args:
        train: At least one.
        truth: (train, labels).
        counts: (train, labels), whether an example says anything of a label.
        texts: To be judged.
        seed: Of the solver.

    Returns:
        (texts, labels).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(train) > 100 else 1)
    out = np.full((len(texts), truth.shape[1]), NEVER)
    if not texts:
        return out
    try:
        seen = words.fit_transform(train)
    except ValueError:  # no words in any of them
        return out
    asked = words.transform(texts)
    for column in range(truth.shape[1]):
        rows = counts[:, column]
        wanted = truth[rows, column]
        if wanted.all() or not wanted.any():
            out[:, column] = ALWAYS if wanted.any() else NEVER
            continue
        one = LogisticRegression(C=_STRONG, solver="liblinear", random_state=seed)
        out[:, column] = one.fit(seen[rows], wanted).decision_function(asked)
    return out
