"""Classify texts with a saved version. Needs only the version's folder.

texts ──> token ids, truncated ──> encoder ─────────> + ──> probabilities, thresholds ──> TextPrediction
                          └──────> text regression ───┘
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer

from schemas.errors import Corrupt
from schemas.scores import SEVERITY, TACTICS
from schemas.versions import Manifest
from trainers.bases.quiet import loading_transformers
from trainers.core.batching import batches_by_length
from trainers.core.memory import own_memory
from trainers.core.probabilities import FloatArray
from trainers.models.distilbert import text_regression
from trainers.models.distilbert.calibration import Predictions, calibrated_predictions, serving_calibrations
from trainers.models.distilbert.head import model_labels, saved_thresholds
from trainers.models.distilbert.hidden_states import FrozenLayers, TrainableLayers
from trainers.models.distilbert.int8 import to_int8
from trainers.models.distilbert.labels import columns_by_task
from trainers.models.distilbert.network import DistilBertWithWords
from trainers.models.distilbert.tokenization import TokenIds, load_tokenizer, tokenize, truncate

BATCH_SIZE, CPU_BATCH_SIZE = 64, 16
"""Texts that the encoder takes at once. A CPU is faster with few: less is padded, and more stays in its caches."""
MANIFEST = "manifest.json"


class TextPrediction(msgspec.Struct, frozen=True):
    """The prediction for one text.

    Attributes:
        tactics: Tactic -> calibrated probability, 0 to 1, conditioned on at least one tactic; in the order of the
            head.
        predicted_tactics: The tactics whose probability reaches their threshold; may be empty.
        severity: The most probable severity label, such as `severity:high`; None if the version knows none.
        severities: Severity label -> calibrated probability, adding up to 1; None if the version knows none.
    """

    tactics: dict[str, float]
    predicted_tactics: tuple[str, ...]
    severity: str | None = None
    severities: dict[str, float] | None = None


class TextClassifier:
    """A loaded version. Create it with `load`.

    Args:
        model: On its device, in evaluation mode.
        tokenizer: Without padding and truncation.
        max_tokens: Length to which texts are truncated, [CLS] and [SEP] included.
        thresholds: Tactic -> threshold, 0 to 1, for every tactic of the model.

    Attributes:
        labels: The labels, in the order of the head.
        max_tokens: See above.
        precision: What the layers above the embeddings compute in.
    """

    def __init__(
        self, model: DistilBertWithWords, tokenizer: Tokenizer, max_tokens: int, thresholds: dict[str, float]
    ) -> None:
        self.labels = model_labels(model.config)
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._embeddings = FrozenLayers(model, 0)
        self._layers = TrainableLayers(model, 0).eval()
        self._calibrations = serving_calibrations(self.labels, thresholds, default_threshold=1.0)
        self._columns = columns_by_task(self.labels)
        self._batch_size = CPU_BATCH_SIZE if model.device.type == "cpu" else BATCH_SIZE
        self._vocabulary_size = model.words.vocabulary_size
        # Converted once: the weights have a row for each of 160,000 features.
        self._idf = text_regression.to_float64(model.words.idf)
        self._weights = text_regression.model_weights(model)
        self._scale = text_regression.to_float64(model.words.scale)
        self.precision = "float32"

    def to_int8(self) -> None:
        """Compute the layers above the embeddings in int8 from now on; only on a CPU.

        Raises:
            BadConfiguration: This machine does not compute in int8.
        """
        to_int8(self._layers)
        self.precision = "int8"

    def predict(self, texts: Sequence[str]) -> list[TextPrediction]:
        """Classify texts.

        Args:
            texts: Of any length; only the first `max_tokens` tokens count. May be empty.

        Returns:
            One prediction per text, in their order.
        """
        if not texts:
            return []
        predictions = self.predict_arrays(texts)
        return [self._prediction(*row) for row in zip(*predictions, strict=True)]

    def predict_arrays(self, texts: Sequence[str]) -> Predictions:
        """Classify texts, as arrays with a column for each of `labels`.

        Args:
            texts: At least one.
        """
        tokens = truncate(tokenize(self._tokenizer, texts, self.max_tokens), self.max_tokens)
        logits = self._encoder_logits(tokens)
        logits += self._regression_logits(tokens)
        return calibrated_predictions(logits, self.labels, self._calibrations)

    def predict_with_embedding(self, text: str) -> tuple[FloatArray, FloatArray]:
        """Classify one text.

        Args:
            text: As for `predict`.

        Returns:
            (labels,), its calibrated probabilities; (dim,), its embedding: the hidden state that the head reads.
        """
        tokens = truncate(tokenize(self._tokenizer, [text], self.max_tokens), self.max_tokens)
        with torch.inference_mode():
            encoded = self._layers.encode(*self._embeddings(tokens))
            logits = self._layers.classify(encoded).cpu().numpy().astype(np.float64)
        logits += self._regression_logits(tokens)
        probabilities = calibrated_predictions(logits, self.labels, self._calibrations).probabilities[0]
        return probabilities, encoded[0].double().cpu().numpy()

    def _encoder_logits(self, tokens: TokenIds) -> FloatArray:
        logits = np.zeros((len(tokens), len(self.labels)))
        with torch.inference_mode():
            for batch in batches_by_length([len(ids) for ids in tokens], self._batch_size):
                hidden, mask = self._embeddings([tokens[i] for i in batch])
                logits[batch] = self._layers(hidden, mask).cpu().numpy()
        return logits

    def _regression_logits(self, tokens: TokenIds) -> FloatArray:
        counts = text_regression.count(tokens, self._vocabulary_size)
        features = text_regression.tfidf(counts, self._idf)
        return text_regression.scaled_logits(features, self._weights, self._scale)

    def _prediction(self, probabilities: FloatArray, predicted: Sequence[bool]) -> TextPrediction:
        tactics, severities = self._columns.get(TACTICS, []), self._columns.get(SEVERITY, [])
        return TextPrediction(
            tactics={self.labels[i]: float(probabilities[i]) for i in tactics},
            predicted_tactics=tuple(self.labels[i] for i in tactics if predicted[i]),
            severity=next((self.labels[i] for i in severities if predicted[i]), None),
            severities={self.labels[i]: float(probabilities[i]) for i in severities} or None,
        )


def load(folder: Path | str, device: str = "cpu") -> TextClassifier:
    """Load a version.

    Args:
        folder: Of the version. No code from it is run.
        device: A device of torch, such as `cpu` or `cuda`.

    Raises:
        Corrupt: Neither `config.json` nor `manifest.json` has the length of texts or the thresholds.
    """
    folder = Path(folder)
    with loading_transformers():
        model = DistilBertWithWords.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    own_memory(model)
    model.to(torch.device(device)).eval()  # type: ignore[arg-type]
    max_tokens = getattr(model.config, "max_tokens", None) or _manifest_value(folder, "max_tokens")
    thresholds = saved_thresholds(model.config)
    tactics = [model_labels(model.config)[i] for i in columns_by_task(model_labels(model.config)).get(TACTICS, [])]
    for tactic in tactics:
        if tactic not in thresholds:
            thresholds[tactic] = float(_manifest_value(folder, "threshold"))
    longest = min(int(max_tokens), model.config.max_position_embeddings)
    return TextClassifier(model, load_tokenizer(folder), longest, thresholds)


def _manifest_value(folder: Path, field: str) -> Any:
    """A field of the training configuration in the manifest: older versions do not have it in `config.json`."""
    path = folder / MANIFEST
    if path.is_file():
        config = msgspec.json.decode(path.read_bytes(), type=Manifest).config
        if field in config:
            return config[field]
    raise Corrupt(
        f"{folder}: neither config.json nor {MANIFEST} has {field}: train the version again, or restore it"
    )
