"""`sx9 predict` for the command line: which version answers, and from which techniques."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from schemas.errors import BadConfiguration, RetryLater
from serving import threat_graph
from serving.answers.graph import find_subject
from serving.predictors import load
from streams.settings import Settings
from sx9_ml_models.asking import graph
from trainers.models.gnn.predict import LinkPredictor
from trainers.store.shared_registry import open_registry

log = logging.getLogger(__name__)

MODEL = "gnn-threat"


class Predicted(msgspec.Struct, frozen=True):
    """What probably comes next.

    Attributes:
        model, version: What says so.
        seen: The techniques that it was predicted from.
        unknown: Those given that the version does not know.
        techniques: Most probable first: `id`, `name`, `probability`, and `evidence`: who uses it.
    """

    model: str
    version: str
    seen: tuple[str, ...]
    unknown: tuple[str, ...]
    techniques: list[dict[str, Any]]


def predicted(settings: Settings, seen: Sequence[str], actor: str, kind: str, k: int) -> Predicted:
    """The techniques that probably come next, by the champion of `gnn-threat`.

    Args:
        settings: Name the folder of the models, and Neo4j or the state folder in which one runs.
        seen: Ids of techniques; in any case, empty ones are left out.
        actor: Whose techniques in the graph count as seen, too: a name, or where Neo4j runs an alias or an id.
        kind: Of the source: `group`, `malware`, `tool`, `campaign`.
        k: How many techniques, at least 1.

    Raises:
        BadConfiguration: There is no champion, or it knows none of the techniques.
        NotFound: It does not know the actor or the kind.
        Corrupt: Its files are damaged.
    """
    registry = open_registry(settings)
    champion = registry.champion(MODEL)
    if champion is None:
        raise BadConfiguration(f"{MODEL} has no champion in {registry.root} yet: see `sx9 models list -m {MODEL}`")
    version = load(registry.folder(MODEL, champion))
    predictor = cast(LinkPredictor, version.predictor)
    ids = [technique.strip().upper() for technique in seen if technique.strip()]
    known = threat_graph.seen_of(predictor, ids, _node_of(settings, actor) if actor else None)
    if not known.seen:
        given = ", ".join(known.unknown) or "none were given"
        raise BadConfiguration(
            f"{MODEL} {champion} knows no technique that was seen ({given}): give some, such as --seen T1059,T1566"
        )
    (ranked,) = predictor.predict([threat_graph.source(predictor, kind, known.seen)], k)
    techniques = threat_graph.described(predictor, ranked, known.seen)
    return Predicted(MODEL, champion, known.seen, known.unknown, techniques)


def _node_of(settings: Settings, actor: str) -> str:
    """The node that Neo4j has for an id, a name or an alias; else what was given, which may be a name."""
    try:
        with graph(settings) as driver:
            return (find_subject(driver, actor) if driver else None) or actor
    except (RetryLater, BadConfiguration) as error:
        log.warning("the actor is looked for by its name alone: %s", error)
        return actor
