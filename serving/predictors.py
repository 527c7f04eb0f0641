"""A version of any model in memory, from nothing but its folder.

    load("output/models/distilbert-mitre")  ──> LoadedVersion ──predict(batch)──> one prediction per element

`manifest.json` in the folder says which model and version it is. Neither settings nor the environment decide
anything, and no code is imported that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError

from schemas.errors import BadConfiguration, Corrupt
from schemas.versions import Manifest
from trainers.models.predictor import Predictor, load_predictor
from trainers.store import manifest as manifests
from trainers.store.manifest import MANIFEST

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class LoadedVersion:
    """A version that answers.

    Attributes:
        folder: Of the version itself, never a link that may point elsewhere later.
        manifest: What it was made of.
        predictor: See `trainers.models.predictor`; each model has its own types of queries and predictions.
    """

    folder: Path
    manifest: Manifest
    predictor: Predictor[Any, Any]

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.manifest.model

    @property
    def version(self) -> str:
        """Its name, such as `v0002`."""
        return self.manifest.version

    @property
    def precision(self) -> Precision | None:
        """What the layers of its classifier compute in; None: another model, which has no choice."""
        return getattr(self.predictor, "precision", None)

    def predict(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Answer a batch: one prediction per query, in order."""
        return self.predictor.predict(batch)


def load(folder: Path | str, *, verify: bool = True, precision: Precision = "float32") -> LoadedVersion:
    """Load a version.

    Args:
        folder: Of the version, or of its model, whose champion is loaded.
        verify: Whether the files are compared with the hashes in the manifest first; about 0.1 s for 100 MB.
        precision: What the layers of `distilbert-mitre` compute in; other models stay as they are.

    Raises:
        Corrupt: There is no manifest, or a file is missing, damaged or unreadable.
        BadConfiguration: The version belongs to no model of today, its base model is not found, or this machine
            does not compute in the precision.
    """
    if precision not in get_args(Precision):
        raise BadConfiguration(f"precision={precision!r}: it is one of {', '.join(get_args(Precision))}")
    # The champion link may be replaced while the files are read: all of them are to come from one version.
    own = (Path(folder) / MANIFEST).resolve().parent
    manifest = manifests.verify(own) if verify else manifests.read(own)
    try:
        predictor = load_predictor(manifest.model, own)
        if precision == "int8" and hasattr(predictor, "to_int8"):
            predictor.to_int8()
        return LoadedVersion(own, manifest, predictor)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise Corrupt(
            f"{own} can't be loaded ({type(error).__name__}: {error}): train the version again, or restore it"
        ) from error
