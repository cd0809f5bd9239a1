"""Windows: equal stretches of an axis, one after the other, overlapping or with gaps; and their adjoint.

Level: tensor graph and primitive graph. `windows` is a view: the compiler turns it into strides, so that a reduction
over windows reads its operand where it lies, and only a reshape of overlapping windows (the columns of a convolution)
copies anything. `fold` adds every element of the windows back to where it was read; it gathers, so its sums have one
order on any number of threads. Each is the other's gradient.

The functions spell windows that neither overlap nor leave anything out as a reshape, so that both cost nothing there.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..op import Inference, primitive
from ..tensor import Tensor
from ..types import Size, TensorType, floor_divide, maximum_size, sign_of
from .movement import pad, reshape, slice_axes

Array = np.ndarray[Any, Any]


def extent_of(size: Size, spacing: int) -> Size:
    """From the first to the last element of a window of `size` elements, `spacing` apart."""
    return (size - 1) * spacing + 1


def window_count(length: Size, size: int, step: int, spacing: int) -> Size:
    """How many windows an axis of this length has."""
    return floor_divide(length - extent_of(size, spacing), step) + 1


def check_fits(context: Inference, length: Size, size: int, spacing: int, what: str) -> None:
    """ShapeError, or a guard, unless at least one window fits into the axis."""
    room = length - extent_of(size, spacing)
    if isinstance(room, int) and room < 0:
        raise context.shape_error(f"{what} is shorter than a window",
                                  f"needed at least {extent_of(size, spacing)} elements, got {length}")
    if sign_of(room) != 1 and not isinstance(room, int):
        context.same_size(maximum_size(-room, 0), 0,
                          f"{what}, of size {length}, is {{left}} shorter than a window of {extent_of(size, spacing)}")


def _infer_windows(context: Inference, x: TensorType, *, axis: int, size: int, step: int, spacing: int) -> TensorType:
    check_fits(context, x.shape[axis], size, spacing, f"axis {axis}")
    count = window_count(x.shape[axis], size, step, spacing)
    return TensorType(x.dtype, (*x.shape[:axis], count, size, *x.shape[axis + 1:]), x.weak)


def _windows_meaning(x: Array, axis: int, size: int, step: int, spacing: int) -> Array:
    every = np.lib.stride_tricks.sliding_window_view(x, (size - 1) * spacing + 1, axis)     # windows come last
    index = [builtins.slice(None)] * x.ndim
    index[axis] = builtins.slice(None, None, step)
    return np.moveaxis(every[tuple(index)][..., ::spacing], -1, axis + 1)


windows_op = primitive(
    "windows", kind="view", doc="Stretches of an axis: out[.., i, t, ..] = x[.., i * step + t * spacing, ..].",
    infer=_infer_windows, ref=_windows_meaning,
    vjp=lambda ct, y, x, axis, size, step, spacing: (fold(ct, axis, x.shape[axis], step, spacing),),
    examples=(((np.arange(7.0),), {"axis": 0, "size": 3, "step": 2, "spacing": 1}),
              ((np.linspace(-1, 1, 16).reshape(2, 8),), {"axis": 1, "size": 3, "step": 1, "spacing": 2}),
              ((np.linspace(-1, 2, 15).reshape(5, 3),), {"axis": 0, "size": 2, "step": 3, "spacing": 1})))


def windows(x: Tensor, axis: int, size: int, step: int, spacing: int = 1) -> Tensor:
    """x with an axis made two: windows, and the elements of each."""
    before, after, length = x.shape[:axis], x.shape[axis + 1:], x.shape[axis]
    if size == 1 and step == 1:
        return reshape(x, (*before, length, 1, *after))
    if size == step and spacing == 1:
        count = window_count(length, size, step, 1)
        whole = slice_axes(x, (0,) * x.ndim, (1,) * x.ndim, (*before, count * size, *after))
        return reshape(whole, (*before, count, size, *after))
    return windows_op(x, axis=axis, size=size, step=step, spacing=spacing)


def _infer_fold(context: Inference, y: TensorType, *, axis: int, length: Size, step: int, spacing: int) -> TensorType:
    size = y.shape[axis + 1]
    if not isinstance(size, int):
        raise context.shape_error("windows have a known size", f"got {size}")
    context.same_size(window_count(length, size, step, spacing), y.shape[axis], "the number of windows differs")
    return TensorType(y.dtype, (*y.shape[:axis], length, *y.shape[axis + 2:]))


def _fold_meaning(y: Array, axis: int, length: int, step: int, spacing: int) -> Array:
    parts = np.moveaxis(y, (axis, axis + 1), (0, 1))
    result = np.zeros((length, *parts.shape[2:]), y.dtype)
    for place in range(parts.shape[1]):
        first = place * spacing
        result[first:first + (len(parts) - 1) * step + 1:step] += parts[:, place]
    return np.moveaxis(result, 0, axis)


fold_op = primitive(
    "fold", kind="fold", doc="The sum of the window elements of each place: out[.., i * step + t * spacing, ..] += "
                             "y[.., i, t, ..].",
    infer=_infer_fold, ref=_fold_meaning,
    vjp=lambda ct, out, y, axis, length, step, spacing: (windows(ct, axis, y.shape[axis + 1], step, spacing),),
    examples=(((np.arange(9.0).reshape(3, 3),), {"axis": 0, "length": 8, "step": 2, "spacing": 1}),
              ((np.linspace(-1, 1, 24).reshape(2, 4, 3),), {"axis": 1, "length": 8, "step": 1, "spacing": 2}),
              ((np.linspace(-1, 2, 12).reshape(2, 2, 3),), {"axis": 0, "length": 6, "step": 3, "spacing": 1})))


def fold(y: Tensor, axis: int, length: Size, step: int, spacing: int = 1) -> Tensor:
    """The axes of windows and of their elements made one of `length` again, by adding up what lies at one place."""
    count, size = y.shape[axis:axis + 2]
    before, after = y.shape[:axis], y.shape[axis + 2:]
    if size == 1 and step == 1:
        return reshape(y, (*before, length, *after))
    if isinstance(size, int) and size == step and spacing == 1:
        joined = reshape(y, (*before, count * size, *after))
        rest = length - count * size
        return pad(joined, [(0, rest if number == axis else 0) for number in range(joined.ndim)])
    return fold_op(y, axis=axis, length=length, step=step, spacing=spacing)


def grid_of_windows(x: Tensor, size: Sequence[int], step: Sequence[int], spacing: Sequence[int]) -> Tensor:
    """(n, c, h, w) as (n, c, rows of windows, rows of each, columns of windows, columns of each)."""
    return windows(windows(x, 3, size[1], step[1], spacing[1]), 2, size[0], step[0], spacing[0])


def fold_grid(y: Tensor, shape: Sequence[Size], step: Sequence[int], spacing: Sequence[int]) -> Tensor:
    """The adjoint of `grid_of_windows`: back to (n, c, *shape)."""
    return fold(fold(y, 4, shape[1], step[1], spacing[1]), 2, shape[0], step[0], spacing[0])
