"""Views: how an element of a reshaped, permuted, sliced or broadcast tensor is found in the buffer below it.

A chain of view ops never becomes a kernel. `trace` follows it as long as every axis of the lower tensor is either an
axis of the upper one or has a single element: then both can be computed in the same loops. `view_of` follows it down to
a buffer as offset and strides: then the loads of a kernel use them. Where neither works (a reshape of a transposed
value) `needs_copy` says which node must be written out contiguously first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from staticgraph.tensor import Tensor
from staticgraph.types import Shape, Size, product

AxisMap = tuple[int | None, ...]
"""For each axis of a lower tensor the axis of the upper one, or None where the index is always 0."""


@dataclass(frozen=True, eq=False)
class View:
    """Element (i, j, …) lies at ``offset + i * strides[0] + j * strides[1] …`` elements from the start of `base`."""

    base: Tensor
    offset: Size
    strides: tuple[Size, ...]


def is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


def contiguous_strides(shape: Shape) -> tuple[Size, ...]:
    """Row-major strides in elements."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def trace(node: Tensor, stop: Callable[[Tensor], bool]) -> tuple[Tensor, AxisMap | None]:
    """The first node below the views for which `stop` holds (or that is no view) and how its axes map to `node`'s.

    The map is None when the views do more than permute, broadcast, insert or drop axes of one element.
    """
    axes: AxisMap | None = tuple(None if is_one(size) else axis for axis, size in enumerate(node.shape))
    while node.op.kind == "view" and not stop(node):
        if axes is not None:
            axes = _through(node, axes)
        node = node.inputs[0]
    return node, axes


def _through(node: Tensor, axes: AxisMap) -> AxisMap | None:
    """Axes of the view's input for given axes of its output."""
    source = node.inputs[0]
    if node.op.name == "permute_dims":
        lower: list[int | None] = [None] * source.ndim
        for position, axis in enumerate(node.attrs["axes"]):
            lower[axis] = axes[position]
        return tuple(lower)
    if node.op.name == "broadcast_to":
        skipped = node.ndim - source.ndim
        return tuple(None if is_one(size) else axes[skipped + axis] for axis, size in enumerate(source.shape))
    if node.op.name == "reshape":
        return _through_reshape(source.shape, node.shape, axes)
    return None


def _through_reshape(source: Shape, target: Shape, axes: AxisMap) -> AxisMap | None:
    kept = [axis for axis, size in enumerate(target) if not is_one(size)]
    lower: list[int | None] = []
    for size in source:
        if is_one(size):
            lower.append(None)
        elif kept and target[kept[0]] == size:
            lower.append(axes[kept.pop(0)])
        else:
            return None
    return None if kept else tuple(lower)


def view_of(node: Tensor, is_buffer: Callable[[Tensor], bool],
            base_strides: Callable[[Tensor], tuple[Size, ...]] | None = None) -> View | None:
    """The node as a strided view of the buffer below it; None where strides cannot express it."""
    chain: list[Tensor] = []
    base = node
    while base.op.kind == "view" and not is_buffer(base):
        chain.append(base)
        base = base.inputs[0]
    strides = base_strides(base) if base_strides else contiguous_strides(base.shape)
    view: View | None = View(base, 0, strides)
    for step in reversed(chain):
        assert view is not None
        view = _apply(step, view)
        if view is None:
            return None
    return view


