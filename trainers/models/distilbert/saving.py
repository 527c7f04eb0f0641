"""The files of a version, and what its `config.json` has beyond that of any DistilBERT.

model.safetensors              the weights, with the calibration folded into them
words_precision.safetensors    the precision of the text regression's weights, for children
config.json                    labels, `at_least_one`, `thresholds`, `max_tokens`
network.py                     the network, for `trust_remote_code`
tokenizer.json, ...            as in the base model
precision_recall.png           precision against recall on the holdout
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from trainers.bases.layout import TOKENIZER_FILES
from trainers.bases.quiet import quiet_transformers
from trainers.core.dataset import OffsetExample
from trainers.core.metrics.classification import label_matrix
from trainers.core.probabilities import FloatArray
from trainers.models.distilbert.calibration import Calibrations
from trainers.models.distilbert.head import model_labels
from trainers.models.distilbert.labels import columns_by_task, label_sets, rows_of_task
from trainers.models.distilbert.network import DistilBertWithWords
from trainers.models.distilbert.text_regression import PRECISION_FILE
from trainers.reporting.precision_recall import Panel, save_precision_recall


def fold_in_calibration(model: DistilBertWithWords, calibrations: Calibrations) -> None:
    """Multiply the calibration into the weights, and put the thresholds into the configuration.

    Args:
        model: Changed in place; its logits are calibrated from then on.
        calibrations: One for each task that the model has labels of.
    """
    labels = model_labels(model.config)
    thresholds: dict[str, float] = {}
    with torch.no_grad():
        for task, columns in columns_by_task(labels).items():
            calibration = calibrations[task]
            model.classifier.weight[columns] *= calibration.scale
            model.classifier.bias[columns] *= calibration.scale
            model.classifier.bias[columns] += calibration.shift
            model.words.scale[columns] *= calibration.scale
            thresholds |= zip((labels[i] for i in columns), calibration.thresholds, strict=False)
    model.config.thresholds = thresholds


def save_version(
    model: DistilBertWithWords, precision: torch.Tensor, max_tokens: int, tokenizer_folder: Path, folder: Path
) -> None:
    """Write the weights, the configuration, the network's code and the tokenizer.

    Args:
        model: Ends on the CPU, in evaluation mode.
        precision: (features + 1, labels), of the text regression's weights.
        max_tokens: Length to which texts are truncated, [CLS] and [SEP] included.
        tokenizer_folder: Folder to copy the tokenizer from.
        folder: Exists.
    """
    model.cpu().eval()  # type: ignore[no-untyped-call]
    model.config.max_tokens = max_tokens
    with quiet_transformers():
        model.save_pretrained(folder)
    save_file({"precision": precision}, folder / PRECISION_FILE)
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)


def plot_precision_recall(
    probabilities: FloatArray, examples: Sequence[OffsetExample], labels: Sequence[str], folder: Path
) -> None:
    """Draw precision against recall, one panel per task.

    Args:
        probabilities: (examples, labels).
        examples: The holdout.
        labels: Names of the columns.
        folder: Gets `precision_recall.png`.
    """
    sets = label_sets(examples)
    truth = label_matrix(sets, labels)
    panels = []
    for task, columns in columns_by_task(labels).items():
        cells = np.ix_(rows_of_task(sets, task), columns)
        panels.append(Panel(task, [labels[i] for i in columns], probabilities[cells], truth[cells]))
    save_precision_recall(panels, folder)
