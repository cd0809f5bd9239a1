"""The convolution kernels of the CPU as text: a block of padded images at a time, small enough for the cache.

One text serves every convolution of a dtype: sizes are arguments; only the shapes of register tiles and the sizes of
arrays on the stack are literals. `Blocks` says how a result is cut; the language's convolution leaves do the rest.

Argument table of both: x and the other operand, the result; images, groups, channels and outputs of a group, rows and
columns of x and of the result, then (for rows, for columns) kernel, stride, dilation, zeros before; rows, columns and
channels of a block, blocks of rows, of columns, of channels; parts, for the gradient of the weights; strides of
channels, rows and columns in the result of a convolution, which may lie spread out.

Invariant: an element of a result is the sum over blocks of channels, or over images and blocks of a part, of one chain
of multiply-adds each. How many parts there are depends on sizes only, so nothing depends on `start` and `stop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from staticgraph.types import Size, floor_divide

from ..target import Target

BLOCK_BYTES = 192 * 1024
"""Of a block of images: it stays in the second level of cache, beside the weights that it meets."""

TOTALS = 2**17
"""Sums of a block for the gradient of weights, about: they too stay in the second level of cache."""

PLACES = 256
"""Elements of the result in a block for the gradient of weights: as many as have room for their turned cotangents."""

FACTORS = 1024
"""Weights of one output that a block meets, at most."""

DEPTH = 576
"""About as many of them are wanted: results are seldom read again, and the windows of a tile stay close by."""

PANEL = 64
"""Outputs that are computed before any is stored."""

FLOATS = {"float32": 4, "float64": 8}

SIZES = """images groups channels outputs height width rows columns kernel_rows kernel_columns row_step column_step
row_spacing column_spacing row_before column_before block_rows block_columns block_channels row_blocks column_blocks
channel_blocks parts result_channel result_row result_step""".split()
"""The numbers of the argument table, from slot 3 on."""

USUAL = 64
"""Rows or columns that a symbolic size is cut into."""


@dataclass(frozen=True)
class Tiles:
    """Register tiles: `height` channels or factors by `vectors` of `lanes` elements."""

    lanes: int
    vectors: int
    height: int


@dataclass(frozen=True)
class Blocks:
    """How a result is cut: rows and columns of it that one block makes, and channels that meet in it."""

    rows: int
    columns: int
    channels: int


def lanes_of(dtype: str, target: Target) -> int:
    """Elements of a vector."""
    return max(2, target.vector_bytes // FLOATS[dtype])


def _many_registers(target: Target) -> bool:
    return target.vector_bytes >= 64 or "+neon" in target.features


def tiles_of(dtype: str, target: Target) -> Tiles:
    """As many sums as registers allow, beside a row of the block and a factor: 32 with AVX-512 and NEON, else 16."""
    return Tiles(lanes_of(dtype, target), 3, 8 if _many_registers(target) else 4)


def gather_tiles_of(dtype: str, outputs: int, target: Target) -> Tiles:
    """As few vectors of outputs as hold them, in panels of equal width."""
    lanes, widest = lanes_of(dtype, target), 4 if _many_registers(target) else 2
    panels = -(-outputs // (widest * lanes))
    vectors = -(-outputs // (panels * lanes))
    return Tiles(lanes, vectors, {1: 8, 2: 8 if widest == 4 else 6, 3: 8, 4: 6}[vectors])


def footprint(blocks: Blocks, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> int:
    """Elements of one channel of a block."""
    elements = 1
    for size, count, step, spacing in zip((blocks.rows, blocks.columns), kernel, stride, dilation, strict=True):
        reach = (count - 1) * spacing
        elements *= min(step, reach + 1) * (size + reach // step)
    return elements


def choose_blocks(dtype: str, sizes: Sequence[Size], channels: int, kernel: Sequence[int], stride: Sequence[int],
                  dilation: Sequence[int], depth: int = DEPTH, places: int = 1 << 30) -> Blocks | None:
    """Blocks as large as fit: first the channels for `depth` factors, then whole rows, then many of them, at most
    `places` elements of the result. Two blocks that follow each other are equally large. None where nothing fits."""
    room = BLOCK_BYTES // FLOATS[dtype] - 256
    rows, columns = (size if isinstance(size, int) else USUAL for size in sizes)
    taps = kernel[0] * kernel[1]

    def fits(rows: int, columns: int, channels: int) -> bool:
        size = footprint(Blocks(rows, columns, channels), kernel, stride, dilation)
        return channels * size <= room and rows * columns <= places

    some = min(channels, max(1, depth // taps))
    columns = min(columns, 512, places)
    while some > 1 and not fits(min(rows, 4), columns, some):
        some = -(-some // 2)
    while columns > 1 and not fits(1, columns, some):
        columns = -(-columns // 2)
    if not fits(1, columns, some) or taps > FACTORS or not rows or not columns:
        return None
    most = max(number for number in range(1, rows + 1) if number == 1 or fits(number, columns, some))
    return Blocks(_even(rows, most), columns, _even(channels, some))


def _even(total: int, most: int) -> int:
    """The size of equal parts of which none is larger than `most`."""
    return -(-total // -(-total // most))


def parts_of(total: Size, size: int) -> Size:
    """How many parts of a size a total falls into."""
    return floor_divide(total + (size - 1), size)


def _head(name: str, dtype: str, names: str, leaf: str) -> str:
    first, second, result = names.split()
    used = ["extent", "fill_windows", leaf, f"local_{dtype}", "local_int64", f"pointer_{dtype}", "shift"]
    slots = "\n".join(f"    {size} = extent(args, {number})" for number, size in enumerate(SIZES, 3))
    return f"""\
