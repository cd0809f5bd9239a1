"""A layered layout of a directed acyclic graph.

Comes in: boxes of known sizes and links between them, which may leave and arrive off a box's centre (ports). Goes out:
a place for every box and a route for every link. Invariants: links lead downwards; boxes do not overlap; the same input
gives the same layout.

    layers (layering.py)  ->  order within layers (ordering.py)  ->  coordinates (here)

A link that passes layers gets a bend in each of them; links that leave one box at the same port share their bends, so a
value that is read in many places is one trunk with branches. Coordinates come from sweeps in which each layer takes the
positions closest to its neighbours' (isotonic regression, which is exact for one layer with its order given).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from .layering import assign_layers, within_width
from .ordering import Joint, order_layers

Point = tuple[float, float]
_Pull = tuple[int, float, float]     # a neighbour, where it wants this node to be from its own place, how strongly

BEND_WIDTH = 4.0
ROOM, LEAST_ROOM = 1.4, 700.0
"""No picture is wider than this many times its widest layer, or than that."""
STRAIGHTNESS, STIFFNESS = 8.0, 3.0
"""How much more a bend follows its trunk than a box follows its neighbours: at least, and for each that reads the
value. Without the latter many readers beside a trunk would push it away, a little further in every layer."""


@dataclass(frozen=True)
class Item:
    """A box to be placed."""

    width: float
    height: float


@dataclass(frozen=True)
class Link:
    """From the bottom of `source` to the top of `target`; the ports are distances from the centres."""

    source: int
    target: int
    source_port: float = 0.0
    target_port: float = 0.0


@dataclass(frozen=True)
class Spacing:
    """Least distances between boxes, and how much of a link's way sideways is added between two layers."""

    between: float = 18.0
    layers: float = 26.0
    slope: float = 0.12
    most: float = 90.0


@dataclass
class Layout:
    """Centres of all boxes, a route for every link (points from box to box), layer numbers, and the whole extent:
    x from `left` to `left + width`, y from 0 to `height`."""

    centres: list[Point]
    routes: list[list[Point]]
    layers: list[int]
    left: float
    width: float
    height: float


@dataclass
class _Bends:
    """The graph with every long link cut at the layers that it passes. Nodes from `count` on are bends."""

    layer_of: list[int]
    widths: list[float]
    count: int
    joints: dict[tuple[int, int, float, float], float] = field(default_factory=dict)
    chains: list[list[int]] = field(default_factory=list)
    trunks: list[list[int]] = field(default_factory=list)


def lay_out(items: Sequence[Item], links: Sequence[Link], spacing: Spacing = Spacing(), *,
            layers: Sequence[int] | None = None, first: Collection[int] = (), last: Collection[int] = (),
            hints: Mapping[int, float] | None = None) -> Layout:
    """Place the items; see the module docstring.

    layers: taken as given instead of computed. first, last: items alone in the first and last layer. hints: wanted
    positions from left to right of those, which then keep this order.
    """
    if not items:
        return Layout([], [], [], 0.0, 0.0, 0.0)
    if layers is None:
        layers = _layers(items, links, spacing, first, last)
    bends = _cut(items, links, layers)
    rows: list[list[int]] = [[] for _ in range(max(bends.layer_of) + 1)]
    for node, layer in enumerate(bends.layer_of):
        rows[layer].append(node)
    fixed = _sort_by_hints(rows, hints or {})
    rows = order_layers(rows, _joints(bends), fixed)
    places = _place(rows, bends, spacing)
    for _ in range(3):
        _straighten(rows, bends, spacing, places)
    return _finish(items, links, bends, rows, places, spacing)


def _layers(items: Sequence[Item], links: Sequence[Link], spacing: Spacing, first: Collection[int],
            last: Collection[int]) -> list[int]:
    """A layer for each item, none much wider than a page."""
    pairs = [(link.source, link.target) for link in links]
    given = assign_layers(len(items), pairs, first, last)
    alone = {*first, *last}
    widths = [0.0 if number in alone else item.width + spacing.between for number, item in enumerate(items)]
    height = sum(item.height for item in items) / len(items) + spacing.layers
    layers = within_width(given, pairs, widths, height)
    if layers == given:
        return given
    inner = [layer for number, layer in enumerate(layers) if number not in alone]
    top, bottom = min(inner), max(inner)
    start = 1 if first else 0
    return [0 if number in first else bottom - top + start + 1 if number in last else layer - top + start
            for number, layer in enumerate(layers)]


