"""Convolutions and pooling for devices that have kernels for them: the CPU.

Comes in: the stabilised graph. Goes out: the same meaning, where a convolution of floats is one `direct_conv`, which
reads windows where they lie, instead of a product with their columns. A gradient of images is a convolution too: of
the cotangents, with the weights turned round; by a stride it is a `spread_conv`, one for each residue. A gradient of
weights is a sum of parts, each made by one `direct_conv_weights`. What has no window at all (1 x 1, every place) stays
as it is: its expansion is a plain product without a copy. The gradient of max pooling, whose windows scatter, is one
`direct_place`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from staticgraph.op import Inference, primitive, registry
from staticgraph.ops.movement import flip_axes, permute_dims, reshape, slice_axes
from staticgraph.rewrite.journal import Fired, Journal, Rebuilt
from staticgraph.tensor import Tensor, build, hand_on, made_of, rebuild, toposort
from staticgraph.types import Shape, Size, TensorType, floor_divide, product

from .direct_calls import conv_blocks, weight_blocks
from .render.cpu_conv import FACTORS, FLOATS

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
PARTS = 8
"""Sums over images are made in so many parts at most, which threads share; then these are added up."""

TOTALS = 2**20
"""Elements of all the parts together, about: a gradient that is large is shared by its channels anyway."""


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


def _spread_meaning(x: Array, *weights: Array, residues: Sequence[Pair], before: Sequence[Sequence[int]], stride: Pair,
                    dilation: Pair, groups: int, size: Sequence[int]) -> Array:
    y = np.zeros((len(x), len(weights[0]), *size), x.dtype)
    for w, (row, column), zeros in zip(weights, residues, before):
        part = y[:, :, row::stride[0], column::stride[1]]
        part[...] = _conv_meaning(x, w, (1, 1), zeros, dilation, groups, part.shape[2:])
    return y


spread_conv = primitive(
    "spread_conv", kind="windowed", ref=_spread_meaning,
    doc="Convolutions by step 1, each the part of the result whose row and column have its residues by the stride.",
    infer=lambda context, x, w, *more, size, **attrs: TensorType(x.dtype, (x.shape[0], w.shape[0], *size)))


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


def _place_meaning(position: Array, ct: Array, size: Sequence[int], kernel: Pair, stride: Pair) -> Array:
    y = np.zeros((*ct.shape[:2], *size), ct.dtype)
    n, c, i, j = np.indices(position.shape)
    np.add.at(y, (n, c, i * stride[0] + position // kernel[1], j * stride[1] + position % kernel[1]), ct)
    return y


direct_place = primitive(
    "direct_place", kind="windowed", doc="max_pool_place by its own kernel.", ref=_place_meaning,
    infer=lambda context, position, ct, size, **attrs: TensorType(ct.dtype, (*ct.shape[:2], *size)))


# The pass.


def direct(outputs: Sequence[Tensor], journal: Journal | None = None) -> tuple[list[Tensor], list[Fired]]:
    """The outputs with convolutions by kernels of their own, and what was exchanged."""
    done: dict[Tensor, Tensor] = {}
    fired: list[Fired] = []
    for node in toposort(outputs):
        inputs = [done[each] for each in node.inputs]
        make = _ROUTES.get(node.op.name)
        made = None
        if make is not None and str(node.dtype) in FLOATS:
            with made_of(node):
                made = make(node, *inputs)
        if made is not None:
            hand_on(node, made)
            fired.append(Fired(f"direct-{node.op.name}", "its own kernel reads windows where they lie, without a copy",
                               node, made, (node,)))
        done[node] = rebuild(node, inputs) if made is None else made
        if journal is not None and done[node] is not node:
            journal.append(Rebuilt(node, done[node]) if made is None else fired[-1])
    return [done[each] for each in outputs], fired


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
    convolution of the cotangents, by step 1."""
    attrs = node.attrs
    kernel, low = _known(w.shape[2:]), tuple(pair[0] for pair in attrs["padding"])
    spread = any(step > 1 and not (spacing == 1 and isinstance(zeros, int))
                 for step, spacing, zeros in zip(attrs["stride"], attrs["dilation"], low))
    plain = kernel == (1, 1) and attrs["stride"] == (1, 1) and _all_zero(attrs["padding"])
    if plain or spread or not _fits(w.shape):
        return None
    turned = _turned(w, attrs["groups"])
    parts = [part for place in np.ndindex(*attrs["stride"]) for part in _residue(turned, place, low, attrs)]
    if attrs["stride"] == (1, 1):
        ((some, _, before),) = parts
        made = build(direct_conv, (ct, some), {"stride": (1, 1), "before": before, "dilation": attrs["dilation"],
                                               "groups": attrs["groups"], "size": attrs["size"]})
    else:
        weights, residues, before = zip(*parts)
        made = build(spread_conv, (ct, *weights), {
            "residues": residues, "before": before, "stride": attrs["stride"], "dilation": attrs["dilation"],
            "groups": attrs["groups"], "size": attrs["size"]})
    return None if conv_blocks(made) is None else made


