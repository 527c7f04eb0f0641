"""Versions in MLflow as well, where `MLFLOW_TRACKING_URI` names a server: a mirror of the registry.

    experiment <model>         a run per version: configuration, losses, scores, why, the gate, all files
    registered model <model>   one version per run, tagged with our name of it; alias `champion` where ours is

The registry is the truth. `mirror` compares it with the server and sends what is missing there: a version that was
sent is known again by a tag with the hash of its manifest, so a repeated answer sends nothing twice; a run that
was cut off is completed; the alias follows the champion, forward and back. An MLflow that is away never costs a
retrain: that is logged and counted, and the next version, promotion or rollback brings what it missed.
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
from trainers.core.history import History
from trainers.runs.train_version import HISTORY
from trainers.store.manifest import MANIFEST
from trainers.store.registry import CHAMPION, Registry
from transport.files import sha256_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

FILES = "version"
"""Folder of a run's artifacts that holds the version."""
HASH, VERSION = "sx9.manifest_sha256", "sx9.version"
"""Tags of a run, and the second one of a registered version too."""
PATIENCE_S, ATTEMPTS = 20, 2
"""For one request to the server, unless MLflow's own variables say otherwise."""
_METRICS, _PARAMS = 1_000, 100
"""The most in one request."""
_LONGEST = 5_000
"""Characters of a parameter or a tag; MLflow takes 6,000 and 8,000."""


class Tracker:
    """Mirrors a registry to an MLflow server.

    Args:
        uri: The server, or a folder or database that MLflow takes for one.
        registry: What is mirrored.

    Raises:
        BadConfiguration: MLflow isn't installed.
    """

    def __init__(self, uri: str, registry: Registry) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise BadConfiguration(
                f"MLFLOW_TRACKING_URI={uri}, but the package mlflow is not installed: run "
                "`pip install 'sx9-ml-models[mlflow]'`, or unset it"
            )
        self._uri = uri
        self._registry = registry

    def mirror(self, model: str) -> bool:
        """Bring the server to where the registry is; a second call sends nothing.

        Returns:
            Whether that worked; where it didn't, the reason is logged and counted, and nothing is raised.
        """
        try:
            _mirror(_client(self._uri), self._registry, model)
        except Exception as error:  # noqa: BLE001  whatever ails the server, the version is safe in the registry
            telemetry.TRACKING_FAILURES.labels(model=model, error=type(error).__name__).inc()
            log.warning(
                "%s: not brought to MLflow at %s (%s: %.300s); its versions are whole in %s, the next one is sent "
                "together with what is missing there",
                model, self._uri, type(error).__name__, error, self._registry.home(model),
            )  # fmt: skip
            return False
        return True


def tracker(uri: str | None, registry: Registry) -> Tracker | None:
    """The tracker of a registry; None where no server is named."""
    return Tracker(uri, registry) if uri else None


def _client(uri: str) -> MlflowClient:
    """A client that gives up in time, where its own retries would go on for minutes, and prints nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what mlflow imports; none of them is about what we do
        from mlflow import MlflowClient
        from mlflow import environment_variables as theirs
    wanted = {
        theirs.MLFLOW_HTTP_REQUEST_MAX_RETRIES: ATTEMPTS,
        theirs.MLFLOW_HTTP_REQUEST_TIMEOUT: PATIENCE_S,
        theirs.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT: True,
        theirs.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: False,
    }
    for variable, value in wanted.items():
        if not variable.is_set():
            variable.set(value)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _mirror(client: MlflowClient, registry: Registry, model: str) -> None:
    """Send the versions that the server doesn't have, oldest first, and move the alias."""
    experiment = _experiment(client, model)
    registered = _registered(client, model)
    for manifest in registry.versions(model):
        folder = registry.folder(model, manifest.version)
        digest = sha256_of(folder / MANIFEST)
        if digest not in registered:
            run = _sent(client, experiment, manifest, folder, digest)
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
    """The id of an experiment, which is made if it isn't there."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _registered(client: MlflowClient, model: str) -> dict[str, str]:
    """Hash of the manifest -> number in MLflow of each registered version; the model is made if it isn't there."""
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
    """Everything that a search finds, page after page."""
    page = None
    while True:
        found = search(page)
        yield from found
        page = found.token
        if not page:
            return


def _sent(client: MlflowClient, experiment: str, manifest: Manifest, folder: Path, digest: str) -> str:
    """The run of a version, with everything in it.

    What was sent before the last attempt was cut off has the same names, values and times, so sending it again
    changes nothing.
    """
    from mlflow.entities import Metric, Param, RunTag

    runs = client.search_runs([experiment], f"tags.`{HASH}` = '{digest}'", max_results=1)
    start_ms = manifest.created_ms - int(manifest.seconds * 1000)
    tags = {HASH: digest, VERSION: manifest.version}
    run = (
        runs[0].info.run_id if runs else client.create_run(experiment, start_ms, tags, manifest.version).info.run_id
    )
    points = [Metric(name, value, manifest.created_ms, step) for name, value, step in _metrics(manifest, folder)]
    params = [Param(name, str(value)[:_LONGEST]) for name, value in _params(manifest).items()]
    for start in range(0, len(points), _METRICS):
        client.log_batch(run, metrics=points[start : start + _METRICS])
    for start in range(0, len(params), _PARAMS):
        client.log_batch(run, params=params[start : start + _PARAMS])
    client.log_batch(run, tags=[RunTag(name, value[:_LONGEST]) for name, value in _tags(manifest).items() if value])
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
    """Name, value and step of everything measured; final scores belong to the last step."""
    history = History()
    if (folder / HISTORY).is_file():  # versions of before it was written have none
        history = msgspec.json.decode((folder / HISTORY).read_bytes(), type=History)
    for point in history.points:
        yield "loss", point.loss, point.step
        yield "learning_rate_share", point.rate, point.step
    for step, tasks in history.scores.items():
        for task, metrics in tasks.items():
            yield from ((_name(f"curve/{task}/{metric}"), value, step) for metric, value in metrics.items())
    for name, value in _final(manifest).items():
        yield _name(name), value, history.step


def _final(manifest: Manifest) -> Mapping[str, float]:
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
    """A metric's name with the characters that MLflow takes.

    >>> _name("TF-IDF + logistic regression/tactics/holdout/micro_f1")
    'TF-IDF - logistic regression/tactics/holdout/micro_f1'
    """
    return re.sub(r"[^\w .:/-]", "-", text)
