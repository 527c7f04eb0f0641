"""What the model reads from a dataset: the examples of the graph, links to predict, and techniques with tactics."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.journal import Example, Link, held_out
from trainers.core.dataset import Dataset, OffsetExample
from trainers.models.gnn.graph import is_predicted


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
