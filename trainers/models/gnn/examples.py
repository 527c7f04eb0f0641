"""What the model reads from a dataset: the examples of the graph, links to predict, and techniques with tactics."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.journal import Example, Link, Node, Source, held_out
from trainers.core.dataset import Dataset, OffsetExample
from trainers.core.holdout import Holdout
from trainers.models.gnn.graph import TARGET_KIND, is_predicted


def graph_examples(data: Dataset) -> list[Example]:
    """All examples of a dataset in order of offset, each once."""
    examples = dict([*data.context, *data.old, *data.recent, *data.train])
    return [examples[offset] for offset in sorted(examples)]


def holdout_links(data: Dataset) -> frozenset[Link]:
    """The links of all holdout examples, whether they are evaluated on or not: no version may see them."""
    trained = {offset for offset, _ in data.train}
    context = [example for offset, example in data.context if offset not in trained and held_out(example)]
    evaluated = [example for _, example in data.old + data.recent]
    return frozenset(example.link for example in [*context, *evaluated] if example.link)


def predicted_links(examples: Iterable[OffsetExample]) -> list[Link]:
    """The links among some examples that the model predicts."""
    return [example.link for _, example in examples if example.link and is_predicted(example.link)]


def retired_tactics(known: Iterable[str], data: Dataset) -> frozenset[str]:
    """The known tactics that no current technique has any more.

    The context has all current examples. Without it, and without rehearsal, this can't be known, and no tactic is
    retired; a rehearsal is stratified by label, so it has all that are in use.
    """
    if not data.context and not data.rehearsal:
        return frozenset()
    current = data.context + data.train + data.old + data.recent
    return frozenset(known) - {name for _, names in techniques_with_tactics(current) for name in names}


def techniques_with_tactics(examples: Iterable[OffsetExample]) -> list[tuple[str, tuple[str, ...]]]:
    """Id and tactics of each technique among some examples."""
    return [(example.node.id, example.labels) for _, example in examples if example.node and example.labels]


def all_links(holdout: Holdout) -> frozenset[Link]:
    """The links that are true by all that is current, of the sources that a holdout asks about."""
    sources = {link.source for link in predicted_links(holdout.examples)}
    links = (example.link for _, example in holdout.current + holdout.examples)
    return frozenset(link for link in links if link and link.source in sources)


def nodes_without_texts(holdout: Holdout) -> tuple[OffsetExample, ...]:
    """The techniques, and the ends of links to find, that no example of `holdout.known` is about."""
    nodes = {example.node.id: example.node.kind for _, example in holdout.current if example.node}
    needed = {name: kind for name, kind in nodes.items() if kind == TARGET_KIND}
    for link in predicted_links(holdout.examples):
        needed |= {link.source: link.source_kind, link.target: link.target_kind}
    there = {example.node.id for _, example in holdout.known + holdout.examples if example.node}
    source = Source("", 0, 0)
    return tuple(
        (-number, Example(source=source, key=f"node:{name}", hash="", node=Node(id=name, kind=kind)))
        for number, (name, kind) in enumerate(sorted(needed.items()), 1)
        if name not in there
    )
