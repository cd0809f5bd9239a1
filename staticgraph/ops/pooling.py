"""Pooling: the largest element of each window, or the mean.

Level: tensor graph. Small windows expand into one elementwise formula over shifted slices, which fuses and vectorises;
large ones into a reduction over windows, a view.

Decisions. nan wins, as in NumPy. Where elements of a window tie for the largest, the first of them, row by row, gets
all of the gradient (the first nan where there is one): `max_pool_position` is its number in the window, and
`max_pool_place` and `max_pool_pick`, which go by it, are each other's gradient. Padding is -inf (the least integer) for
the maximum, and zeros that count for the mean, unless `count_include_pad` is False.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..op import Inference, Op, as_tensor, broadcast, composite, operands_message, registry
from ..tensor import Tensor
from ..types import Shape, TensorType
from . import reduction
from .composite import as_floating
from .convolution import Padding, numbers, paddings
from .elementwise import add, astype, isnan, logical_and, logical_not, logical_or, maximum, multiply, where
from .grid import ramp
from .movement import pad, reshape, slice_axes
from .windows import check_fits, fold_grid, grid_of_windows, window_count

__all__ = ["avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"]

Pair = tuple[int, int]
UNROLLED = 25
"""Elements of a window up to which pooling is a formula of so many terms."""

PLAIN = (1, 1)
WINDOW_AXES = (3, 5)


def _counts(shape: Shape, kernel: Pair, stride: Pair) -> Shape:
    return tuple(window_count(length, size, step, 1) for length, size, step in zip(shape[2:], kernel, stride))


def _infer_pool(context: Inference, x: TensorType, *, kernel: Pair, stride: Pair) -> TensorType:
    if x.ndim != 4:
        raise context.shape_error("needs images of 4 dimensions")
    for name, length, size in zip(("rows", "columns"), x.shape[2:], kernel):
        check_fits(context, length, size, 1, f"the axis of {name}")
    return TensorType(x.dtype, (*x.shape[:2], *_counts(x.shape, kernel, stride)))


def _infer_position(context: Inference, x: TensorType, *, kernel: Pair, stride: Pair) -> TensorType:
    return TensorType(position_dtype(kernel), _infer_pool(context, x, kernel=kernel, stride=stride).shape)


def position_dtype(kernel: Pair) -> np.dtype[Any]:
    """What numbers the elements of a window, and one more than there are."""
    return np.dtype(np.uint8 if kernel[0] * kernel[1] < 256 else np.int32)


def _infer_place(context: Inference, position: TensorType, ct: TensorType, *, size: Shape, kernel: Pair,
                 stride: Pair) -> TensorType:
    _check_counts(context, position, (*position.shape[:2], *size), ct.shape, kernel, stride)
    return TensorType(ct.dtype, (*ct.shape[:2], *size))


def _infer_pick(context: Inference, position: TensorType, v: TensorType, *, kernel: Pair, stride: Pair) -> TensorType:
    _check_counts(context, position, v.shape, position.shape, kernel, stride)
    return TensorType(v.dtype, position.shape)


def _check_counts(context: Inference, position: TensorType, image: Shape, counts: Shape, kernel: Pair,
                  stride: Pair) -> None:
    if position.dtype.kind not in "iu":
        raise context.dtype_error("positions are integers")
    expected = (*image[:2], *_counts(image, kernel, stride))
    for size, count, wanted in zip(position.shape, counts, expected, strict=True):
        context.same_size(size, count, "the sizes of the operands differ")
        context.same_size(size, wanted, "the number of windows differs")


def _shifted(x: Tensor, kernel: Pair, stride: Pair) -> list[Tensor]:
    """For each place in a window the elements that lie there, one a window."""
    shape = (*x.shape[:2], *_counts(x.shape, kernel, stride))
    return [slice_axes(x, (0, 0, row, column), (1, 1, *stride), shape)
            for row in range(kernel[0]) for column in range(kernel[1])]


def _expand_max(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    if kernel[0] * kernel[1] <= UNROLLED:
        return functools.reduce(maximum, _shifted(x, kernel, stride))
    return reduction.max(grid_of_windows(x, kernel, stride, PLAIN), WINDOW_AXES)


def _expand_sum(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    if kernel[0] * kernel[1] <= UNROLLED:
        return functools.reduce(add, _shifted(x, kernel, stride))
    total: Tensor = registry["sum"](grid_of_windows(x, kernel, stride, PLAIN), axes=WINDOW_AXES)
    return total


def _over_windows(y: Tensor, kernel: Pair) -> Tensor:
    """One value a window, for each element of it."""
    n, channels, rows, columns = y.shape
    return broadcast(reshape(y, (n, channels, rows, 1, columns, 1)), (n, channels, rows, kernel[0], columns, kernel[1]))


def _sum_vjp(ct: Tensor, y: Tensor, x: Tensor, kernel: Pair, stride: Pair) -> tuple[Tensor]:
    return (fold_grid(_over_windows(ct, kernel), x.shape[2:], stride, PLAIN),)


def _expand_position(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    if kernel[0] * kernel[1] > UNROLLED:
        return _position_by_reduction(x, kernel, stride)
    largest, *others = _shifted(x, kernel, stride)
    position = as_tensor(np.zeros((), position_dtype(kernel)))
    for number, each in enumerate(others, 1):
        better = each > largest
        if x.dtype.kind == "f":
            better = logical_or(better, logical_and(isnan(each), logical_not(isnan(largest))))
        largest, position = maximum(largest, each), where(better, number, position)
    return astype(broadcast(position, largest.shape), position_dtype(kernel))


def _position_by_reduction(x: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    grid = grid_of_windows(x, kernel, stride, PLAIN)
    largest = reduction.max(grid, WINDOW_AXES, keepdims=True)
    hit = grid == broadcast(largest, grid.shape)
    if x.dtype.kind == "f":
        hit = logical_or(hit, isnan(grid))
    place = add(multiply(ramp(grid.shape, 3), kernel[1]), ramp(grid.shape, 5))
    return astype(reduction.min(where(hit, place, kernel[0] * kernel[1]), WINDOW_AXES), position_dtype(kernel))


def _chosen(position: Tensor, kernel: Pair) -> Tensor:
    """For each element of a window whether its number is that of the window."""
    spread = _over_windows(astype(position, np.int64), kernel)
    return add(multiply(ramp(spread.shape, 3), kernel[1]), ramp(spread.shape, 5)) == spread


def _expand_place(position: Tensor, ct: Tensor, size: Shape, kernel: Pair, stride: Pair) -> Tensor:
    return fold_grid(where(_chosen(position, kernel), _over_windows(ct, kernel), 0), size, stride, PLAIN)


def _expand_pick(position: Tensor, v: Tensor, kernel: Pair, stride: Pair) -> Tensor:
    picked = where(_chosen(position, kernel), grid_of_windows(v, kernel, stride, PLAIN), 0)
    total: Tensor = registry["sum"](picked, axes=WINDOW_AXES)
    return total


_IMAGE = np.sin(np.arange(1.0, 2 * 5 * 6 + 1)).reshape(1, 2, 5, 6)
_LARGE = np.cos(np.arange(1.0, 49.0)).reshape(1, 1, 6, 8)
_CASES: tuple[tuple[Any, Pair, Pair], ...] = (
    (_IMAGE, (2, 2), (2, 2)), (_IMAGE, (3, 2), (1, 2)), (_IMAGE, (2, 2), (3, 3)), (_LARGE, (5, 6), (1, 2)))


def _examples(*kinds: str) -> tuple[Any, ...]:
    """Operands by name: images, one cotangent a window, and for each window the number of an element."""
    made = []
    for image, kernel, stride in _CASES:
        shape = (*image.shape[:2], *(int(count) for count in _counts(image.shape, kernel, stride)))
        count = int(np.prod(shape))
        position = (5 * np.arange(count) % (kernel[0] * kernel[1])).reshape(shape)
        arrays = {"x": image, "ct": np.sin(np.arange(0.5, count)).reshape(shape),
                  "position": position.astype(position_dtype(kernel))}
        size = {"size": image.shape[2:]} if kinds == ("position", "ct") else {}
        made.append((tuple(arrays[kind] for kind in kinds), {**size, "kernel": kernel, "stride": stride}))
    return tuple(made)


max_pool_op: Op = composite(
    "max_pool", doc="The largest element of each window of rows and columns; nan if there is one.", infer=_infer_pool,
    expand=_expand_max, examples=_examples("x"),
    vjp=lambda ct, y, x, **attrs: (place_op(position_op(x, **attrs), ct, size=x.shape[2:], **attrs),))

position_op: Op = composite(
    "max_pool_position", doc="The number, row by row, of the first largest element (or nan) of each window.",
    infer=_infer_position, expand=_expand_position, connected=False)

place_op: Op = composite(
    "max_pool_place", doc="Images of zeros, with the cotangent of each window added where its position is.",
    infer=_infer_place, expand=_expand_place, examples=_examples("position", "ct"),
    vjp=lambda v, y, position, ct, size, **attrs: (None, pick_op(position, v, **attrs)))

pick_op: Op = composite(
    "max_pool_pick", doc="The element of each window that its position says.", infer=_infer_pick, expand=_expand_pick,
    examples=_examples("position", "x"),
    vjp=lambda ct, y, position, v, **attrs: (None, place_op(position, ct, size=v.shape[2:], **attrs)))

sum_pool_op: Op = composite(
    "sum_pool", doc="The sum of each window of rows and columns.", infer=_infer_pool, expand=_expand_sum,
    vjp=_sum_vjp, examples=_examples("x"))


# What users call.


def max_pool2d(x: Any, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """The largest element of each window of images (n, channels, rows, columns); nan if there is one.

    `kernel` and `stride` (by default the kernel): an int, or a pair for rows and columns. `padding`, less than the
    kernel: as for `conv2d`. Elements that tie: the first, row by row, has the gradient.
    """
    return _max_pool("max_pool2d", as_tensor(x), kernel, stride, padding)


def max_pool1d(x: Any, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """The largest element of each window of signals (n, channels, length); see `max_pool2d`."""
    return _max_pool("max_pool1d", as_tensor(x), kernel, stride, padding)


def avg_pool2d(x: Any, kernel: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True) -> Tensor:
    """The mean of each window of images (n, channels, rows, columns); of integers it is float64.

    As `max_pool2d`. Zeros of the padding count as elements, unless `count_include_pad` is False.
    """
    return _avg_pool("avg_pool2d", as_floating(x), kernel, stride, padding, count_include_pad)


def avg_pool1d(x: Any, kernel: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True) -> Tensor:
    """The mean of each window of signals (n, channels, length); see `avg_pool2d`."""
    return _avg_pool("avg_pool1d", as_floating(x), kernel, stride, padding, count_include_pad)


def _prepared(function: str, x: Tensor, kernel: Any, stride: Any, padding: Any) -> tuple[Tensor, Pair, Pair, Padding]:
    """The operand as images, with all that says how its windows lie."""
    rank = 2 if function.endswith("2d") else 1
    if x.ndim != rank + 2:
        layout = "(n, channels, rows, columns)" if rank == 2 else "(n, channels, length)"
        raise ShapeError(operands_message(f"{function}: needs {rank + 2} dimensions", [x], f"needed {layout}"))
    sizes = numbers(function, "kernel", kernel, rank, [x])
    steps = sizes if stride is None else numbers(function, "stride", stride, rank, [x])
    widths = paddings(function, padding, x.shape[2:], sizes, steps, (1,) * rank, [x])
    for size, pair in zip(sizes, widths):
        if any(isinstance(width, int) and width >= size for width in pair):
            raise ShapeError(operands_message(f"{function}: the padding is not smaller than the window", [x],
                                              f"got a padding of {pair} for a window of {size}"))
    if rank == 1:
        x = reshape(x, (*x.shape[:2], 1, x.shape[2]))
        sizes, steps, widths = (1, *sizes), (1, *steps), ((0, 0), *widths)
    return x, sizes, steps, widths


def _as_given(y: Tensor, function: str) -> Tensor:
    return y if function.endswith("2d") else reshape(y, (*y.shape[:2], y.shape[3]))


def _max_pool(function: str, x: Tensor, kernel: Any, stride: Any, padding: Any) -> Tensor:
    image, sizes, steps, widths = _prepared(function, x, kernel, stride, padding)
    if x.dtype.kind == "b":
        raise DTypeError(operands_message(f"{function}: bools have no maximum; use sg.any or astype", [x]))
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return _as_given(max_pool_op(pad(image, ((0, 0), (0, 0), *widths), least), kernel=sizes, stride=steps), function)


def _avg_pool(function: str, x: Tensor, kernel: Any, stride: Any, padding: Any, count_include_pad: bool) -> Tensor:
    image, sizes, steps, widths = _prepared(function, x, kernel, stride, padding)
    total = sum_pool_op(pad(image, ((0, 0), (0, 0), *widths)), kernel=sizes, stride=steps)
    if count_include_pad or not _any_width(widths):
        return _as_given(total * (1.0 / (sizes[0] * sizes[1])), function)
    ones = broadcast(as_tensor(np.ones((), np.int64)), (1, 1, *image.shape[2:]))
    counts = sum_pool_op(pad(ones, ((0, 0), (0, 0), *widths)), kernel=sizes, stride=steps)
    return _as_given(total / broadcast(astype(counts, total.dtype), total.shape), function)


def _any_width(widths: Sequence[tuple[Any, Any]]) -> bool:
    return any(not isinstance(width, int) or width > 0 for pair in widths for width in pair)