def _cut(items: Sequence[Item], links: Sequence[Link], layers: Sequence[int]) -> _Bends:
    bends = _Bends(list(layers), [item.width for item in items], len(items))
    trunks: dict[tuple[int, float], list[int]] = {}
    readers = Counter((link.source, link.source_port) for link in links)
    for link in links:
        straight = max(STRAIGHTNESS, STIFFNESS * readers[link.source, link.source_port])
        trunk = trunks.setdefault((link.source, link.source_port), [link.source])
        passed = layers[link.target] - layers[link.source] - 1
        while len(trunk) <= passed:
            upper, port = trunk[-1], link.source_port if len(trunk) == 1 else 0.0
            bends.layer_of.append(bends.layer_of[upper] + 1)
            bends.widths.append(BEND_WIDTH)
            trunk.append(len(bends.widths) - 1)
            bends.joints[upper, trunk[-1], port, 0.0] = 2.0 if len(trunk) == 2 else straight
        upper, port = trunk[passed], link.source_port if passed == 0 else 0.0
        bends.joints.setdefault((upper, link.target, port, link.target_port), 1.0)
        bends.chains.append(trunk[1:passed + 1])
    bends.trunks = sorted((trunk[1:] for trunk in trunks.values() if len(trunk) > 2), key=len, reverse=True)
    return bends


def _sort_by_hints(rows: Sequence[list[int]], hints: Mapping[int, float]) -> set[int]:
    fixed = set()
    for number, row in enumerate(rows):
        if row and all(node in hints for node in row):
            row.sort(key=lambda node: (hints[node], node))
            fixed.add(number)
    return fixed


def _joints(bends: _Bends) -> list[Joint]:
    widths = [max(width, 1.0) * 1.02 for width in bends.widths]
    return [(upper, lower, leaves / widths[upper], arrives / widths[lower])
            for upper, lower, leaves, arrives in bends.joints]


def _place(rows: Sequence[Sequence[int]], bends: _Bends, spacing: Spacing) -> list[float]:
    """x of every centre: sweeps that follow the layer above, then the one below, then both. A trunk follows what it
    comes from and where it ends, not who reads it on the way."""
    passing = {upper: lower for trunk in bends.trunks for upper, lower in pairwise(trunk)}
    places = [0.0] * len(bends.widths)
    above: list[list[_Pull]] = [[] for _ in places]
    below: list[list[_Pull]] = [[] for _ in places]
    for (upper, lower, leaves, arrives), weight in bends.joints.items():
        above[lower].append((upper, leaves - arrives, weight))
        if passing.get(upper, lower) == lower:
            below[upper].append((lower, arrives - leaves, weight))
    both = [[*over, *under] for over, under in zip(above, below, strict=True)]
    down = [(row, _offsets(row, bends, spacing)) for row in rows]
    room = max(LEAST_ROOM, ROOM * max(offsets[-1] for _, offsets in down)) / 2
    up = down[::-1]
    for row, offsets in down:
        _settle(row, offsets, both, places, room, follow=False)
    for order, near in [(down, above), (up, below)] * 4 + [(down, both), (up, both)] * 6:
        for row, offsets in order:
            _settle(row, offsets, near, places, room)
    return places


def _settle(row: Sequence[int], offsets: Sequence[float], near: Sequence[Sequence[_Pull]], places: list[float],
            room: float, follow: bool = True) -> None:
    """Move one layer to where its neighbours pull it, within -room .. room; without `follow` only apart."""
    wanted, weights = [], []
    for node in row:
        sum_of_weights = mean = 0.0
        for each, shift, weight in near[node] if follow else ():
            mean += (places[each] + shift) * weight
            sum_of_weights += weight
        wanted.append(mean / sum_of_weights if sum_of_weights else places[node])
        weights.append(sum_of_weights or 0.01)
    for node, place in zip(row, _isotonic(wanted, weights, offsets, -room, room), strict=True):
        places[node] = place


