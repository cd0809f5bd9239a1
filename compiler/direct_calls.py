"""Calls of the CPU's kernels for convolutions and pooling: how a result is cut into blocks, and their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from staticgraph.tensor import Tensor
from staticgraph.types import Shape, Size, floor_divide, product

from .backend import Call, Rendered
from .cost import conv_flops, flops_of
from .parameters import BufferOf
from .program import Argument
from .render import cpu_conv, cpu_pool
from .render.cpu_conv import Blocks
from .target import Target
from .views import View

FEW = 16
"""Blocks of a convolution that are wanted, so that threads can share it."""


def conv_blocks(node: Tensor) -> Blocks | None:
    """How the result of a convolution is cut; None where its kernel cannot take it. The parts of a spread one are all
    cut like the largest."""
    x, w = node.inputs[0], max(node.inputs[1:], key=lambda each: int(each.shape[2]) * int(each.shape[3]))
    stride, size = _steps(node)
    kernel = (int(w.shape[2]), int(w.shape[3]))
    blocks = cpu_conv.choose_blocks(str(node.dtype), size, int(w.shape[1]), kernel, stride, node.attrs["dilation"])
    if blocks is None or not isinstance(x.shape[0], int):
        return blocks
    rows = blocks.rows
    while rows > 4 and x.shape[0] * node.attrs["groups"] * _count(size[0], rows) < FEW:
        rows = -(-rows // 2)
    return Blocks(rows, blocks.columns, blocks.channels)


def _steps(node: Tensor) -> tuple[tuple[int, int], tuple[Size, ...]]:
    """The stride of a convolution's windows, and rows and columns of its result; of a spread one those of a part."""
    stride, size = node.attrs["stride"], node.attrs["size"]
    if node.op.name == "direct_conv":
        return stride, size
    return (1, 1), tuple(cpu_conv.parts_of(each, step) for each, step in zip(size, stride))


def _count(total: Size, size: int) -> int:
    count = cpu_conv.parts_of(total, size)
    return count if isinstance(count, int) else 1


def weight_blocks(node: Tensor) -> Blocks | None:
    """How the windows of a direct_conv_weights are cut; None where its kernel cannot take them."""
    x, ct = node.inputs
    channels, outputs = (floor_divide(each.shape[1], node.attrs["groups"]) for each in (x, ct))
    if not isinstance(channels, int) or not isinstance(outputs, int):
        return None
    depth = min(cpu_conv.FACTORS, cpu_conv.TOTALS // max(outputs, 1))
    return cpu_conv.choose_blocks(str(node.dtype), ct.shape[2:], channels, node.attrs["kernel"], node.attrs["stride"],
                                  node.attrs["dilation"], depth, cpu_conv.PLACES)


def windowed_calls(node: Tensor, views: Sequence[View], buffer_of: BufferOf, target: Target) -> list[tuple[Call, Size]]:
    """The kernels of a node of kind "windowed" with their arguments, and the floating-point operations of each."""
    def buffer(number: int) -> Argument:
        base, offset = views[number].base, views[number].offset
        return Argument("buffer", buffer_of(base), offset * base.dtype.itemsize)

    if node.op.name == "direct_place":
        return [(_with(_place(node), buffer(0), buffer(1), Argument("buffer", buffer_of(node))), flops_of(node))]
    if node.op.name == "direct_conv_weights":
        call = _weights(node, target)
        return [(_with(call, buffer(0), buffer(1), Argument("buffer", buffer_of(node))), flops_of(node))]
    made = []
    for number in range(1, len(views)):
        call, offset = _conv(node, number, target)
        y = Argument("buffer", buffer_of(node), offset * node.dtype.itemsize)
        made.append((_with(call, buffer(0), buffer(number), y), conv_flops(node, number)))
    return made


def leaves_gaps(node: Tensor) -> bool:
    """Are there elements of the result that none of the calls writes? They are zeros."""
    return node.op.name == "spread_conv" and len(node.attrs["residues"]) < product(node.attrs["stride"])


def _with(call: Call, *buffers: Argument) -> Call:
    return Call(call.kernel, [*buffers, *call.arguments], call.extent)


def _conv(node: Tensor, number: int, target: Target) -> tuple[Call, Size]:
    """The call for one operand of weights, and where its part of the result starts."""
    x, w = node.inputs[0], node.inputs[number]
    blocks = conv_blocks(node)
    assert blocks is not None, "the pass asks first"
    groups, before, (rows, columns) = node.attrs["groups"], node.attrs["before"], node.attrs["size"]
    stride, size = _steps(node)
    kernel, outputs = w.shape[2:], floor_divide(w.shape[0], groups)
    place, step = (0, 0), (1, 1)
    if node.op.name == "spread_conv":
        place, before, step = node.attrs["residues"][number - 1], before[number - 1], node.attrs["stride"]
        size = tuple(cpu_conv.parts_of(each - first, every) for each, first, every in zip((rows, columns), place, step))
    attrs = {**node.attrs, "stride": stride, "before": before}
    result = (rows * columns, columns * step[0], step[1])
    numbers, counts = _numbers(attrs, x.shape, w.shape[1], outputs, size, kernel, blocks, 1, result)
    call = Call(Rendered(*cpu_conv.render_conv(str(node.dtype), target)), numbers,
                product((x.shape[0], groups, *counts)))
    return call, place[0] * columns + place[1]


def _weights(node: Tensor, target: Target) -> Call:
    x, ct = node.inputs
    blocks = weight_blocks(node)
    assert blocks is not None, "the pass asks first"
    groups, parts = node.attrs["groups"], node.attrs["parts"]
    channels, outputs = floor_divide(x.shape[1], groups), node.shape[3]
    numbers, _ = _numbers(node.attrs, x.shape, channels, outputs, ct.shape[2:], node.attrs["kernel"], blocks, parts)
    kernel = cpu_conv.render_conv_weights(str(node.dtype), int(outputs), target)
    extent = product((parts, groups, cpu_conv.parts_of(channels, blocks.channels)))
    return Call(Rendered(*kernel), numbers, extent)


def _place(node: Tensor) -> Call:
    kernel, stride = node.attrs["kernel"], node.attrs["stride"]
    numbers = (*node.inputs[0].shape[2:], *node.shape[2:], kernel[1], kernel[0] * kernel[1], *stride)
    return Call(Rendered(*cpu_pool.render_place(str(node.dtype))), [Argument("size", each) for each in numbers],
                product(node.shape[:2]))


def _numbers(attrs: Mapping[str, Any], x: Shape, channels: Size, outputs: Size, size: Shape, kernel: Sequence[Size],
             blocks: Blocks, parts: int,
             result: Sequence[Size] = (0, 0, 0)) -> tuple[list[Argument], tuple[Size, Size]]:
    """The sizes of the argument table (see `cpu_conv.SIZES`), and how many blocks of rows and of columns there are."""
    counts = (cpu_conv.parts_of(size[0], blocks.rows), cpu_conv.parts_of(size[1], blocks.columns))
    numbers = (x[0], attrs["groups"], channels, outputs, *x[2:], *size, *kernel, *attrs["stride"], *attrs["dilation"],
               *attrs["before"], blocks.rows, blocks.columns, blocks.channels, *counts,
               cpu_conv.parts_of(channels, blocks.channels), parts, *result)
    assert len(numbers) == len(cpu_conv.SIZES)
    return [Argument("size", each) for each in numbers], counts
