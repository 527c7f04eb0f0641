"""The predictor of each model: it loads a version from its folder and answers batches.

    the folder of a version ──load_predictor──> Predictor ──predict(batch)──> one prediction per element

A predictor needs no training configuration: what it needs is in the folder of the version.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from schemas.models import load, model_spec

Query_contra = TypeVar("Query_contra", contravariant=True)
Prediction_co = TypeVar("Prediction_co", covariant=True)


_LOADING = threading.Lock()
"""While it loads a model, transformers replaces functions of its classes and of torch. Two threads that do so at
once can leave the replacements in place: later models would have weights that were never tied or set."""


class Predictor(Protocol[Query_contra, Prediction_co]):
    """A version in memory. Each model has its own types of queries and predictions."""

    def predict(self, batch: Sequence[Query_contra], /) -> Sequence[Prediction_co]:
        """Answer a batch.

        Args:
            batch: The queries; may be empty.

        Returns:
            One prediction per query, in the same order.
        """


def load_predictor(model: str, folder: Path | str) -> Predictor[Any, Any]:
    """Load a version of a model; one at a time, whichever threads ask.

    Args:
        model: Its name.
        folder: The folder of the version, or of the model, which loads as its champion.

    Raises:
        BadConfiguration: There is no such model.
    """
    make = load(model_spec(model).predictor)
    with _LOADING:
        return cast(Predictor[Any, Any], make(folder))