def _residue(turned: Tensor, place: Sequence[int], low: Sequence[Size],
             attrs: Mapping[str, Any]) -> list[tuple[Tensor, Pair, tuple[Size, ...]]]:
    """The weights that meet the image at rows and columns of these residues, the residues, and the zeros before the
    cotangents; nothing where no weight does."""
    kernel = [int(size) for size in turned.shape[2:]]
    starts, counts, before = [], [], []
    for residue, zeros, size, step, spacing in zip(place, low, kernel, attrs["stride"], attrs["dilation"], strict=True):
        first = (residue + zeros) % step if step > 1 else 0
        count = (size - first + step - 1) // step
        if count <= 0:
            return []
        # weight `first + step * t`, turned round, is number size - 1 - that: the last t comes first
        starts.append(size - 1 - first - step * (count - 1))
        counts.append(count)
        before.append(spacing * (count - 1) - floor_divide(residue + zeros, step))
    some = slice_axes(turned, (0, 0, *starts), (1, 1, *attrs["stride"]), (*turned.shape[:2], *counts))
    return [(some, (int(place[0]), int(place[1])), tuple(before))]


def _turned(w: Tensor, groups: int) -> Tensor:
    """Weights from outputs to inputs, upside down and back to front."""
    outputs, channels, *kernel = w.shape
    each = reshape(w, (groups, floor_divide(outputs, groups), channels, *kernel))
    each = flip_axes(permute_dims(each, (0, 2, 1, 3, 4)), (3, 4))
    return reshape(each, (channels * groups, floor_divide(outputs, groups), *kernel))


def _weight_gradient(node: Tensor, x: Tensor, ct: Tensor) -> Tensor | None:
    kernel, groups = node.attrs["kernel"], node.attrs["groups"]
    if not _fits(node.shape):
        return None
    count = max(1, min(PARTS, TOTALS // int(node.size))) if isinstance(node.size, int) else 1
    parts = build(direct_conv_weights, (x, ct), {
        "kernel": kernel, "stride": node.attrs["stride"], "before": tuple(low for low, _ in node.attrs["padding"]),
        "dilation": node.attrs["dilation"], "groups": groups, "parts": count})
    if weight_blocks(parts) is None:
        return None
    total = permute_dims(registry["sum"](parts, axes=(0,)), (0, 2, 1))
    return reshape(total, node.shape)


def _place(node: Tensor, position: Tensor, ct: Tensor) -> Tensor | None:
    return build(direct_place, (position, ct), node.attrs) if position.dtype == np.uint8 else None


_ROUTES = {"conv": _conv, "conv_input_gradient": _input_gradient, "conv_weight_gradient": _weight_gradient,
           "max_pool_place": _place}