from staticgraph.runtime.cpu.language import {", ".join(sorted(used))}


def {name}(args, start, stop):
    {first}, {second}, {result} = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1), pointer_{dtype}(args, 2)
{slots}
    # a block has a plane for each residue of the stride; a factor is so far from its place in the result
    row_reach, column_reach = (kernel_rows - 1) * row_spacing, (kernel_columns - 1) * column_spacing
    row_planes, column_planes = min(row_step, row_reach + 1), min(column_step, column_reach + 1)
    plane_rows, pitch = block_rows + row_reach // row_step, block_columns + column_reach // column_step
    plane = plane_rows * pitch
    channel = row_planes * column_planes * plane
    taps = kernel_rows * kernel_columns
    offsets = local_int64({FACTORS})
    for c in range(block_channels):
        for a in range(kernel_rows):
            for b in range(kernel_columns):
                down, right = a * row_spacing, b * column_spacing
                residue = down % row_step * column_planes + right % column_step
                offsets[c * taps + a * kernel_columns + b] = (
                    c * channel + residue * plane + down // row_step * pitch + right // column_step)
"""


def _fill(lanes: int, indent: str) -> str:
    """Fills the block from channel `c` of the part of an image, for rows from i and columns from j on."""
    text = f"""\
some = min(block_channels, channels - c)
for u in range(row_planes):
    for v in range(column_planes):
        row, column = i * row_step + u - row_before, j * column_step + v - column_before
        first = max(0, -(column // column_step))
        last = max(first, min(pitch, (width - 1 - column) // column_step + 1))
        fill_windows({lanes}, shift(block, (u * column_planes + v) * plane),
                     shift(x, (image * channels + c) * height * width), some, channel, height * width,
                     plane_rows, pitch, row, row_step, height, column, column_step, width, first, last)
"""
    return "".join(f"{indent}{line}\n" for line in text.splitlines())


def render_conv(dtype: str, target: Target) -> tuple[str, str]:
    """(name, text) of the kernel of a convolution. Parallel iterations: images, groups, blocks of rows, of columns."""
    tiles = tiles_of(dtype, target)
    name = f"conv_{dtype}"
    return name, _head(name, dtype, "x w y", "multiply_windows") + f"""\
    block = local_{dtype}({BLOCK_BYTES // FLOATS[dtype]})
    edge = local_{dtype}({(PANEL * tiles.vectors + 1) * tiles.lanes})     # it is read by vectors, from any place on
    for item in range(start, stop):
        band = item // column_blocks
        image = band // row_blocks
        group = image % groups
        i, j = (band - image * row_blocks) * block_rows, (item - band * column_blocks) * block_columns
        c = 0
        while c < channels:
{_fill(tiles.lanes, " " * 12)}\
            multiply_windows({tiles.lanes}, {tiles.vectors}, {tiles.height}, {PANEL},
                             shift(w, (group * outputs * channels + c) * taps), block, offsets,
                             shift(y, image * outputs * result_channel + i * result_row + j * result_step), edge,
                             channels * taps, outputs, some * taps, pitch, min(block_rows, rows - i),
                             min(block_columns, columns - j), result_channel, result_row, result_step,
                             1 if c == 0 else 0)
            c += block_channels
"""


def render_conv_weights(dtype: str, outputs: int, target: Target) -> tuple[str, str]:
    """(name, text) of the kernel for the gradient of the weights: total[part, group, factor, output]. Parallel
    iterations: parts, groups, blocks of channels."""
    tiles = gather_tiles_of(dtype, outputs, target)
    wide = tiles.vectors * tiles.lanes
    name = f"conv_weights_{dtype}_{tiles.vectors}"
    return name, _head(name, dtype, "x ct total", "gather_windows") + f"""\
    block = local_{dtype}({BLOCK_BYTES // FLOATS[dtype]})
    slopes = local_{dtype}({PLACES * wide})
    blocks = row_blocks * column_blocks
    for item in range(start, stop):
        part = item // (groups * channel_blocks)
        group = item // channel_blocks % groups
        c = item % channel_blocks * block_channels
        begin, end = part * images * blocks // parts, (part + 1) * images * blocks // parts
        place = ((part * groups + group) * channels + c) * taps * outputs
        if begin == end:
            for k in range(min(block_channels, channels - c) * taps * outputs):
                total[place + k] = 0
        for turn in range(begin, end):
            image = turn // blocks * groups + group
            i, j = turn % blocks // column_blocks * block_rows, turn % column_blocks * block_columns
{_fill(tiles.lanes, " " * 12)}\
            o = 0
            while o < outputs:
                gather_windows({tiles.lanes}, {tiles.vectors}, {tiles.height}, block, offsets,
                               shift(ct, ((image * outputs + o) * rows + i) * columns + j), slopes,
                               shift(total, place + o), some * taps, min(block_rows, rows - i),
                               min(block_columns, columns - j), pitch, rows * columns, columns, outputs,
                               min({wide}, outputs - o), 1 if turn == begin else 0)
                o += {wide}
"""