def _straighten(rows: Sequence[Sequence[int]], bends: _Bends, spacing: Spacing, places: list[float]) -> None:
    """Put the bends of each trunk below one another as far as their neighbours leave room."""
    beside: dict[int, tuple[int, int]] = {}
    for row in rows:
        for place, node in enumerate(row):
            beside[node] = (row[place - 1] if place else -1, row[place + 1] if place + 1 < len(row) else -1)

    def room(node: int) -> tuple[float, float]:
        left, right = beside[node]
        least = (bends.widths[node] + spacing.between * 2) / 2
        return (places[left] + bends.widths[left] / 2 + least if left >= 0 else -inf,
                places[right] - bends.widths[right] / 2 - least if right >= 0 else inf)

    for trunk in bends.trunks:
        start = 0
        while start < len(trunk):
            low, high = room(trunk[start])
            end = start + 1
            while end < len(trunk):
                next_low, next_high = room(trunk[end])
                if max(low, next_low) > min(high, next_high):
                    break
                low, high, end = max(low, next_low), min(high, next_high), end + 1
            middle = sorted(places[node] for node in trunk[start:end])[(end - start) // 2]
            for node in trunk[start:end]:
                places[node] = min(max(middle, low), high)
            start = end


def _offsets(row: Sequence[int], bends: _Bends, spacing: Spacing) -> list[float]:
    """The least distance of each node's centre from the first one's."""
    offsets = [0.0]
    for left, right in pairwise(row):
        both = min(left, right) >= bends.count     # lines may run closer than boxes stand
        distance = spacing.between / 2 if both else spacing.between
        offsets.append(offsets[-1] + (bends.widths[left] + bends.widths[right]) / 2 + distance)
    return offsets


def _isotonic(wanted: Sequence[float], weights: Sequence[float], offsets: Sequence[float], lowest: float = -inf,
              highest: float = inf) -> list[float]:
    """Positions closest to the wanted ones (weighted squares) that keep the order, the distances and the bounds."""
    pools: list[tuple[float, float, int]] = []     # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, mass, size = want - offset, weight, 1
        while pools and pools[-1][0] >= mean:
            other, more, count = pools.pop()
            mean = (mean * mass + other * more) / (mass + more)
            mass, size = mass + more, size + count
        pools.append((mean, mass, size))
    levels = [min(max(mean, lowest), highest - offsets[-1]) for mean, _, size in pools for _ in range(size)]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _finish(items: Sequence[Item], links: Sequence[Link], bends: _Bends, rows: Sequence[Sequence[int]],
            places: Sequence[float], spacing: Spacing) -> Layout:
    """y of the layers, and the routes."""
    heights = [max((items[node].height for node in row if node < len(items)), default=0.0) for row in rows]
    widest = [0.0] * len(rows)
    for upper, lower, leaves, arrives in bends.joints:
        sideways = abs(places[upper] + leaves - places[lower] - arrives)
        widest[bends.layer_of[upper]] = max(widest[bends.layer_of[upper]], sideways)
    tops, y = [], 0.0
    for height, sideways in zip(heights, widest, strict=True):
        tops.append(y)
        y += height + min(spacing.layers + spacing.slope * sideways, spacing.most)
    height = tops[-1] + heights[-1]
    layers = bends.layer_of[:len(items)]
    centres = [(places[node], tops[layer] + heights[layer] / 2) for node, layer in enumerate(layers)]
    arrivals = _spread(items, links, bends, places)
    routes = []
    for link, chain, arrival in zip(links, bends.chains, arrivals, strict=True):
        (x, y), (end_x, end_y) = centres[link.source], centres[link.target]
        below = tops[layers[link.source]] + heights[layers[link.source]]
        route = [(x + link.source_port, y + items[link.source].height / 2), (x + link.source_port, below)]
        for bend in chain:
            top = tops[bends.layer_of[bend]]
            route += [(places[bend], top), (places[bend], top + heights[bends.layer_of[bend]])]
        route += [(end_x + arrival, tops[layers[link.target]]),
                  (end_x + arrival, end_y - items[link.target].height / 2)]
        routes.append(route)
    left = min(x - item.width / 2 for (x, _), item in zip(centres, items, strict=True))
    bent = places[len(items):]
    left = min([left, *bent])
    right = max([x + item.width / 2 for (x, _), item in zip(centres, items, strict=True)] + list(bent))
    return Layout(centres, routes, list(layers), left, right - left, height)


def _spread(items: Sequence[Item], links: Sequence[Link], bends: _Bends, places: Sequence[float]) -> list[float]:
    """Where on its target's upper edge each link arrives: those of one port side by side, in the order they come."""
    groups: dict[tuple[int, float], list[int]] = {}
    for number, link in enumerate(links):
        groups.setdefault((link.target, link.target_port), []).append(number)

    def comes_from(number: int) -> float:
        chain = bends.chains[number]
        return places[chain[-1]] if chain else places[links[number].source] + links[number].source_port

    arrivals = [link.target_port for link in links]
    for (target, port), group in groups.items():
        step = min(16.0, max(items[target].width - 16.0, 0.0) / len(group))
        for position, number in enumerate(sorted(group, key=lambda each: (comes_from(each), each))):
            arrivals[number] = port + (position - (len(group) - 1) / 2) * step
    return arrivals
