"""Layers of a directed acyclic graph: the first of the three steps of a layered drawing.

Comes in: nodes 0 .. count - 1 and links between them. Goes out: a layer for each node, so that every link leads from a
lower number to a higher one. Longest paths give the fewest layers; then nodes move within their slack towards where
most of their links lead, which pulls inputs down to the first node that reads them.

Where that makes layers wider than a page, `within_width` spreads them over more layers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import sqrt

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


PAGE = 3600.0
"""Layers up to this width stay as they are."""
SHAPE = 1.3
"""How wide a large page is, as multiples of the root of what it must hold."""
MANY = 24
"""Readers of a value that go below one another, block after block."""


def within_width(layers: Sequence[int], links: Iterable[tuple[int, int]], widths: Sequence[float],
                 height: float) -> list[int]:
    """The same layers where none is wider than a page, else others that are not. `height` is a layer's, about.

    Nodes are taken in the order of a walk from the last ones upwards, and each goes into the first layer below its
    sources that has room: so what a value goes through stays together, and a value that very many read is followed by
    block after block of readers.
    """
    page = max(PAGE, SHAPE * sqrt(sum(widths) * height))
    if max(_sums(layers, widths), default=0.0) <= page:
        return list(layers)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(layers)))
    graph.add_edges_from(links)
    room: list[float] = []
    found = [0] * len(layers)
    order = _walk(graph)
    floor = 0
    for node in order:
        start = max((found[each] + 1 for each in graph.predecessors(node)), default=0)
        if any(graph.out_degree(each) > MANY for each in graph.predecessors(node)):
            start = max(start, floor)
            below = room[start:]
            if below and below[0] < widths[node] and sum(below) < page * len(below) / 2:
                start = floor = len(room)     # a new block, where the last one is well filled
        found[node] = _first_with_room(room, range(start, len(room)), widths[node])
        _take(room, found[node], widths[node], page)
    for node in reversed(order):     # inputs go down to who reads them, as far as there is room
        readers = [found[each] for each in graph.successors(node)]
        if readers and not graph.in_degree(node):
            better = _first_with_room(room, range(min(readers) - 1, found[node], -1), widths[node])
            if better < len(room):
                room[found[node]] += widths[node]
                room[better] -= widths[node]
                found[node] = better
    return _without_gaps(found)


def _sums(layers: Sequence[int], widths: Sequence[float]) -> list[float]:
    sums = [0.0] * (max(layers, default=0) + 1)
    for layer, width in zip(layers, widths, strict=True):
        sums[layer] += width
    return sums


def _walk(graph: nx.DiGraph) -> list[int]:
    """Sources before their readers, each as late as it can be."""
    order: list[int] = []
    seen: set[int] = set()
    ends = [node for node in sorted(graph) if not graph.out_degree(node)]
    stack = [(node, False) for node in reversed(ends)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((each, False) for each in sorted(graph.predecessors(node), reverse=True) if each not in seen)
    return order


def _first_with_room(room: Sequence[float], layers: Iterable[int], width: float) -> int:
    return next((layer for layer in layers if room[layer] >= width), len(room))


def _take(room: list[float], layer: int, width: float, page: float) -> None:
    """What is wider than a page has a layer to itself."""
    if layer == len(room):
        room.append(max(page, width))
    room[layer] -= width
