"""A mirror of the registry in MLflow, if `MLFLOW_TRACKING_URI` names a server.

    experiment <model>         one run per version: configuration, losses, scores, reason, gate, all files
    registered model <model>   one version per run, tagged with the name of our version; alias `champion`

The registry is the source of truth. `mirror` compares it with the server and sends what is missing there. A version
is tagged with the hash of its manifest, so it is sent only once. An incomplete run is completed. The alias follows
the champion, including rollbacks. If MLflow does not answer, the failure is logged and counted, and the retrain
goes on; the next call sends what is missing.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.errors import BadConfiguration
from schemas.scores import Evaluation
from schemas.versions import Manifest
from trainers import telemetry
from trainers.core import gate
from trainers.core.history import HISTORY_FILE, History
from trainers.store.manifest import MANIFEST
from trainers.store.registry import CHAMPION, Registry
from transport.files import sha256_of
from transport.secrets import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

FILES = "version"
"""The folder with the files of the version, in the artifacts of a run."""
HASH, VERSION = "sx9.manifest_sha256", "sx9.version"
"""Tags of runs and of registered versions."""
REQUEST_TIMEOUT_S, MAX_RETRIES = 20, 2
"""Of one request to the server, unless the variables of MLflow set other values."""
_METRICS_PER_REQUEST, _PARAMS_PER_REQUEST = 1_000, 100
_MAX_CHARS = 5_000
"""Longer parameters and tags are truncated; MLflow allows 6,000 and 8,000 characters."""


class MlflowMirror:
    """Mirrors a registry to an MLflow server.

    Args:
        uri: A tracking URI: a server, a folder or a database.
        registry: The registry to mirror.

    Raises:
        BadConfiguration: MLflow is not installed.
    """

    def __init__(self, uri: str, registry: Registry) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise BadConfiguration(
                f"MLFLOW_TRACKING_URI={without_secrets(uri)}, but the package mlflow is not installed: run "
                "`pip install 'sx9-ml-models[mlflow]'`, or unset it"
            )
        self._uri = uri
        self._registry = registry

    def mirror(self, model: str) -> bool:
        """Send what the server lacks. Idempotent.

        Args:
            model: The model whose versions are mirrored.

        Returns:
            Whether it succeeded. A failure is logged and counted, and never raised.
        """
        try:
            _mirror(_client(self._uri), self._registry, model)
        except Exception as error:  # noqa: BLE001  whatever fails here, the version is safe in the registry
            telemetry.TRACKING_FAILURES.labels(model=model, error=type(error).__name__).inc()
            log.warning(
                "%s: not mirrored to MLflow at %s (%s: %.300s); the versions in %s are complete, and the next call "
                "sends what is missing",
                model, without_secrets(self._uri), type(error).__name__, without_secrets(str(error)),
                self._registry.home(model),
            )  # fmt: skip
            return False
        return True


def mlflow_mirror(uri: str | None, registry: Registry) -> MlflowMirror | None:
    """The mirror of a registry; None without a tracking URI.

    Raises:
        BadConfiguration: MLflow is not installed.
    """
    return MlflowMirror(uri, registry) if uri else None


def _client(uri: str) -> MlflowClient:
    """A client that prints nothing and fails within a minute; by default it retries for several minutes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the imports of mlflow, not about our code
        from mlflow import MlflowClient
        from mlflow import environment_variables as variables
    defaults = {
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES: MAX_RETRIES,
        variables.MLFLOW_HTTP_REQUEST_TIMEOUT: REQUEST_TIMEOUT_S,
        variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT: True,
        variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: False,
    }
    for variable, value in defaults.items():
        if not variable.is_set():  # type: ignore[no-untyped-call]
            variable.set(value)  # type: ignore[no-untyped-call]
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _mirror(client: MlflowClient, registry: Registry, model: str) -> None:
    """Send the versions that the server does not have, oldest first, and move the alias."""
    experiment = _experiment(client, model)
    registered = _registered(client, model)
    for manifest in registry.versions(model):
        folder = registry.folder(model, manifest.version)
        digest = sha256_of(folder / MANIFEST)
        if digest not in registered:
            run = _sent_run(client, experiment, manifest, folder, digest)
            tags = {HASH: digest, VERSION: manifest.version}
            made = client.create_model_version(model, f"runs:/{run}/{FILES}", run, tags=tags, await_creation_for=0)
            registered[digest] = str(made.version)
            log.info("%s %s: in MLflow as version %s, run %s", model, manifest.version, made.version, run)
    champion = registry.champion(model)
    if champion is not None:
        number = registered[sha256_of(registry.folder(model, champion) / MANIFEST)]
        if client.get_registered_model(model).aliases.get(CHAMPION) != number:
            client.set_registered_model_alias(model, CHAMPION, number)


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment; it is created if it does not exist."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _registered(client: MlflowClient, model: str) -> dict[str, str]:
    """Hash of the manifest -> MLflow version. The registered model is created if it does not exist."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    found = _pages(lambda page: client.search_model_versions(f"name = '{model}'", page_token=page))
    return {each.tags[HASH]: str(each.version) for each in found if HASH in each.tags}


def _pages(search: Any) -> Iterator[Any]:
    """All results of a paged search."""
    page = None
    while True:
        found = search(page)
        yield from found
        page = found.token
        if not page:
            return


def _sent_run(client: MlflowClient, experiment: str, manifest: Manifest, folder: Path, digest: str) -> str:
    """Send the run of a version, and return its id.

    If an earlier attempt was interrupted, its values are sent again; since names, values and times are the same,
    this changes nothing.
    """
    from mlflow.entities import Metric, Param, RunTag

    runs = client.search_runs([experiment], f"tags.`{HASH}` = '{digest}'", max_results=1)
    start_ms = manifest.created_ms - int(manifest.seconds * 1000)
    tags = {HASH: digest, VERSION: manifest.version}
    run = (
        runs[0].info.run_id if runs else client.create_run(experiment, start_ms, tags, manifest.version).info.run_id
    )
    points = [Metric(name, value, manifest.created_ms, step) for name, value, step in _metrics(manifest, folder)]
    params = [Param(name, str(value)[:_MAX_CHARS]) for name, value in _params(manifest).items()]
    for start in range(0, len(points), _METRICS_PER_REQUEST):
        client.log_batch(run, metrics=points[start : start + _METRICS_PER_REQUEST])
    for start in range(0, len(params), _PARAMS_PER_REQUEST):
        client.log_batch(run, params=params[start : start + _PARAMS_PER_REQUEST])
    client.log_batch(
        run, tags=[RunTag(name, value[:_MAX_CHARS]) for name, value in _tags(manifest).items() if value]
    )
    client.log_artifacts(run, str(folder), FILES)
    client.set_terminated(run, "FINISHED", manifest.created_ms)
    return str(run)


def _params(manifest: Manifest) -> dict[str, Any]:
    return manifest.config | {
        "base": manifest.base,
        "base_sha256": manifest.base_sha256,
        "examples_trained": manifest.examples_trained,
        "examples_left_out": manifest.examples_left_out,
    }


def _tags(manifest: Manifest) -> dict[str, str]:
    refused = gate.why_refused(manifest.gate)
    return {
        "sx9.trigger": manifest.trigger,
        "sx9.reason": manifest.reason,
        "sx9.parent": manifest.parent,
        "sx9.gate": "passed" if manifest.promoted else f"refused: {refused}",
        "sx9.labels_from": ", ".join(manifest.taxonomies),
    }


def _metrics(manifest: Manifest, folder: Path) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of every metric; the final scores belong to the last step."""
    history = History()
    if (folder / HISTORY_FILE).is_file():  # older versions have no such file
        history = msgspec.json.decode((folder / HISTORY_FILE).read_bytes(), type=History)
    for point in history.points:
        yield "loss", point.loss, point.step
        yield "learning_rate_share", point.rate, point.step
    for step, tasks in history.scores.items():
        for task, metrics in tasks.items():
            yield from ((_name(f"curve/{task}/{metric}"), value, step) for metric, value in metrics.items())
    for name, value in _final_metrics(manifest).items():
        yield _name(name), value, history.step


def _final_metrics(manifest: Manifest) -> Mapping[str, float]:
    final = _flat(manifest.evaluation) | {"seconds": manifest.seconds}
    final |= {f"parent/{name}": value for name, value in _flat(manifest.parent_evaluation).items()}
    for baseline, evaluation in manifest.baselines.items():
        final |= {f"{baseline}/{name}": value for name, value in _flat(evaluation).items()}
    return final


def _flat(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as MLflow groups metrics: `tactics/holdout/macro_f1` -> value."""
    flat: dict[str, float] = {}
    for task, splits in evaluation.items():
        for split, scores in splits.items():
            values = scores.metrics | scores.extra | {"examples": float(scores.examples)}
            flat |= {f"{task}/{split}/{metric}": value for metric, value in values.items()}
    return flat


def _name(text: str) -> str:
    """The name of a metric, with the characters that MLflow does not allow replaced.

    >>> _name("TF-IDF + logistic regression/tactics/holdout/micro_f1")
    'TF-IDF - logistic regression/tactics/holdout/micro_f1'
    """
    return re.sub(r"[^\w .:/-]", "-", text)
