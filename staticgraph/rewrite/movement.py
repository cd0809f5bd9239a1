"""Rules for views: chains of views become one, and what is the same everywhere is computed once.

All rows keep every bit, except `sum-broadcast` on floats: n equal terms are one product, rounded once instead of n
times. A permutation in front of a matmul stays a permutation of its own: the compiler turns it into an index map.
"""

from __future__ import annotations

from typing import Any

from ..op import as_tensor, broadcast, registry
from ..ops.elementwise import astype
from ..ops.movement import broadcast_to, permute_dims, reshape, slice_axes
from ..tensor import Tensor, build
from ..types import Size, product
from .pattern import Match, Rule, any_of_kind, attr, ops, rule, var

x = var("x")
shape, axes = attr("shape"), attr("axes")
p: Any = ops

HOIST_LIMIT = 4096
"""Elements of a tensor that may get a computation of its own, before it is stretched."""


def same_shape(found: Match) -> bool:
    return bool(found.nodes[0].shape == found.bound["x"].shape)


def is_one_value(found: Match) -> bool:
    return found.bound["x"].size == 1 and isinstance(found.bound["x"].size, int)


def without_ones(found: Match) -> Tensor:
    """One value, stretched to the shape of the node."""
    return broadcast_to(reshape(found.bound["x"], ()), found.nodes[0].shape)


def adds_leading_ones(found: Match) -> bool:
    inner, outer = found.bound["x"].shape, found.nodes[1].shape
    extra = len(outer) - len(inner)
    return bool(extra > 0 and outer == (1,) * extra + inner)


def merge_slices(found: Match) -> Tensor:
    outer = found.nodes[0].attrs
    return slice_axes(found.nodes[1], outer["starts"], outer["steps"], outer["shape"])


def merge_permutations(found: Match) -> Tensor:
    return permute_dims(found.nodes[1], found.nodes[0].attrs["axes"])


VIEWS = (
    rule("reshape-same", p.reshape(x), x, where=same_shape, why="nothing changes", exact=True),
    rule("broadcast-same", p.broadcast_to(x), x, where=same_shape, why="nothing changes", exact=True),
    rule("permute-same", p.permute_dims(x), x, why="nothing changes", exact=True,
         where=lambda found: found.nodes[0].attrs["axes"] == tuple(range(found.nodes[0].ndim))),
    rule("slice-same", p.slice(x), x, why="nothing changes", exact=True,
         where=lambda found: same_shape(found) and set(found.nodes[0].attrs["starts"]) <= {0}
         and set(found.nodes[0].attrs["steps"]) <= {1}),
    rule("reshape-twice", p.reshape(p.reshape(x), shape=shape), p.reshape(x, shape=shape), why="one view", exact=True),
    rule("broadcast-twice", p.broadcast_to(p.broadcast_to(x), shape=shape), p.broadcast_to(x, shape=shape),
         why="one view", exact=True),
    rule("permute-twice", p.permute_dims(p.permute_dims(x)), merge_permutations, why="one view", exact=True),
    rule("slice-twice", p.slice(p.slice(x)), merge_slices, why="one view", exact=True),
    rule("broadcast-leading-ones", p.broadcast_to(p.reshape(x), shape=shape), p.broadcast_to(x, shape=shape),
         where=adds_leading_ones, why="broadcasting adds them by itself", exact=True),
    rule("broadcast-one-value", p.broadcast_to(p.reshape(x)), without_ones, where=is_one_value,
         why="one value has no shape", exact=True),
    rule("reshape-one-value", p.reshape(p.broadcast_to(x)), without_ones, where=is_one_value,
         why="one value has no shape", exact=True),
    rule("permute-one-value", p.permute_dims(p.broadcast_to(x)), without_ones, where=is_one_value,
         why="one value has no order", exact=True),
    rule("slice-one-value", p.slice(p.broadcast_to(x)), without_ones, where=is_one_value,
         why="one value has no place", exact=True),
)


