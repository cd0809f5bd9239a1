"""Layers of a directed acyclic graph: the first of the three steps of a layered drawing.

Comes in: nodes 0 .. count - 1 and links between them. Goes out: a layer for each node, so that every link leads from a
lower number to a higher one. Longest paths give the fewest layers; then nodes move within their slack towards where
most of their links lead, which pulls inputs down to the first node that reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import networkx as nx

ROUNDS = 8


def assign_layers(count: int, links: Iterable[tuple[int, int]], first: Collection[int] = (),
                  last: Collection[int] = ()) -> list[int]:
    """The layer of each node. Those in `first` stand alone in layer 0, those in `last` alone in the highest."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(links)
    layers = [0] * count
    order: list[int] = []
    for number, generation in enumerate(nx.topological_generations(graph)):
        for node in sorted(generation):
            layers[node] = number + bool(first)
            order.append(node)
    for node in first:
        layers[node] = 0
    depth = max((layers[node] for node in range(count) if node not in last), default=0) + 1
    for node in last:
        layers[node] = depth
    before = [sorted(graph.predecessors(node)) for node in range(count)]
    after = [sorted(graph.successors(node)) for node in range(count)]
    fixed = {*first, *last}
    _balance([node for node in order if node not in fixed], layers, before, after)
    return _without_gaps(layers)


def _balance(order: Sequence[int], layers: list[int], before: Sequence[Sequence[int]],
             after: Sequence[Sequence[int]]) -> None:
    """Move each node within its slack to where its links are shortest in sum. A node whose whole past leads nowhere
    else takes that past along, so it moves down like an input; and a link from a value that others read too counts
    half, since it shares their trunk."""
    alone: dict[int, bool] = {}
    for node in order:
        alone[node] = all(alone.get(each, False) and len(after[each]) == 1 for each in before[node])
    for round_number in range(ROUNDS):
        moved = False
        for node in (reversed(order) if round_number % 2 == 0 else order):
            pull = len(after[node]) - (0 if alone[node] else sum(1.0 if len(after[each]) == 1 else 0.5
                                                                 for each in before[node]))
            if pull > 0:
                target = min(layers[each] for each in after[node]) - 1
            elif pull < 0:
                target = max(layers[each] for each in before[node]) + 1
            else:
                continue
            moved |= target != layers[node]
            layers[node] = target
        if not moved:
            return


def _without_gaps(layers: Sequence[int]) -> list[int]:
    rank = {layer: number for number, layer in enumerate(sorted(set(layers)))}
    return [rank[layer] for layer in layers]
