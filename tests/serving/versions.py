"""Versions for the tests of serving: trained in seconds on small journals, or made at once without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schemas.versions import Manifest
from trainers.core.dataset import split
from trainers.core.gate import GateLimits
from trainers.core.progress import no_progress
from trainers.store import manifest as manifests
from trainers.store.registry import Registry

DISTILBERT = "distilbert-mitre"
TACTICS = ("collection", "discovery", "execution", "impact")
SEVERITIES = ("severity:high", "severity:low")
EXAMPLES = 120


def train(registry: Registry, model: str, cache: Path) -> Path:
    """Train v0001 of a model on its small journal, and promote it.

    Returns:
        The folder of the version.
    """
    from tests.trainers.journals import CONFIGS, JOURNALS, labels_of
    from trainers.bases.resolve import resolve
    from trainers.models.recipe import recipe
    from trainers.runs.train_version import TrainingRequest, train_version

    journal, config = JOURNALS[model](EXAMPLES), CONFIGS[model]
    base = resolve(config.base, cache, recipe(model).BASE_ARCHITECTURE)
    request = TrainingRequest(
        model=model, version="v0001", trigger="t@1", reason="volume", labels=labels_of(journal)
    )
    limits = GateLimits(min_examples=5)
    train_version(registry, request, split(journal, 10_000, 17), base, config, limits, no_progress)
    registry.promote(model, "v0001")
    return registry.folder(model, "v0001")


def make(registry: Registry, cache: Path, version: str, probabilities: Mapping[str, float] | None = None) -> Path:
    """Write a version of `distilbert-mitre` that was never trained: it says nearly the same of every text.

    Args:
        registry: Gets it; it is not promoted.
        cache: Of the tiny base model.
        version: Its name.
        probabilities: Label -> about what it says, 0 to 1, before tactics are conditioned on at least one.

    Returns:
        Its folder.
    """
    import torch

    from schemas.recipes.distilbert import DistilbertConfig
    from trainers.bases.resolve import resolve
    from trainers.models.distilbert.head import load_base
    from trainers.models.distilbert.saving import save_version

    base = resolve("tiny", cache)
    labels = (*TACTICS, *SEVERITIES)
    model = load_base(base.folder, labels, DistilbertConfig(base="tiny"))
    said = torch.tensor([(probabilities or {}).get(label, 0.1) for label in labels])
    with torch.no_grad():
        model.classifier.weight.mul_(0.01)
        model.classifier.bias.copy_(said.logit())
    model.config.thresholds = dict.fromkeys(TACTICS, 0.5)
    features = model.words.vocabulary_size + 2**17
    with registry.draft(DISTILBERT, version) as folder:
        save_version(model, torch.zeros(features + 1, len(labels)), 32, base.folder, folder)
        manifest = Manifest(model=DISTILBERT, version=version, trigger="t@1", reason="volume", labels=labels)
        manifests.write(folder, manifest_with_files(folder, manifest))
    return registry.folder(DISTILBERT, version)


def manifest_with_files(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with the hashes of the files that are there now."""
    import msgspec

    return msgspec.structs.replace(manifest, files=manifests.file_hashes(folder))
