"""What nodes cost: operations and bytes, as formulas of the symbolic sizes. The one place where such rules stand.

*Operations* count additions and multiplications of the elements (also of integers), one for each, so that a product of
m by k with k by n has 2 m k n. What the hardware has no instruction for counts as many as the polynomials and
iterations of the vector mathematics take, about (`WEIGHTS`). Moving, converting and choosing elements is free, and so
are views.

*Bytes* are what a node on its own reads of its operands and writes. A view costs nothing, what is stretched is read
once, and numbers that stand in the text of a kernel are not read at all. Fused nodes move less than the sum of theirs:
a kernel's own traffic is in its `Note`.

A composite has the operations of its expansion and the bytes of one kernel.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from staticgraph import location
from staticgraph.op import Op, registry
from staticgraph.tensor import Tensor, build, freeze, toposort
from staticgraph.types import Dim, Shape, Size, TensorType, floor_divide, product

from .groups import is_inline

WEIGHTS = {
    **dict.fromkeys("astype stop_gradient check_index".split(), 0),
    **dict.fromkeys("sigmoid softplus exp exp2 log log2 log10 erf".split(), 15),
    **dict.fromkeys("expm1 log1p sin cos tanh sinh cosh asin acos atan asinh acosh atanh erfc".split(), 20),
    **dict.fromkeys("logaddexp tan atan2 pow".split(), 40),
    **dict.fromkeys("floor_divide remainder hypot".split(), 4),
    "random_bits": 100,
}
"""Operations for one element of the ops that are not one operation. Chosen once, by the length of the polynomials for
float64; the narrow ones are up to a third shorter."""

EPILOGUES = {"": 0, "relu": 1, "gelu": 30}
"""Operations for one element of an activation that is part of a product."""

STRETCHES = ("broadcast_to", "reshape", "permute_dims")
"""Views of all elements of their operand, of some several times: what is read is the operand."""

SORT_PASSES = 20
"""Comparisons for one element of a sorted row whose length is not known; otherwise the logarithm of it."""


class Cost(NamedTuple):
    """Of one node or of several: how many they are, their operations, and the bytes that they would read and write if
    each had a kernel of its own."""

    nodes: int = 0
    flops: Size = 0
    bytes_moved: Size = 0


def cost_of(node: Tensor) -> Cost:
    """The cost of one node; leaves and views are nodes that cost nothing."""
    return Cost(1, flops_of(node), bytes_of(node))


def total(nodes: Collection[Tensor]) -> Cost:
    """The cost of all of them together."""
    moved: Counts = {}
    for node in nodes:
        _count_bytes(node, moved)
    return Cost(len(nodes), flops_of(*nodes), _sum(moved))


def flops_of(*nodes: Tensor) -> Size:
    """Operations of nodes, by the kinds of their ops."""
    counts, more = {}, 0     # type: Counts, Size
    for node in nodes:
        if node.op.kind == "composite":
            more = more + _expanded(node.op, tuple(each.type for each in node.inputs), _Attributes(node))
        else:
            _count_flops(node, counts)
    return _sum(counts) + more if isinstance(more, Dim) or more else _sum(counts)


def bytes_of(node: Tensor) -> Size:
    """Bytes that a node on its own reads and writes."""
    moved: Counts = {}
    _count_bytes(node, moved)
    return _sum(moved)


Counts = dict[Shape, int]
"""So many times the product of the sizes, for some of them. Formulas of sizes are slow to add, so the terms that many
nodes share are counted first."""


def _add(counts: Counts, shape: Shape, times: int) -> None:
    counts[shape] = counts.get(shape, 0) + times


def _sum(counts: Counts) -> Size:
    return _summed(tuple(counts.items())) if counts else 0


@lru_cache(maxsize=4096)
def _summed(counts: tuple[tuple[Shape, int], ...]) -> Size:
    found: Size = 0
    for shape, times in counts:
        found = found + times * product(shape)
    return found


def _count_flops(node: Tensor, counts: Counts) -> None:
    kind = node.op.kind
    if kind == "elementwise":
        weight = WEIGHTS.get(node.op.name, 1)
        if weight:
            _add(counts, node.type.shape, weight)
    elif kind in ("reduction", "fold"):
        _add(counts, node.inputs[0].shape, 1)
    elif kind == "scan":
        _add(counts, node.shape, len(node.inputs))
    elif kind == "scatter":
        _add(counts, node.inputs[-1].shape, 1)
    elif kind == "contraction":
        _add(counts, (*node.shape, node.inputs[0].shape[-1]), 2)
        after = (len(node.inputs) > 2) + EPILOGUES[node.attrs.get("activation", "")]
        if after:
            _add(counts, node.shape, after)
    elif kind == "sort":
        length = node.shape[-1]
        _add(counts, node.shape, max(1, (length - 1).bit_length()) if isinstance(length, int) else SORT_PASSES)
    elif kind == "windowed":
        _count_windowed(node, counts)
    # leaves, views and what only moves elements cost nothing


def _count_windowed(node: Tensor, counts: Counts) -> None:
    """Two operations for each element of a window; what is put back into its place adds as much as comes in."""
    if node.op.name == "direct_place":
        _add(counts, node.inputs[1].shape, 1)
    elif node.op.name == "direct_conv_weights":
        _add(counts, (*node.inputs[1].shape, node.shape[2]), 2)
    else:
        for number in range(1, len(node.inputs)):
            _add(counts, _conv_sizes(node, number), 2)


def conv_flops(node: Tensor, number: int) -> Size:
    """Operations of a convolution with one operand of weights."""
    return 2 * product(_conv_sizes(node, number))


def _conv_sizes(node: Tensor, number: int) -> Shape:
    """Places of the result times elements of a window. Of a spread convolution each operand makes a part of the rows
    and columns."""
    x, w, size = node.inputs[0], node.inputs[number], node.attrs["size"]
    if node.op.name == "spread_conv":
        size = [floor_divide(each - first + (step - 1), step) for each, first, step
                in zip(size, node.attrs["residues"][number - 1], node.attrs["stride"], strict=True)]
    return (x.shape[0], w.shape[0], *size, *w.shape[1:])


class _Attributes:
    """A composite's attributes, with the lines for what is made of it; equal when the attributes are."""

    def __init__(self, node: Tensor) -> None:
        self.attrs = dict(node.attrs)
        self.lines = node.locations
        self.key = tuple((name, freeze(node.attrs[name])) for name in sorted(node.attrs))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Attributes) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=512)
