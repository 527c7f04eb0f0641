"""Views of a graph: the whole of it where it is small enough, else a sampled neighbourhood of some nodes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import torch

from schemas.journal import Link
from schemas.recipes.gnn import GnnConfig
from trainers.models.gnn.graph import Graph, Ints, LinkRow, induced_subgraph, link_rows, without_links
from trainers.models.gnn.view import View

HOPS = 2
"""As many as the network has convolutions."""


class Neighbourhood(msgspec.Struct, frozen=True):
    """A view of a part of a graph.

    Attributes:
        view: The part.
        position: Node index in the graph -> node index in the view.
    """

    view: View
    position: Mapping[int, int]

    def localize(self, rows: Sequence[LinkRow]) -> list[LinkRow]:
        """Rows of the graph as rows of the view."""
        position = self.position
        return [
            LinkRow(position[row.source], row.label, tuple(position[target] for target in row.targets))
            for row in rows
        ]


class GraphViews:
    """A graph and the views of it.

    Args:
        graph: The graph.
        texts: (nodes, dim), float32: text vectors.
        view_of: Makes a view of a graph and its text vectors.
        config: Its `max_nodes` and `neighbours` count.

    Attributes:
        graph, texts: As given.
        index: Id -> index of the node.
        rows: Link rows of the graph.
        is_whole: Whether the graph is viewed as a whole.
    """

    def __init__(
        self,
        graph: Graph,
        texts: torch.Tensor,
        view_of: Callable[[Graph, torch.Tensor], View],
        config: GnnConfig,
    ) -> None:
        self.graph, self.texts, self._view_of, self._config = graph, texts, view_of, config
        self.index = graph.index
        self.rows = link_rows(graph)
        self.is_whole = len(graph.nodes) <= config.max_nodes
        self._whole = self._whole_graph() if self.is_whole else None

    def _whole_graph(self) -> Neighbourhood:
        return Neighbourhood(self._view_of(self.graph, self.texts), {i: i for i in range(len(self.graph.nodes))})

    def without_links(self, links: Iterable[Link]) -> GraphViews:
        """The views of the same graph without some links."""
        return GraphViews(without_links(self.graph, links), self.texts, self._view_of, self._config)

    def around(self, nodes: Sequence[int], seed: int) -> Neighbourhood:
        """A view that has some nodes and all techniques.

        Args:
            nodes: Indices.
            seed: Of the sample; has no effect on a graph that is viewed as a whole.
        """
        if self._whole:
            return self._whole
        seeds = sorted({*nodes, *self.graph.targets})
        sampled = sample_neighbourhood(self.graph, seeds, (self._config.neighbours,) * HOPS, seed)
        position = {int(node): i for i, node in enumerate(sampled)}
        view = self._view_of(induced_subgraph(self.graph, sampled), self.texts[torch.from_numpy(sampled)])
        return Neighbourhood(view, position)


def sample_neighbourhood(graph: Graph, seeds: Sequence[int], per_hop: Sequence[int], seed: int) -> Ints:
    """Sample nodes around some nodes: by PyG's `NeighborLoader` if `pyg-lib` is installed, else by `sample_nodes`.

    Args:
        graph: Edges are followed in both directions.
        seeds: Indices of nodes.
        per_hop: At most this many neighbours of a node at each hop.
        seed: Of the sample. Torch's global random state is not changed.

    Returns:
        (sampled,), int64: indices of nodes, each once, the seeds first.
    """
    if importlib.util.find_spec("pyg_lib") is None:
        return sample_nodes(graph, seeds, per_hop, np.random.default_rng(seed))
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader

    edges = torch.from_numpy(np.concatenate([graph.edges, graph.edges[::-1]], axis=1).copy())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loader = NeighborLoader(
            Data(edge_index=edges, num_nodes=len(graph.nodes)),
            num_neighbors=list(per_hop),
            input_nodes=torch.tensor(list(seeds)),
            batch_size=len(seeds),
        )
        sampled: Ints = next(iter(loader)).n_id.numpy()
    return sampled


def sample_nodes(graph: Graph, seeds: Sequence[int], per_hop: Sequence[int], rng: np.random.Generator) -> Ints:
    """Nodes around some nodes (neighbour sampling, Hamilton et al. 2017).

    Args:
        graph: Edges are followed in both directions.
        seeds: Indices of nodes.
        per_hop: At most this many neighbours of a node at each hop, chosen at random.
        rng: Advanced once for each node that has more neighbours.

    Returns:
        (sampled,), int64: indices of nodes, each once, the seeds first and in their order; at most `len(seeds)`
        times the product of 1 + each number of `per_hop`.
    """
    both = np.concatenate([graph.edges, graph.edges[::-1]], axis=1)
    order = np.argsort(both[0], kind="stable")
    neighbours, starts = both[1][order], np.searchsorted(both[0][order], np.arange(len(graph.nodes) + 1))
    sampled = dict.fromkeys(seeds)
    frontier = list(sampled)
    for limit in per_hop:
        reached: dict[int, None] = {}
        for node in frontier:
            around = neighbours[starts[node] : starts[node + 1]]
            if len(around) > limit:
                around = rng.choice(around, limit, replace=False)
            reached |= dict.fromkeys(int(x) for x in around)
        frontier = [node for node in reached if node not in sampled]
        sampled |= dict.fromkeys(frontier)
    return np.array(list(sampled), dtype=np.int64)
