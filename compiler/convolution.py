"""Convolutions and pooling for devices that have kernels for them: the CPU.

Comes in: the stabilised graph. Goes out: the same meaning, where a convolution of floats is one `direct_conv`, which
reads windows where they lie, instead of a product with their columns. A gradient of images is a convolution too: of
the cotangents, with the weights turned round, one for each residue of the stride. A gradient of weights is a sum of
parts, each made by one `direct_conv_weights`. What has no window at all (1 x 1, every place) stays as it is: its
expansion is a plain product without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from staticgraph import location
from staticgraph.op import Inference, as_tensor, broadcast, primitive, registry
from staticgraph.ops.movement import flip_axes, permute_dims, reshape, slice_axes
from staticgraph.tensor import Tensor, build, rebuild, toposort
from staticgraph.types import Shape, Size, TensorType, floor_divide, product

from .direct_calls import conv_blocks, weight_blocks
from .render.cpu_conv import FACTORS, FLOATS

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
PARTS = 8
"""Sums over images are made in so many parts, which threads share; then these are added up."""


# The ops. `before` says how many zeros lie before the first row and column; a negative number cuts. How many lie behind
# follows from `size`, the rows and columns of the result.


def _shifted(x: Array, row: int, column: int, stride: Pair, size: Sequence[int]) -> Array:
    """x from a row and column on, which may lie outside, with zeros there."""
    rows, columns = ((start + step * np.arange(count)) for start, step, count in zip((row, column), stride, size))
    inside = np.logical_and.outer((rows >= 0) & (rows < x.shape[2]), (columns >= 0) & (columns < x.shape[3]))
    clipped = np.ix_(np.clip(rows, 0, x.shape[2] - 1), np.clip(columns, 0, x.shape[3] - 1))
    return np.where(inside, x[:, :, clipped[0], clipped[1]], x.dtype.type(0))


def _conv_meaning(x: Array, w: Array, stride: Pair, before: Sequence[int], dilation: Pair, groups: int,
                  size: Sequence[int]) -> Array:
    y = np.zeros((len(x), groups, len(w) // groups, *size), x.dtype)
    for a, b in np.ndindex(*w.shape[2:]):
        part = _shifted(x, a * dilation[0] - before[0], b * dilation[1] - before[1], stride, size)
        part = part.reshape(len(x), groups, -1, *size)
        y += np.einsum("ngcij,goc->ngoij", part, w[:, :, a, b].reshape(groups, -1, w.shape[1]))
    return y.reshape(len(x), len(w), *size)


direct_conv = primitive(
    "direct_conv", kind="windowed", doc="A convolution by its own kernel.",
    infer=lambda context, x, w, size, **attrs: TensorType(x.dtype, (x.shape[0], w.shape[0], *size)), ref=_conv_meaning)


def _weights_meaning(x: Array, ct: Array, kernel: Pair, stride: Pair, before: Sequence[int], dilation: Pair,
                     groups: int, parts: int) -> Array:
    each = [_shifted(x, a * dilation[0] - before[0], b * dilation[1] - before[1], stride, ct.shape[2:])
            for a, b in np.ndindex(*kernel)]
    windows = np.stack(each, 2).reshape(len(x), groups, -1, *ct.shape[2:])
    slopes = ct.reshape(len(x), groups, -1, *ct.shape[2:])
    whole = np.einsum("ngkij,ngoij->gko", windows, slopes)
    return np.concatenate([whole[None], np.zeros((parts - 1, *whole.shape), whole.dtype)])


def _infer_weights(context: Inference, x: TensorType, ct: TensorType, *, kernel: Pair, stride: Pair,
                   before: tuple[Size, Size], dilation: Pair, groups: int, parts: int) -> TensorType:
    factors = product((floor_divide(x.shape[1], groups), *kernel))
    return TensorType(x.dtype, (parts, groups, factors, floor_divide(ct.shape[1], groups)))


direct_conv_weights = primitive(
    "direct_conv_weights", kind="windowed", infer=_infer_weights, ref=_weights_meaning,
    doc="Parts of the gradient of a convolution's weights, (parts, groups, factors, outputs), to be added up.")


# The pass.


def direct(outputs: list[Tensor]) -> tuple[list[Tensor], list[str]]:
    """The outputs with convolutions by kernels of their own."""
    done: dict[Tensor, Tensor] = {}
    remarks: list[str] = []
    for node in toposort(outputs):
        inputs = [done[each] for each in node.inputs]
        make = _ROUTES.get(node.op.name)
        made = None
        if make is not None and str(node.dtype) in FLOATS:
            with location.using(node.locations):
                made = make(node, *inputs)
        if made is not None:
            remarks.append(f"{node.op.name} of {node.type} by a kernel of its own")
        done[node] = rebuild(node, inputs) if made is None else made
    return [done[each] for each in outputs], remarks


def _conv(node: Tensor, x: Tensor, w: Tensor) -> Tensor | None:
    stride, padding = node.attrs["stride"], node.attrs["padding"]
    kernel = _known(w.shape[2:])
    plain = kernel == (1, 1) and stride == (1, 1) and _all_zero(padding)
    if plain or not _fits(w.shape):
        return None
    made = build(direct_conv, (x, w), {
        "stride": stride, "before": tuple(low for low, _ in padding), "dilation": node.attrs["dilation"],
        "groups": node.attrs["groups"], "size": node.shape[2:]})
    return None if conv_blocks(made) is None else made


def _known(shape: Shape) -> tuple[int, ...] | None:
    sizes = tuple(size for size in shape if isinstance(size, int) and size > 0)
    return sizes if len(sizes) == len(shape) else None


def _all_zero(padding: Sequence[tuple[Size, Size]]) -> bool:
    return all(isinstance(width, int) and width == 0 for pair in padding for width in pair)


def _fits(weights: Shape) -> bool:
    """Does the kernel take these weights? It wants to know them, and few of them a channel."""
    sizes = _known(weights)
    return sizes is not None and sizes[2] * sizes[3] <= FACTORS


def _input_gradient(node: Tensor, ct: Tensor, w: Tensor) -> Tensor | None:
    """The places of an image that are a whole number of steps apart meet the same weights: together they are a
    convolution of the cotangents, by step 1. All of them, interleaved, are the image with its padding."""
    stride, dilation, groups = (node.attrs[name] for name in ("stride", "dilation", "groups"))
    padding, size = node.attrs["padding"], node.attrs["size"]
    kernel = _known(w.shape[2:])
    spread = any(step > 1 and spacing > 1 for step, spacing in zip(stride, dilation))
    plain = kernel == (1, 1) and stride == (1, 1) and _all_zero(padding)
    if plain or spread or not _fits(w.shape):
        return None
    turned = _turned(w, groups)
    low = tuple(pair[0] for pair in padding)
    if stride == (1, 1):
        before = tuple(spacing * (count - 1) - zeros for spacing, count, zeros in zip(dilation, w.shape[2:], low))
        return _stepless(ct, turned, before, dilation, groups, size)
    counts = [floor_divide(zeros + length + step - 1, step) for zeros, length, step in zip(low, size, stride)]
    image = (ct.shape[0], turned.shape[0], *counts)
    rows = []
    for a in range(stride[0]):
        line = [_residue(ct, turned, (a, b), stride, dilation, groups, image) for b in range(stride[1])]
        rows.append(_interleaved(line, 3))
    whole = _interleaved(rows, 2)
    return slice_axes(whole, (0, 0, *low), (1,) * 4, (*whole.shape[:2], *size))


def _turned(w: Tensor, groups: int) -> Tensor:
    """Weights from outputs to inputs, upside down and back to front."""
    outputs, channels, *kernel = w.shape
    each = reshape(w, (groups, floor_divide(outputs, groups), channels, *kernel))
    each = flip_axes(permute_dims(each, (0, 2, 1, 3, 4)), (3, 4))
    return reshape(each, (channels * groups, floor_divide(outputs, groups), *kernel))


def _stepless(x: Tensor, w: Tensor, before: Sequence[Size], dilation: Pair, groups: int,
              size: Sequence[Size]) -> Tensor:
    return build(direct_conv, (x, w), {"stride": (1, 1), "before": tuple(before), "dilation": dilation,
                                       "groups": groups, "size": tuple(size)})


def _residue(ct: Tensor, turned: Tensor, residue: Pair, stride: Pair, dilation: Pair, groups: int,
             shape: Shape) -> Tensor:
    """The places of a padded image whose row and column have these residues."""
    kernel = [int(size) for size in turned.shape[2:]]
    counts = [(size - rest + step - 1) // step for size, rest, step in zip(kernel, residue, stride)]
    if min(counts) <= 0:
        return broadcast(as_tensor(np.zeros((), ct.dtype)), shape)
    # weight `residue + step * t` of the kernel is, turned round, number kernel - 1 - that: the last t comes first
    firsts = [size - 1 - rest - step * (count - 1) for size, rest, step, count in zip(kernel, residue, stride, counts)]
    some = slice_axes(turned, (0, 0, *firsts), (1, 1, *stride), (*turned.shape[:2], *counts))
    return _stepless(ct, some, [count - 1 for count in counts], dilation, groups, shape[2:])


def _interleaved(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Element i of part number k is element i * (number of parts) + k of the result."""
    if len(parts) == 1:
        return parts[0]
    shape = parts[0].shape
    apart = [reshape(each, (*shape[:axis + 1], 1, *shape[axis + 1:])) for each in parts]
    joined: Tensor = registry["concat"](*apart, axis=axis + 1)
    return reshape(joined, (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1:]))


def _weight_gradient(node: Tensor, x: Tensor, ct: Tensor) -> Tensor | None:
    kernel, groups = node.attrs["kernel"], node.attrs["groups"]
    if not _fits(node.shape):
        return None
    parts = build(direct_conv_weights, (x, ct), {
        "kernel": kernel, "stride": node.attrs["stride"], "before": tuple(low for low, _ in node.attrs["padding"]),
        "dilation": node.attrs["dilation"], "groups": groups, "parts": PARTS})
    if weight_blocks(parts) is None:
        return None
    total = permute_dims(registry["sum"](parts, axes=(0,)), (0, 2, 1))
    return reshape(total, node.shape)


_ROUTES = {"conv": _conv, "conv_input_gradient": _input_gradient, "conv_weight_gradient": _weight_gradient}