def _expanded(op: Op, types: tuple[TensorType, ...], attributes: _Attributes) -> Size:
    """The operations of a composite's expansion, made of stand-ins so that nothing of the user's graph changes."""
    assert op.expand is not None
    with location.using(attributes.lines):
        inputs = [build(registry["placeholder"], (), {"shape": each.shape, "dtype": each.dtype}) for each in types]
        return flops_of(*toposort([op.expand(*inputs, **attributes.attrs)]))


def _count_bytes(node: Tensor, moved: Counts) -> None:
    kind = node.op.kind
    if kind in ("leaf", "view"):
        return
    made = node.type
    _add(moved, made.shape, made.dtype.itemsize * (2 if kind == "gather" else 1))   # of a table so much is read, too
    if kind == "scatter":     # what is added to is read once more, and written
        _add(moved, node.inputs[-1].shape, 2 * node.dtype.itemsize)
    for operand in node.inputs[1:] if kind == "gather" else dict.fromkeys(node.inputs):
        base = operand
        while base.op.kind == "view":
            if operand is base and base.op.name in STRETCHES:
                operand = base.inputs[0]
            base = base.inputs[0]
        if base.op.kind != "leaf" or not (base.op.name == "iota" or is_inline(base)):
            read = operand.type
            _add(moved, read.shape, read.dtype.itemsize)
