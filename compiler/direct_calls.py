"""Calls of the CPU's kernels for convolutions: how a result is cut into blocks, and the table of arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from staticgraph.tensor import Tensor
from staticgraph.types import Shape, Size, floor_divide, product

from .backend import Call, Rendered
from .parameters import BufferOf
from .program import Argument
from .render import cpu_conv
from .render.cpu_conv import Blocks
from .target import Target
from .views import View

FEW = 16
"""Blocks of a convolution that are wanted, so that threads can share it."""


def conv_blocks(node: Tensor) -> Blocks | None:
    """How the result of a direct_conv is cut; None where its kernel cannot take it."""
    x, w = node.inputs
    kernel = (int(w.shape[2]), int(w.shape[3]))
    blocks = cpu_conv.choose_blocks(str(node.dtype), node.shape[2:], int(w.shape[1]), kernel, node.attrs["stride"],
                                    node.attrs["dilation"])
    if blocks is None or not isinstance(x.shape[0], int):
        return blocks
    rows = blocks.rows
    while rows > 4 and x.shape[0] * node.attrs["groups"] * _count(node.shape[2], rows) < FEW:
        rows = -(-rows // 2)
    return Blocks(rows, blocks.columns, blocks.channels)


def _count(total: Size, size: int) -> int:
    count = cpu_conv.parts_of(total, size)
    return count if isinstance(count, int) else 1


def weight_blocks(node: Tensor) -> Blocks | None:
    """How the windows of a direct_conv_weights are cut; None where its kernel cannot take them."""
    x, ct = node.inputs
    channels, outputs = (floor_divide(each.shape[1], node.attrs["groups"]) for each in (x, ct))
    if not isinstance(channels, int) or not isinstance(outputs, int):
        return None
    return cpu_conv.choose_blocks(str(node.dtype), ct.shape[2:], channels, node.attrs["kernel"], node.attrs["stride"],
                                  node.attrs["dilation"], cpu_conv.PLACES, half=True)


def windowed_call(node: Tensor, views: Sequence[View], buffer_of: BufferOf, target: Target) -> tuple[Call, Size]:
    """The kernel of a node of kind "windowed" with its arguments, and its floating-point operations."""
    call, flops = (_conv if node.op.name == "direct_conv" else _weights)(node, target)
    size = node.dtype.itemsize
    operands = [Argument("buffer", buffer_of(view.base), view.offset * size) for view in views]
    return Call(call.kernel, [*operands, Argument("buffer", buffer_of(node)), *call.arguments], call.extent), flops


def _conv(node: Tensor, target: Target) -> tuple[Call, Size]:
    x, w = node.inputs
    blocks = conv_blocks(node)
    assert blocks is not None, "the pass asks first"
    groups = node.attrs["groups"]
    kernel, outputs = w.shape[2:], floor_divide(w.shape[0], groups)
    numbers, counts = _numbers(node.attrs, x.shape, w.shape[1], outputs, node.shape[2:], kernel, blocks, 1)
    extent = product((x.shape[0], groups, *counts))
    flops = 2 * product((*node.shape, *w.shape[1:]))
    return Call(Rendered(*cpu_conv.render_conv(str(node.dtype), target)), numbers, extent), flops


def _weights(node: Tensor, target: Target) -> tuple[Call, Size]:
    x, ct = node.inputs
    blocks = weight_blocks(node)
    assert blocks is not None, "the pass asks first"
    groups, parts = node.attrs["groups"], node.attrs["parts"]
    channels, outputs = floor_divide(x.shape[1], groups), node.shape[3]
    numbers, _ = _numbers(node.attrs, x.shape, channels, outputs, ct.shape[2:], node.attrs["kernel"], blocks, parts)
    kernel = cpu_conv.render_conv_weights(str(node.dtype), int(outputs), target)
    extent = product((parts, groups, cpu_conv.parts_of(channels, blocks.channels)))
    return Call(Rendered(*kernel), numbers, extent), 2 * product((*ct.shape, node.shape[2]))


def _numbers(attrs: Mapping[str, Any], x: Shape, channels: Size, outputs: Size, size: Shape, kernel: Sequence[Size],
             blocks: Blocks, parts: int) -> tuple[list[Argument], tuple[Size, Size]]:
    """The sizes of the argument table (see `cpu_conv.SIZES`), and how many blocks of rows and of columns there are."""
    counts = (cpu_conv.parts_of(size[0], blocks.rows), cpu_conv.parts_of(size[1], blocks.columns))
    numbers = (x[0], attrs["groups"], channels, outputs, *x[2:], *size, *kernel, *attrs["stride"], *attrs["dilation"],
               *attrs["before"], blocks.rows, blocks.columns, blocks.channels, *counts,
               cpu_conv.parts_of(channels, blocks.channels), parts)
    assert len(numbers) == len(cpu_conv.SIZES)
    return [Argument("size", each) for each in numbers], counts