def stretched_axes(source: Tensor, stretched: Tensor) -> tuple[int, ...]:
    """Axes of a broadcast along which all elements are copies."""
    extra = stretched.ndim - source.ndim
    return tuple(axis for axis, size in enumerate(stretched.shape)
                 if axis < extra or (source.shape[axis - extra] == 1 and size != 1))


def reduce_source(found: Match) -> tuple[Tensor, Size]:
    """The reduction of a broadcast without the axes that hold copies, and the number of copies."""
    root, stretched = found.nodes[:2]
    source: Tensor = found.bound["x"]
    copies = [axis for axis in root.attrs["axes"] if axis in stretched_axes(source, stretched)]
    extra = stretched.ndim - source.ndim
    inner = tuple(axis - extra for axis in root.attrs["axes"] if axis >= extra)
    if set(copies) == set(root.attrs["axes"]):  # nothing is left to reduce: the axes of size 1 go by reshape
        reduced = reshape(source, tuple(size for axis, size in enumerate(source.shape) if axis not in inner))
    else:
        reduced = build(root.op, [source], {"axes": inner})
    return broadcast(reduced, root.shape), product(stretched.shape[axis] for axis in copies)


def sum_of_copies(found: Match) -> Tensor | None:
    result, count = reduce_source(found)
    # Nothing is summed when a size is 0 at the call, but 0 * inf is nan: only known counts, unless values are finite.
    if count == 1 or not ((isinstance(count, int) and count > 0) or is_finite(found.bound["x"])):
        return None
    times = as_tensor(count, result.dtype) if isinstance(count, int) else astype(as_tensor(count), result.dtype)
    return registry["multiply"](result, times)


def choice_of_copies(found: Match) -> Tensor | None:
    result, count = reduce_source(found)
    return result if isinstance(count, int) and count > 0 else None


def has_copies(found: Match) -> bool:
    stretched = set(stretched_axes(found.bound["x"], found.nodes[1]))
    return not stretched.isdisjoint(found.nodes[0].attrs["axes"])


def is_finite(node: Tensor) -> bool:
    """Known to hold no inf and no nan: integers, bools and finite constants."""
    if node.dtype.kind != "f":
        return True
    return node.op.name == "constant" and bool(abs(node.attrs["value"]).max(initial=0) < float("inf"))


def choice(name: str) -> Rule:
    return rule(f"{name}-broadcast", getattr(p, name)(p.broadcast_to(x)), choice_of_copies, where=has_copies,
                why="copies tie", exact=True)


REDUCTIONS = (
    rule("sum-broadcast", p.sum(p.broadcast_to(x)), sum_of_copies, where=has_copies, why="n equal terms are a product"),
    choice("max"), choice("min"), choice("any"), choice("all"),
)


def hoist(found: Match) -> Tensor | None:
    """``op(broadcast(a), broadcast(b))`` as ``broadcast(op(a, b))``."""
    node = found.nodes[0]
    sources = [unstretched(each) for each in node.inputs]
    if not sources or node.op.name == "check_index" or any(source is None for source in sources):
        return None
    known = [source for source in sources if source is not None]
    largest = max(known, key=lambda source: source.ndim)
    if largest.shape == node.shape or any(source.ndim and source.shape != largest.shape for source in known):
        return None
    inner = build(node.op, [broadcast(source, largest.shape) for source in known], node.attrs)
    return build(registry["broadcast_to"], [inner], {"shape": node.shape})


def unstretched(node: Tensor) -> Tensor | None:
    """The small tensor that was stretched to make the node; None if it was not, or is not small."""
    if node.op.name != "broadcast_to" or node.guards:
        return None
    source = node.inputs[0]
    return source if isinstance(source.size, int) and source.size <= HOIST_LIMIT else None


HOISTING = (
    rule("hoist", any_of_kind("elementwise"), hoist, why="computed once instead of for each copy", exact=True),
)

RULES = (*VIEWS, *REDUCTIONS, *HOISTING)
