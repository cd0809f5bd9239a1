"""Convolutions: weights that slide over the last axes of a batch of channels (neural networks' sense, not flipped).

Level: tensor graph. The three composites are linear in both operands, and the gradients of each are the other two, so
derivatives of any order stay convolutions. All work on images, (n, channels, rows, columns); a signal is an image of
one row. Their expansion is the general form, a product with the columns of windows; a device that has kernels of its
own takes the composite whole.

Attributes: `stride`, `dilation` (pairs of ints), `padding` (a pair (low, high) of sizes for rows and for columns) and
`groups`, the number of parts into which the channels fall, each with weights (outputs / groups) of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..op import Inference, Op, composite, operands_message, promote_operands
from ..shapes import as_size
from ..tensor import Tensor
from ..types import Shape, Size, TensorType, floor_divide, maximum_size, product, provably_different
from .contraction import matmul
from .movement import broadcast_to, pad, permute_dims, reshape, slice_axes
from .windows import check_fits, extent_of, fold_grid, grid_of_windows, window_count

__all__ = ["conv1d", "conv2d"]

Pair = tuple[int, int]
Padding = tuple[tuple[Size, Size], ...]


def _pairs_of(padding: Padding) -> tuple[tuple[Size, Size], ...]:
    return ((0, 0), (0, 0), *padding)


def padded_size(sizes: Sequence[Size], padding: Padding) -> tuple[Size, ...]:
    """Rows and columns with what is put around them."""
    return tuple(low + size + high for size, (low, high) in zip(sizes, padding, strict=True))


def _one_dtype(context: Inference, a: TensorType, b: TensorType) -> None:
    if a.ndim != 4 or b.ndim != 4:
        raise context.shape_error("needs two operands of 4 dimensions")
    if a.dtype != b.dtype:
        raise context.dtype_error("needs operands of one dtype")


def _infer_conv(context: Inference, x: TensorType, w: TensorType, *, stride: Pair, padding: Padding, dilation: Pair,
                groups: int) -> TensorType:
    _one_dtype(context, x, w)
    context.same_size(x.shape[1], w.shape[1] * groups, "the numbers of channels differ")
    context.same_size(floor_divide(w.shape[0], groups) * groups, w.shape[0],
                      f"the outputs do not fall into {groups} groups")
    sizes: list[Size] = []
    kernel = _known_kernel(context, w.shape[2:])
    for name, length, size, step, spacing in zip(("rows", "columns"), padded_size(x.shape[2:], padding), kernel, stride,
                                                 dilation):
        check_fits(context, length, size, spacing, f"the axis of {name}")
        sizes.append(window_count(length, size, step, spacing))
    return TensorType(x.dtype, (x.shape[0], w.shape[0], *sizes))


def _known_kernel(context: Inference, sizes: Shape) -> tuple[int, ...]:
    kernel = tuple(size for size in sizes if isinstance(size, int) and size > 0)
    if len(kernel) != len(sizes):
        raise context.shape_error("the weights need known sizes of rows and columns, at least 1",
                                  f"got {tuple(map(str, sizes))}")
    return kernel


def _infer_input_gradient(context: Inference, ct: TensorType, w: TensorType, *, size: Shape, stride: Pair,
                          padding: Padding, dilation: Pair, groups: int) -> TensorType:
    _one_dtype(context, ct, w)
    context.same_size(ct.shape[1], w.shape[0], "the numbers of channels differ")
    _check_counts(context, ct.shape[2:], size, _known_kernel(context, w.shape[2:]), stride, padding, dilation)
    return TensorType(ct.dtype, (ct.shape[0], w.shape[1] * groups, *size))


def _infer_weight_gradient(context: Inference, x: TensorType, ct: TensorType, *, kernel: Pair, stride: Pair,
                           padding: Padding, dilation: Pair, groups: int) -> TensorType:
    _one_dtype(context, x, ct)
    context.same_size(x.shape[0], ct.shape[0], "the numbers of images differ")
    _check_counts(context, ct.shape[2:], x.shape[2:], kernel, stride, padding, dilation)
    return TensorType(x.dtype, (ct.shape[1], floor_divide(x.shape[1], groups), *kernel))


def _check_counts(context: Inference, counts: Shape, sizes: Shape, kernel: Sequence[int], stride: Pair,
                  padding: Padding, dilation: Pair) -> None:
    for count, length, size, step, spacing in zip(counts, padded_size(sizes, padding), kernel, stride, dilation):
        context.same_size(window_count(length, size, step, spacing), count, "the number of windows differs")


# The meaning: a product with the columns of windows. Groups become an axis of batches.


def _columns(x: Tensor, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Tensor:
    """(n, groups, channels of one, rows of the kernel, columns of it, rows, columns) of the windows, a view."""
    grid = grid_of_windows(pad(x, _pairs_of(padding)), kernel, stride, dilation)
    n, channels, rows, _, columns, _ = grid.shape
    grouped = reshape(grid, (n, groups, floor_divide(channels, groups), rows, kernel[0], columns, kernel[1]))
    return permute_dims(grouped, (0, 1, 2, 4, 6, 3, 5))


def _kernel_of(w: Tensor) -> Pair:
    return int(w.shape[2]), int(w.shape[3])


def _expand_conv(x: Tensor, w: Tensor, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Tensor:
    columns = _columns(x, _kernel_of(w), stride, padding, dilation, groups)
    n, _, channels, *kernel, height, width = columns.shape
    depth = product((channels, *kernel))
    outputs = floor_divide(w.shape[0], groups)
    y = matmul(reshape(w, (groups, outputs, depth)), reshape(columns, (n, groups, depth, height * width)))
    return reshape(y, (n, w.shape[0], height, width))


def _expand_input_gradient(ct: Tensor, w: Tensor, size: Shape, stride: Pair, padding: Padding, dilation: Pair,
                           groups: int) -> Tensor:
    n, outputs, height, width = ct.shape
    channels, kernel = w.shape[1], _kernel_of(w)
    each = floor_divide(outputs, groups)
    weights = permute_dims(reshape(w, (groups, each, channels * product(kernel))), (0, 2, 1))
    columns = matmul(weights, reshape(ct, (n, groups, each, height * width)))
    grid = permute_dims(reshape(columns, (n, groups, channels, *kernel, height, width)), (0, 1, 2, 5, 3, 6, 4))
    grid = reshape(grid, (n, channels * groups, height, kernel[0], width, kernel[1]))
    whole = fold_grid(grid, padded_size(size, padding), stride, dilation)
    return slice_axes(whole, (0, 0, *(low for low, _ in padding)), (1,) * 4, (*whole.shape[:2], *size))


def _expand_weight_gradient(x: Tensor, ct: Tensor, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair,
                            groups: int) -> Tensor:
    columns = permute_dims(_columns(x, kernel, stride, padding, dilation, groups), (1, 0, 5, 6, 2, 3, 4))
    _, n, height, width, channels, *_ = columns.shape
    each = floor_divide(ct.shape[1], groups)
    places = product((n, height, width))
    slopes = permute_dims(reshape(ct, (n, groups, each, height, width)), (1, 2, 0, 3, 4))
    y = matmul(reshape(slopes, (groups, each, places)),
               reshape(columns, (groups, places, channels * product(kernel))))
    return reshape(y, (ct.shape[1], channels, *kernel))


def _example(n: int, channels: int, size: Pair, outputs: int, kernel: Pair, stride: Pair = (1, 1),
             padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1) -> dict[str, Any]:
    """Arrays and attributes for one convolution: x, w and a cotangent."""
    def waves(*shape: int) -> Any:
        return np.sin(np.arange(1.0, np.prod(shape) + 1)).reshape(shape)

    counts = [int(window_count(low + length + high, size, step, spacing)) for length, (low, high), size, step, spacing
              in zip(size, padding, kernel, stride, dilation)]
    return {"x": waves(n, channels, *size), "w": waves(outputs, channels // groups, *kernel),
            "ct": waves(n, outputs, *counts), "kernel": kernel, "size": size,
            "attrs": {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}}


_EXAMPLES = (
    _example(2, 2, (4, 5), 3, (3, 2), padding=((1, 1), (0, 1))),
    _example(1, 4, (5, 4), 2, (2, 2), stride=(2, 1), padding=((0, 2), (1, 0)), groups=2),
    _example(2, 1, (1, 7), 2, (1, 3), stride=(1, 2), dilation=(1, 2), padding=((0, 0), (1, 1))),
    _example(1, 2, (3, 3), 2, (1, 1), stride=(2, 2)),
)

conv_op: Op = composite(
    "conv", doc="The windows of each image times the weights: (n, c, h, w) by (o, c / groups, kh, kw).",
    operands="promote", infer=_infer_conv, expand=_expand_conv,
    vjp=lambda ct, y, x, w, **attrs: (input_gradient_op(ct, w, size=x.shape[2:], **attrs),
                                      weight_gradient_op(x, ct, kernel=_kernel_of(w), **attrs)),
    examples=tuple(((each["x"], each["w"]), each["attrs"]) for each in _EXAMPLES))

input_gradient_op: Op = composite(
    "conv_input_gradient", doc="The gradient of a convolution's images for the cotangent of its result, and weights.",
    infer=_infer_input_gradient, expand=_expand_input_gradient,
    vjp=lambda v, y, ct, w, size, **attrs: (conv_op(v, w, **attrs),
                                            weight_gradient_op(v, ct, kernel=_kernel_of(w), **attrs)),
    examples=tuple(((each["ct"], each["w"]), {"size": each["size"], **each["attrs"]}) for each in _EXAMPLES))

weight_gradient_op: Op = composite(
    "conv_weight_gradient", doc="The gradient of a convolution's weights for its images, and the cotangent of its "
                                "result.",
    infer=_infer_weight_gradient, expand=_expand_weight_gradient,
    vjp=lambda v, y, x, ct, kernel, **attrs: (input_gradient_op(ct, v, size=x.shape[2:], **attrs),
                                              conv_op(x, v, **attrs)),
    examples=tuple(((each["x"], each["ct"]), {"kernel": each["kernel"], **each["attrs"]}) for each in _EXAMPLES))


# What users call.


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Tensor:
    """Convolution of images (n, channels, rows, columns) with weights (outputs, channels / groups, rows, columns).

    `stride` and `dilation`: an int, or a pair for rows and columns. `padding` with zeros: an int, a pair, a pair of
    (low, high) pairs, "valid" (none) or "same" (the result has a row for each `stride` rows, and columns likewise).
    `bias` is one number an output channel. The batch, rows and columns may be symbolic.
    """
    return _convolve("conv2d", x, weight, bias, stride, padding, dilation, groups)


def conv1d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Tensor:
    """Convolution of signals (n, channels, length) with weights (outputs, channels / groups, length).

    As `conv2d`; `padding` is an int, a pair (low, high), "valid" or "same".
    """
    return _convolve("conv1d", x, weight, bias, stride, padding, dilation, groups)


def _convolve(function: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
              groups: int) -> Tensor:
    rank = 2 if function == "conv2d" else 1
    operands = promote_operands(conv_op, (x, weight) if bias is None else (x, weight, bias))
    _check(function, operands, rank, groups)
    steps, spacings = (numbers(function, what, value, rank, operands)
                       for what, value in (("stride", stride), ("dilation", dilation)))
    kernel = [int(size) if isinstance(size, int) else 1 for size in operands[1].shape[2:]]
    widths = paddings(function, padding, operands[0].shape[2:], kernel, steps, spacings, operands)
    image, weights = operands[:2]
    if rank == 1:
        image, weights = (reshape(each, (*each.shape[:2], 1, each.shape[2])) for each in (image, weights))
        steps, spacings, widths = (1, *steps), (1, *spacings), ((0, 0), *widths)
    y = conv_op(image, weights, stride=steps, padding=widths, dilation=spacings, groups=groups)
    if rank == 1:
        y = reshape(y, (*y.shape[:2], y.shape[3]))
    return y if bias is None else y + broadcast_to(reshape(operands[2], (-1, *(1,) * rank)), y.shape)


def _check(function: str, operands: Sequence[Tensor], rank: int, groups: Any) -> None:
    x, weight, *bias = operands
    layout = "(n, channels, rows, columns)" if rank == 2 else "(n, channels, length)"
    if x.ndim != rank + 2 or weight.ndim != rank + 2:
        raise ShapeError(operands_message(f"{function}: needs {rank + 2} dimensions", operands,
                                          f"needed x {layout}",
                                          f"and weights {layout.replace('n, channels', 'outputs, channels / groups')}"))
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ArgumentError(operands_message(f"{function}: groups is a number from 1 on, got {groups!r}", operands))
    if provably_different(x.shape[1], weight.shape[1] * groups):
        raise ShapeError(operands_message(
            f"{function}: the numbers of channels differ", operands,
            f"needed x.shape[1] == weight.shape[1] * groups, got {x.shape[1]} and {weight.shape[1]} * {groups}"))
    if isinstance(weight.shape[0], int) and weight.shape[0] % groups:
        raise ShapeError(operands_message(f"{function}: {weight.shape[0]} outputs do not fall into {groups} groups",
                                          operands))
    if bias and (bias[0].ndim != 1 or provably_different(bias[0].shape[0], weight.shape[0])):
        raise ShapeError(operands_message(f"{function}: the bias needs one number for each output", operands,
                                          f"needed shape ({weight.shape[0]},)"))


def numbers(function: str, what: str, value: Any, rank: int, operands: Sequence[Tensor]) -> Any:
    """An int, or one for each axis, as a tuple; each at least 1."""
    items = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    plain = all(isinstance(item, int | np.integer) and not isinstance(item, bool) and item >= 1 for item in items)
    if len(items) != rank or not plain:
        wanted = "an int" if rank == 1 else f"an int or {rank} of them"
        raise ArgumentError(operands_message(f"{function}: the {what} is {wanted}, from 1 on, got {value!r}", operands))
    return tuple(int(item) for item in items)


def paddings(function: str, value: Any, sizes: Shape, kernel: Sequence[int], stride: Sequence[int],
             dilation: Sequence[int], operands: Sequence[Tensor]) -> Padding:
    """What to put before and after each axis, from any of the spellings of `conv2d`."""
    rank = len(kernel)
    if value == "valid" and isinstance(value, str):
        return ((0, 0),) * rank
    if value == "same" and isinstance(value, str):
        return tuple(map(_same, sizes, kernel, stride, dilation))
    items = list(value) if isinstance(value, tuple | list) else [value] * rank
    if rank == 1 and len(items) == 2:
        items = [tuple(items)]
    pairs = [tuple(item) if isinstance(item, tuple | list) else (item, item) for item in items]
    if isinstance(value, str) or len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
        wanted = "a width or (low, high)" if rank == 1 else "a width, one for each axis, a pair (low, high) for each"
        raise ArgumentError(operands_message(f"{function}: {value!r} is not a padding", operands,
                                             f'needed {wanted}, "same" or "valid"'))
    widths = tuple((as_size(function, low, operands), as_size(function, high, operands)) for low, high in pairs)
    if any(isinstance(width, int) and width < 0 for pair in widths for width in pair):
        raise ShapeError(operands_message(f"{function}: the padding is negative, got {value!r}", operands))
    return widths


def _same(length: Size, size: int, step: int, spacing: int) -> tuple[Size, Size]:
    """Zeros such that there are ceil(length / step) windows; the odd one goes behind."""
    if step == 1:
        total: Size = extent_of(size, spacing) - 1
    else:
        reached = floor_divide(length + step - 1, step) * step - step + extent_of(size, spacing)
        total = maximum_size(reached - length, 0)
    low = floor_divide(total, 2)
    return low, total - low
