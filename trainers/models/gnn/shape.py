"""The sizes of a network's tensors, and how they grow from a version to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from schemas.errors import BadConfiguration
from trainers.core.metrics.classification import extend_labels
from trainers.models.gnn.graph import Graph


class Shape(msgspec.Struct, frozen=True):
    """What the tensors of a network are indexed by.

    Each tuple of a parent is a prefix of its child's, until the child drops tactics that no technique has any more.

    Attributes:
        text: Numbers in a text vector.
        width: Numbers in an embedding.
        kinds: Kinds of nodes.
        types: Edge types, `<kind of the source>:<relation>:<kind of the target>`.
        labels: Labels of link rows, `<relation>:<kind of the source>`.
        relations: Relations of link rows.
        tactics: Tactics of techniques.
    """

    text: int
    width: int
    kinds: tuple[str, ...]
    types: tuple[str, ...]
    labels: tuple[str, ...]
    relations: tuple[str, ...]
    tactics: tuple[str, ...]


def first_shape(text: int, width: int) -> Shape:
    """The shape of a network that knows no kinds, types, labels, relations or tactics yet."""
    return Shape(text, width, (), (), (), (), ())


def extend_shape(shape: Shape, text: int, graph: Graph, row_labels: Iterable[str], tactics: Iterable[str]) -> Shape:
    """A shape with room for all that a graph and its links have, and for all that was there before.

    Args:
        shape: Of the parent, or `first_shape`.
        text: Numbers in the text vectors of this run.
        graph: Its kinds and edge types are added.
        row_labels: Labels of link rows to add, with their relations.
        tactics: To add.

    Raises:
        BadConfiguration: The parent's text vectors have another size.
    """
    if shape.text != text:
        raise BadConfiguration(
            f"the parent's text vectors have {shape.text} numbers, those of this base model {text}: set the base "
            "model of the first version, or start a new first version"
        )
    labels = sorted(set(row_labels))
    return Shape(
        text=text,
        width=shape.width,
        kinds=extend_labels(shape.kinds, [[node.kind for node in graph.nodes]]),
        types=extend_labels(shape.types, [graph.type_names]),
        labels=extend_labels(shape.labels, [labels]),
        relations=extend_labels(shape.relations, [[label.partition(":")[0] for label in labels]]),
        tactics=extend_labels(shape.tactics, [sorted(set(tactics))]),
    )


def positions(names: Sequence[str]) -> dict[str, int]:
    """Name -> its position.

    >>> positions(("group", "tool"))
    {'group': 0, 'tool': 1}
    """
    return {name: i for i, name in enumerate(names)}
