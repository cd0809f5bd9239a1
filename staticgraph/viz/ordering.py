"""The order within each layer, so that few links cross: the second step of a layered drawing.

Comes in: the nodes of each layer and the links between neighbouring layers. Goes out: the same layers in a better
order. Sweeps down and up sort each layer by the mean position of the neighbours on the other side, which leads to a
local optimum; the best of all sweeps and of two starts is kept. Nothing is random: ties keep the order there was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

Joint = tuple[int, int, float, float]
"""A link between neighbouring layers: upper node, lower node, and where it leaves and arrives within a node's width,
from -0.5 (left) to 0.5 (right)."""

SWEEPS = 20
PATIENCE = 6
LARGE = 4000
"""Beyond this many links there are fewer sweeps: the picture must come within seconds."""


def order_layers(layers: Sequence[Sequence[int]], joints: Sequence[Joint],
                 fixed: Collection[int] = ()) -> list[list[int]]:
    """The layers in an order with few crossings. Layers with a number in `fixed` keep theirs."""
    sweeper = _Sweeper(layers, joints, frozenset(fixed))
    starts = [[list(layer) for layer in layers], sweeper.depth_first()]
    results = [sweeper.improve(start) for start in starts]
    return min(results, key=lambda result: result[0])[1]


class _Sweeper:
    def __init__(self, layers: Sequence[Sequence[int]], joints: Sequence[Joint], fixed: frozenset[int]) -> None:
        self.layers = layers
        self.fixed = fixed
        self.layer_of = {node: number for number, layer in enumerate(layers) for node in layer}
        self.above: dict[int, list[tuple[int, float]]] = {node: [] for node in self.layer_of}
        self.below: dict[int, list[tuple[int, float]]] = {node: [] for node in self.layer_of}
        self.between: list[list[Joint]] = [[] for _ in layers]
        for upper, lower, leaves, arrives in joints:
            self.above[lower].append((upper, leaves))
            self.below[upper].append((lower, arrives))
            self.between[self.layer_of[upper]].append((upper, lower, leaves, arrives))
        self.sweeps = SWEEPS if len(joints) < LARGE else 6

    def depth_first(self) -> list[list[int]]:
        """Each layer in the order in which a walk along links meets its nodes: what is connected stays together."""
        found: list[list[int]] = [[] for _ in self.layers]
        seen: set[int] = set()
        for layer in self.layers:
            for start in layer:
                stack = [start]
                while stack:
                    node = stack.pop()
                    if node in seen:
                        continue
                    seen.add(node)
                    found[self.layer_of[node]].append(node)
                    near = [each for each, _ in (*self.above[node], *self.below[node])]
                    stack.extend(each for each in reversed(near) if each not in seen)
        return [list(self.layers[number]) if number in self.fixed else layer for number, layer in enumerate(found)]

    def improve(self, order: list[list[int]]) -> tuple[int, list[list[int]]]:
        best, best_order, waited = self.crossings(order), [list(layer) for layer in order], 0
        for sweep in range(self.sweeps):
            if best == 0 or waited >= PATIENCE:
                break
            self._sweep(order, down=sweep % 2 == 0)
            count = self.crossings(order)
            waited += 1
            if count < best:
                best, best_order, waited = count, [list(layer) for layer in order], 0
        return best, best_order

    def _sweep(self, order: list[list[int]], down: bool) -> None:
        position = {node: number for layer in order for number, node in enumerate(layer)}
        numbers = range(1, len(order)) if down else range(len(order) - 2, -1, -1)
        near = self.above if down else self.below
        for number in numbers:
            if number in self.fixed:
                continue
            layer = order[number]
            layer[:] = _sorted_by_neighbours(layer, {
                node: sum(position[each] + shift for each, shift in near[node]) / len(near[node])
                for node in layer if near[node]})
            position.update((node, place) for place, node in enumerate(layer))

    def crossings(self, order: Sequence[Sequence[int]]) -> int:
        position = {node: number for layer in order for number, node in enumerate(layer)}
        total = 0
        for joints in self.between:
            if joints:
                ends = sorted((position[upper] + leaves, position[lower] + arrives)
                              for upper, lower, leaves, arrives in joints)
                total += _inversions([end for _, end in ends])
        return total


def _sorted_by_neighbours(layer: Sequence[int], wanted: dict[int, float]) -> list[int]:
    """The layer sorted by `wanted`; nodes without a wish keep their places."""
    moving = iter(sorted((node for node in layer if node in wanted), key=wanted.__getitem__))
    return [next(moving) if node in wanted else node for node in layer]


def _inversions(values: Sequence[float]) -> int:
    """Pairs in the wrong order, by a Fenwick tree over the ranks of the values."""
    ranks = {value: number for number, value in enumerate(sorted(set(values)))}
    tree = [0] * (len(ranks) + 1)
    total = 0
    for seen, value in enumerate(values):
        rank = ranks[value] + 1
        total += seen
        while rank:
            total -= tree[rank]
            rank &= rank - 1
        rank = ranks[value] + 1
        while rank < len(tree):
            tree[rank] += 1
            rank += rank & -rank
    return total
