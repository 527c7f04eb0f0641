"""The questions that a version must answer before it serves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.errors import Corrupt
from serving.predictors import LoadedVersion

TEXTS = ("The attacker dumps credentials from LSASS memory with Mimikatz.", "", "word " * 2_000, "攻撃 🦠 \u0000")


def self_test(version: LoadedVersion) -> None:
    """Ask a version fixed questions, and look at the form of its answers.

    Raises:
        Corrupt: It gives no answer, or an impossible one: it must not serve.
    """
    test = _TESTS.get(version.model)
    if test is None:
        return
    try:
        fault = test(version)
    except Exception as error:  # whatever it is, the version does not answer
        raise Corrupt(
            f"{version.folder} fails its self-test ({type(error).__name__}: {error}): train the version again, or "
            "restore it"
        ) from error
    if fault:
        raise Corrupt(f"{version.folder} fails its self-test: {fault}: train the version again, or restore it")


def _classifier(version: LoadedVersion) -> str:
    answers = version.predict(TEXTS)
    if len(answers) != len(TEXTS):
        return f"{len(answers)} answers to {len(TEXTS)} texts"
    labels = {*answers[0].tactics, *(answers[0].severities or ())}
    if labels != set(version.manifest.labels):
        return f"its labels are {sorted(labels)}, those in its manifest {sorted(version.manifest.labels)}"
    return _probabilities(p for one in answers for p in (*one.tactics.values(), *(one.severities or {}).values()))


def _explainer(version: LoadedVersion) -> str:
    from schemas.journal import Instruction

    answers = version.predict([Instruction(instruction="Explain OS Credential Dumping (T1003).", output="")])
    return "" if len(answers) == 1 and isinstance(answers[0], str) else f"its answer is {answers!r}"


def _links(version: LoadedVersion) -> str:
    from trainers.models.gnn.predict import UnseenSource

    kind = next(label.partition(":")[2] for label in version.predictor.config.shape.labels)  # type: ignore[attr-defined]
    relation = next(label.partition(":")[0] for label in version.predictor.config.shape.labels)  # type: ignore[attr-defined]
    answers = version.predict([UnseenSource(kind=kind, relation=relation)])
    if not answers[0]:
        return "it ranks no technique"
    return _probabilities(technique.probability for technique in answers[0])


def _probabilities(values: Iterable[float]) -> str:
    bad = [value for value in values if not (math.isfinite(value) and 0.0 <= value <= 1.0)]
    return f"{len(bad)} of its probabilities are not between 0 and 1, such as {bad[0]}" if bad else ""


_TESTS: Mapping[str, Callable[[Any], str]] = {
    "distilbert-mitre": _classifier,
    "phi3-mitre-lora": _explainer,
    "gnn-threat": _links,
}
