"""MITRE ATLAS: techniques against systems with artificial intelligence, one compiled YAML file.

techniques ──> techniques of the domain `atlas`; a sub-technique has the tactics of its parent
mitigations ──> entities, and a `mitigates` relationship to each technique        case studies, tactics ──> entities
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from schemas.encoding import encode_event
from schemas.errors import BadRecord
from schemas.events import Entity, Event, NodeRef, Relationship, Technique
from schemas.models import MODELS
from schemas.topics import ENTITIES, RELATIONSHIPS, TECHNIQUES
from streams.fetchers.base.feed import FeedSpec, Outcome, rejected_item
from streams.fetchers.formats import fields
from streams.fetchers.formats.fields import Fields, mappings, paragraphs, required, text, texts
from streams.fetchers.sources.resource import ParsedResource, Resource, file_named

NAME = "atlas"
DOMAIN = "atlas"


class _Matrix:
    """What the events of an ATLAS release need from each other.

    Args:
        document: The release.
        feed: Name of the feed.
    """

    def __init__(self, document: Fields, feed: str) -> None:
        matrix = next(iter(mappings(document, "matrices")), {})
        self.feed, self.release = feed, text(document, "version")
        self.tactics, self.techniques = mappings(matrix, "tactics"), mappings(matrix, "techniques")
        self.mitigations, self.case_studies = mappings(matrix, "mitigations"), mappings(document, "case-studies")
        self.short_names = {text(each, "id"): _short(text(each, "name")) for each in self.tactics}
        self.by_id: Mapping[str, Fields] = {text(each, "id"): each for each in self.techniques}

    def tactics_of(self, technique: Fields) -> tuple[str, ...]:
        """The short names of a technique's tactics; a sub-technique has those of its parent."""
        parent = self.by_id.get(text(technique, "subtechnique-of"), {})
        ids = texts(technique, "tactics") or texts(parent, "tactics")
        return tuple(sorted({self.short_names[each] for each in ids if each in self.short_names}))


def parse(data: bytes, _file_name: str, feed: str) -> ParsedResource:
    """The techniques, mitigations, tactics and case studies of a release, and what relates them.

    Raises:
        BadRecord: `bad-yaml`, `not-an-object`, `empty`; `wrong-form`: it has no techniques.
    """
    matrix = _Matrix(fields.yaml_mapping(data), feed)
    if not matrix.techniques:
        raise BadRecord("wrong-form", "the file has no matrix with techniques: check the source")
    parts: tuple[tuple[Iterable[Fields], Callable[[Fields, _Matrix], Iterator[Event]]], ...] = (
        (matrix.techniques, _technique),
        (matrix.tactics, _tactic),
        (matrix.mitigations, _mitigation),
        (matrix.case_studies, _case_study),
    )
    events = [outcome for items, make in parts for outcome in _outcomes(items, make, matrix)]
    return ParsedResource(
        matrix.release, events, is_complete=all(text(i, "id") for items, _ in parts for i in items)
    )


def _outcomes(
    items: Iterable[Fields], make: Callable[[Fields, _Matrix], Iterator[Event]], matrix: _Matrix
) -> Iterator[Outcome]:
    for position, item in enumerate(items):
        try:
            yield from [encode_event(event) for event in make(item, matrix)]
        except BadRecord as error:
            name = text(item, "id") or f"item-{position}"
            yield rejected_item(f"{matrix.feed}:{name[:100]}", error, repr(item).encode())


def _short(name: str) -> str:
    """The short name of a tactic, as ATT&CK writes them.

    >>> _short("AI Model Access")
    'ai-model-access'
    """
    return "-".join(name.lower().replace("&", "and").split())


def _technique(item: Fields, matrix: _Matrix) -> Iterator[Event]:
    key = required(item, "id", 40)
    yield Technique(
        id=key,
        feed=matrix.feed,
        release=matrix.release,
        stix_id=key,
        name=required(item, "name", 500),
        text=text(item, "description"),
        tactics=matrix.tactics_of(item),
        domain=DOMAIN,
    )
    parent = matrix.by_id.get(text(item, "subtechnique-of"))
    if parent is not None:
        yield _relationship("subtechnique-of", _node(item, matrix), _node(parent, matrix), "", matrix)


def _tactic(item: Fields, matrix: _Matrix) -> Iterator[Event]:
    yield _entity(item, "tactic", text(item, "description"), matrix, aliases=(_short(text(item, "name")),))


def _mitigation(item: Fields, matrix: _Matrix) -> Iterator[Event]:
    mitigation = _entity(item, "mitigation", text(item, "description"), matrix)
    yield mitigation
    called = mitigation.external_id
    source = NodeRef(id=mitigation.id, kind=mitigation.kind, name=mitigation.name, external_id=called)
    for use in mappings(item, "techniques"):
        if target := matrix.by_id.get(text(use, "id")):
            yield _relationship("mitigates", source, _node(target, matrix), text(use, "use"), matrix)


def _case_study(item: Fields, matrix: _Matrix) -> Iterator[Event]:
    steps = mappings(item, "procedure")
    yield _entity(
        item,
        "case-study",
        paragraphs(text(item, "summary"), *(text(step, "description") for step in steps)),
        matrix,
        category=text(item, "case-study-type"),
        techniques=tuple(sorted({key for step in steps if (key := text(step, "technique"))})),
        references=tuple(filter(None, (text(each, "url") for each in mappings(item, "references")))),
        author=text(item, "reporter"),
        date=text(item, "incident-date"),
    )


def _entity(item: Fields, kind: str, description: str, matrix: _Matrix, **more: str | tuple[str, ...]) -> Entity:
    return Entity(
        id=required(item, "id", 40),
        feed=matrix.feed,
        release=matrix.release,
        kind=kind,
        name=required(item, "name", 500),
        text=description,
        external_id=required(item, "id", 40),
        **more,  # type: ignore[arg-type]
    )


def _node(technique: Fields, matrix: _Matrix) -> NodeRef:
    return NodeRef(
        id=required(technique, "id", 40),
        kind="technique",
        name=text(technique, "name"),
        tactics=matrix.tactics_of(technique),
    )


def _relationship(relation: str, source: NodeRef, target: NodeRef, said: str, matrix: _Matrix) -> Relationship:
    return Relationship(
        id=f"{NAME}:{source.id}>{relation}>{target.id}",
        feed=matrix.feed,
        release=matrix.release,
        relation=relation,
        source=source,
        target=target,
        text=said,
        domain=DOMAIN,
    )


FEED = FeedSpec(
    name=NAME,
    default_source="https://raw.githubusercontent.com/mitre-atlas/atlas-data/main/dist/ATLAS.yaml",
    topics=(TECHNIQUES, ENTITIES, RELATIONSHIPS),
    collection=Resource(file_in=file_named("dist/ATLAS.yaml", "ATLAS.yaml"), parse=parse),
    modules=(__name__, *fields.MODULES),
    about="techniques against artificial intelligence",
    teaches=MODELS,
)
