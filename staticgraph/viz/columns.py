"""Columns: a layered drawing that is much higher than wide is cut, as a newspaper is, and its parts stand side by side.

Comes in: a layer for each node, the links, and the sizes. Goes out: a column for each node, 0 from the left; layers
stay whole. A link between columns is not drawn as a line, so cuts are made where few values pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

HIGHEST = 6000.0
SLIMMEST = 3.0
"""What is no higher than this, or than so many times its width, stays one column."""
MOST = 40
GAP = 90.0
LANDSCAPE = 1.4
"""The wanted proportion of width and height."""
REACH = 0.15
"""How far from equal parts a cut may be made, in parts of a column."""


def columns(layers: Sequence[int], links: Iterable[tuple[int, int]], sizes: Sequence[tuple[float, float]],
            between: float) -> list[int]:
    """The column of each node. `sizes` are (width, height), `between` the distance of layers."""
    count = max(layers, default=0) + 1
    widths, heights = [0.0] * count, [0.0] * count
    for layer, (width, height) in zip(layers, sizes, strict=True):
        widths[layer] += width
        heights[layer] = max(heights[layer], height + between)
    if sum(heights) <= max(HIGHEST, SLIMMEST * max(widths)):
        return [0] * len(layers)
    passing = _passing(layers, links, count)
    cuts = min((_cuts(heights, passing, number) for number in range(1, MOST + 1)),
               key=lambda cuts: _extent(cuts, widths, heights))
    column_of_layer = [sum(cut <= layer for cut in cuts) for layer in range(count)]
    return [column_of_layer[layer] for layer in layers]


def _passing(layers: Sequence[int], links: Iterable[tuple[int, int]], count: int) -> list[int]:
    """How many values pass between each layer and the one above it."""
    ends: dict[int, int] = {}
    for source, target in links:
        ends[source] = max(ends.get(source, 0), layers[target])
    changes = [0] * (count + 1)
    for source, end in ends.items():
        changes[layers[source] + 1] += 1
        changes[end + 1] -= 1
    passing, total = [], 0
    for change in changes[:count]:
        total += change
        passing.append(total)
    return passing


def _cuts(heights: Sequence[float], passing: Sequence[int], number: int) -> list[int]:
    """The first layer of each column but the first, for so many columns of about the same height."""
    tops = [0.0]
    for height in heights:
        tops.append(tops[-1] + height)
    part = tops[-1] / number
    cuts: list[int] = []
    for place in range(1, number):
        near = [layer for layer in range((cuts[-1] if cuts else 0) + 1, len(heights))
                if abs(tops[layer] - place * part) <= REACH * part]
        if near:
            cuts.append(min(near, key=lambda layer: (passing[layer], abs(tops[layer] - place * part))))
    return cuts


def _extent(cuts: Sequence[int], widths: Sequence[float], heights: Sequence[float]) -> float:
    """How large the page is that these columns need."""
    edges = [0, *cuts, len(heights)]
    parts = [slice(start, end) for start, end in pairwise(edges)]
    width = sum(max(widths[part]) + GAP for part in parts)
    return max(width, LANDSCAPE * max(sum(heights[part]) for part in parts))