def _apply(node: Tensor, view: View) -> View | None:
    source = node.inputs[0]
    if node.op.name == "permute_dims":
        return View(view.base, view.offset, tuple(view.strides[axis] for axis in node.attrs["axes"]))
    if node.op.name == "broadcast_to":
        skipped = node.ndim - source.ndim
        stretched = [0 if is_one(size) else stride for size, stride in zip(source.shape, view.strides, strict=True)]
        return View(view.base, view.offset, (0,) * skipped + tuple(stretched))
    if node.op.name == "slice":
        offset = view.offset
        for start, stride in zip(node.attrs["starts"], view.strides, strict=True):
            offset = offset + start * stride
        steps = node.attrs["steps"]
        return View(view.base, offset, tuple(step * stride for step, stride in zip(steps, view.strides, strict=True)))
    if node.op.name == "windows":
        axis, stride = node.attrs["axis"], view.strides[node.attrs["axis"]]
        both = (node.attrs["step"] * stride, node.attrs["spacing"] * stride)
        return View(view.base, view.offset, (*view.strides[:axis], *both, *view.strides[axis + 1:]))
    if node.op.name == "reshape" and view.strides == contiguous_strides(source.shape):
        return View(view.base, view.offset, contiguous_strides(node.shape))
    if node.op.name == "reshape":
        strides = reshape_strides(source.shape, view.strides, node.shape)
        return None if strides is None else View(view.base, view.offset, strides)
    return None


def reshape_strides(shape: Shape, strides: Sequence[Size], target: Shape) -> tuple[Size, ...] | None:
    """Strides of a reshaped view, or None where elements would have to move.

    Runs of axes with equal products are matched; inside a run the old axes must follow each other without gaps.
    """
    old = [(size, stride) for size, stride in zip(shape, strides, strict=True) if not is_one(size)]
    result: list[Size] = []
    position = 0
    axis = 0
    while axis < len(target):
        if is_one(target[axis]):
            result.append(0)
            axis += 1
            continue
        run_old, run_new = [old[position]] if position < len(old) else [], [target[axis]]
        if not run_old:
            return None
        end_old, end_new = position + 1, axis + 1
        while product(size for size, _ in run_old) != product(run_new):
            if _grow_new(product(size for size, _ in run_old), product(run_new)) and end_new < len(target):
                run_new.append(target[end_new])
                end_new += 1
            elif end_old < len(old):
                run_old.append(old[end_old])
                end_old += 1
            elif end_new < len(target):
                run_new.append(target[end_new])
                end_new += 1
            else:
                return None
        for (_, outer), (size, inner) in pairwise(run_old):
            if outer != size * inner:
                return None
        innermost = run_old[-1][1]
        result += [stride * innermost for stride in contiguous_strides(tuple(run_new))]
        position, axis = end_old, end_new
    return tuple(result) if position == len(old) else None


def _grow_new(old: Size, new: Size) -> bool:
    """Whether the new run is the shorter one so far: decided by size where both are static, by divisibility else."""
    if isinstance(old, int) and isinstance(new, int):
        return new < old
    from staticgraph.types import divide_exactly

    return divide_exactly(old, new) is not None


def collapse(shape: Shape, *strides: Sequence[Size]) -> tuple[list[Size], list[list[Size]]]:
    """Shape and strides with unit axes dropped and gapless neighbours joined."""
    sizes: list[Size] = []
    kept: list[list[Size]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if is_one(size):
            continue
        if sizes and all(own[-1] == stride[axis] * size for own, stride in zip(kept, strides, strict=True)):
            sizes[-1] = sizes[-1] * size
            for own, stride in zip(kept, strides, strict=True):
                own[-1] = stride[axis]
        else:
            sizes.append(size)
            for own, stride in zip(kept, strides, strict=True):
                own.append(stride[axis])
    return sizes, kept


def below_reshapes(node: Tensor) -> Tensor:
    """The value that lies in memory exactly as this one does: what it is a reshape of."""
    while node.op.name == "reshape":
        node = node.inputs[0]
    return node


def needs_copy(nodes: Sequence[Tensor], is_buffer: Callable[[Tensor], bool]) -> set[Tensor]:
    """View nodes that have to be written out because a reshape of them cannot be expressed by strides.

    `nodes` come in topological order; every non-view node is taken to own a contiguous buffer. What is written out is
    contiguous from then on, which can be less handy than what it was (a broadcast has strides of 0, and any reshape
    of it has too): ask again until there is nothing new.
    """
    copied: set[Tensor] = set()

    def needs(node: Tensor) -> bool:
        return node.op.name == "reshape" and view_of(
            node, lambda each: each is not node and (each in copied or is_buffer(each))) is None

    for node in nodes:
        if needs(node):
            copied.add(node.inputs[0])
    return copied
