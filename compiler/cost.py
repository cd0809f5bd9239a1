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

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from staticgraph import location
from staticgraph.op import Op, registry
from staticgraph.tensor import Tensor, build, freeze, toposort
from staticgraph.types import Shape, Size, TensorType, floor_divide, product

from .fusion import is_inline

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


def total(nodes: Iterable[Tensor]) -> Cost:
    """The cost of all of them together."""
    count, flops, moved = 0, 0, 0     # type: tuple[int, Size, Size]
    for node in nodes:
        count, flops, moved = count + 1, flops + flops_of(node), moved + bytes_of(node)
    return Cost(count, flops, moved)


def flops_of(node: Tensor) -> Size:
    """Operations of a node, by the kind of its op."""
    match node.op.kind:
        case "elementwise":
            weight = WEIGHTS.get(node.op.name, 1)
            return _weighted(((node.shape, weight),)) if weight else 0
        case "reduction" | "fold":
            return _weighted(((node.inputs[0].shape, 1),))
        case "scan":
            return node.size * len(node.inputs)
        case "scatter":
            return node.inputs[-1].size
        case "contraction":
            return _contraction(node)
        case "windowed":
            return _windowed(node)
        case "sort":
            length = node.shape[-1]
            return node.size * (max(1, (length - 1).bit_length()) if isinstance(length, int) else SORT_PASSES)
        case "composite":
            return _expanded(node.op, tuple(each.type for each in node.inputs), _Attributes(node))
    return 0     # leaves, views and what only moves elements


def _contraction(node: Tensor) -> Size:
    """A product, with its bias and activation where it has them."""
    flops = _weighted((((*node.shape, node.inputs[0].shape[-1]), 2),))
    after = (len(node.inputs) > 2) + {"": 0, "relu": 1, "gelu": 30}[node.attrs.get("activation", "")]
    return flops + _weighted(((node.shape, after),)) if after else flops


def _windowed(node: Tensor) -> Size:
    """Two operations for each element of a window; what is put back into its place adds as much as comes in."""
    if node.op.name == "direct_place":
        return node.inputs[1].size
    if node.op.name == "direct_conv_weights":
        return 2 * product((*node.inputs[1].shape, node.shape[2]))
    flops: Size = 0
    for number in range(1, len(node.inputs)):
        flops = flops + conv_flops(node, number)
    return flops


def conv_flops(node: Tensor, number: int) -> Size:
    """Operations with one operand of weights. Of a spread convolution each makes a part of the rows and columns."""
    x, w, size = node.inputs[0], node.inputs[number], node.attrs["size"]
    if node.op.name == "spread_conv":
        size = [floor_divide(each - first + (step - 1), step) for each, first, step
                in zip(size, node.attrs["residues"][number - 1], node.attrs["stride"], strict=True)]
    return 2 * product((x.shape[0], w.shape[0], *size, *w.shape[1:]))


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
        inside = toposort([op.expand(*inputs, **attributes.attrs)])
        flops: Size = 0
        for node in inside:
            flops = flops + flops_of(node)
        return flops


def bytes_of(node: Tensor) -> Size:
    """Bytes that a node on its own reads and writes."""
    kind = node.op.kind
    if kind in ("leaf", "view"):
        return 0
    moved = {node.shape: node.dtype.itemsize}     # of each shape so many bytes an element
    if kind == "gather":     # as many elements of the table as come out
        moved[node.shape] *= 2
    if kind == "scatter":     # what is added to is read once more, and written
        _add(moved, node.inputs[-1].shape, 2 * node.dtype.itemsize)
    for operand in node.inputs[1:] if kind == "gather" else dict.fromkeys(node.inputs):
        _read(operand, moved)
    return _weighted(tuple(moved.items()))


def _read(operand: Tensor, moved: dict[Shape, int]) -> None:
    """Add the bytes of an operand: of what was stretched, before it was."""
    while operand.op.name in ("broadcast_to", "reshape", "permute_dims"):
        operand = operand.inputs[0]
    base = operand
    while base.op.kind == "view":
        base = base.inputs[0]
    if not is_inline(base) and base.op.name != "iota":
        _add(moved, operand.shape, operand.dtype.itemsize)


def _add(moved: dict[Shape, int], shape: Shape, nbytes: int) -> None:
    moved[shape] = moved.get(shape, 0) + nbytes


@lru_cache(maxsize=2048)
def _weighted(shapes: tuple[tuple[Shape, int], ...]) -> Size:
    """So many times the elements of each shape, added up."""
    found: Size = 0
    for shape, weight in shapes:
        found = found + weight * product(shape)
    return found
