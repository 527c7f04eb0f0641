"""Linear models on TF-IDF features of words and word pairs: what one would try first on a text.

texts ──> TfidfVectorizer ──> logistic regression per label ──> decision values
                         └──> linear SVM per label ──────────> 0 or 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainers.core.metrics.classification import LabelMatrix, label_matrix

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

INVERSE_REGULARIZATION = 10.0
"""`C` of the logistic regression; the best of 1, 10 and 100 on ATT&CK 15.1."""
NEVER, ALWAYS = -8.0, 8.0
"""Decision values of a label that none, or all, of the training examples have."""
RARE_WORDS_FROM = 100
"""With more training texts than this, the logistic regression ignores words that occur in only one of them."""


def tfidf_logistic_regression(
    train_texts: Sequence[str],
    train_labels: LabelMatrix,
    train_mask: LabelMatrix,
    texts: Sequence[str],
    seed: int,
) -> npt.NDArray[np.float64]:
    """Fit one logistic regression per label, and apply it to other texts.

    Args:
        train_texts: At least one.
        train_labels: (train_texts, labels).
        train_mask: (train_texts, labels), whether an example is used to fit a label.
        texts: The texts to classify.
        seed: Of the solver.

    Returns:
        (texts, labels), float64: decision values. `NEVER` for all labels where no training text has a word.
    """
    from sklearn.linear_model import LogisticRegression

    decisions = np.full((len(texts), train_labels.shape[1]), NEVER)
    min_df = 2 if len(train_texts) > RARE_WORDS_FROM else 1
    features = _features(_vectorizer(min_df=min_df), train_texts, texts)
    if features is None:
        return decisions
    train_features, text_features = features
    for column in range(train_labels.shape[1]):
        rows = train_mask[:, column]
        targets = train_labels[rows, column]
        if targets.all() or not targets.any():
            decisions[:, column] = ALWAYS if targets.any() else NEVER
            continue
        model = LogisticRegression(C=INVERSE_REGULARIZATION, solver="liblinear", random_state=seed)
        decisions[:, column] = model.fit(train_features[rows], targets).decision_function(text_features)
    return decisions


def tfidf_linear_svm(
    train_texts: Sequence[str], train_labels: Sequence[Sequence[str]], texts: Sequence[str], labels: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Fit one linear support vector machine per label, and apply it to other texts. Words may be single characters.

    Args:
        train_texts: May be empty.
        train_labels: The labels of each training text; others than `labels` are ignored.
        texts: The texts to classify.
        labels: The labels to predict, in the order of the columns.

    Returns:
        (texts, labels), float32: 1 where a label is predicted, else 0. All 0 where no training text has a word.
    """
    from sklearn.svm import LinearSVC

    predicted = np.zeros((len(texts), len(labels)), dtype=np.float32)
    truth = label_matrix(train_labels, labels)
    features = _features(_vectorizer(token_pattern=r"(?u)\b\w+\b"), train_texts, texts)
    if features is None:
        return predicted
    train_features, text_features = features
    for column in range(len(labels)):
        targets = truth[:, column]
        if 0 < targets.sum() < len(targets):
            predicted[:, column] = LinearSVC().fit(train_features, targets).predict(text_features)
        else:
            predicted[:, column] = bool(targets.any())
    return predicted


def _vectorizer(**options: Any) -> TfidfVectorizer:
    """TF-IDF of words and word pairs, with logarithmic term frequencies."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **options)


def _features(
    vectorizer: TfidfVectorizer, train_texts: Sequence[str], texts: Sequence[str]
) -> tuple[Any, Any] | None:
    """The sparse features of both sets of texts; None where there is no text, or no word to learn from."""
    if not train_texts or not texts:
        return None
    try:
        return vectorizer.fit_transform(train_texts), vectorizer.transform(texts)
    except ValueError:  # no training text has a word
        return None
