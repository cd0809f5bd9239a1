"""Elementwise kernels for CUDA: a grid-stride loop over vectors of elements.

Rows of elements (a broadcast operand, a gathered row) are flattened: a thread finds its row from its running number and
computes what belongs to the row itself. Where the row's length is known to be a multiple of the vector, or where there
is only one long row, elements go by vectors of 16 bytes; the rest of a flat array is done one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel_ir import Axis, Map, Pointer, Section, Statement
from ..program import Launch
from .cpu_text import Writer
from .cuda_lanes import Lanes, vector_width
from .cuda_text import WARP, Sequential, write_coordinates

THREADS = 256
MOST_BLOCKS = 2**20
"""Beyond it threads go on a grid further: the launch overhead of so many blocks no longer counts."""


def write_elements(writer: Writer, section: Section) -> Launch:
    """`stop` is the number of elements, not of rows."""
    pointers = {each.name: each for each in section.parameters if isinstance(each, Pointer)}
    loop = section.body[-1] if section.body and isinstance(section.body[-1], Map) else None
    if loop is not None:
        return _write_rows_of_elements(writer, section, loop, pointers)
    if section.axes:
        return _write_flat(writer, section.axes[0], section.body, pointers)
    writer.line("if thread() == 0:")
    with writer:
        Sequential(writer).body(section.body)
    return Launch(WARP, 1)


def _write_rows_of_elements(writer: Writer, section: Section, loop: Map, pointers: dict[str, Pointer]) -> Launch:
    index, extent = loop.index, loop.extent
    width = vector_width(loop.body, pointers, index, extent)
    axes = [(axis.name, axis.extent) for axis in section.axes]
    if width == 1:
        points, axes = "stop", [*axes, (index, extent)]
    else:
        points, axes = f"quotient_of(stop, {width})", [*axes, (f"{index}_vector", str(int(extent) // width))]
    writer.line(f"points = {points}")
    writer.line(f"point = block() * {THREADS} + thread()")
    writer.line("while point < points:")
    with writer:
        write_coordinates(writer, axes, "point")
        if width > 1:
            writer.line(f"{index} = {index}_vector * {width}")
        depth = writer.depth
        for statement in section.body[:-1]:
            Sequential(writer).statement(statement)
        Lanes(writer, pointers, index, width).body(loop.body)
        writer.depth = depth
        writer.line(f"point += blocks() * {THREADS}")
    return Launch(THREADS, THREADS * width, MOST_BLOCKS)


def _write_flat(writer: Writer, axis: Axis, body: Sequence[Statement], pointers: dict[str, Pointer]) -> Launch:
    index = axis.name
    width = vector_width(body, pointers, index, None)
    if width == 1:
        writer.line(f"{index} = block() * {THREADS} + thread()")
        writer.line(f"while {index} < stop:")
        with writer:
            Lanes(writer, pointers, index, 1).body(body)
            writer.line(f"{index} += blocks() * {THREADS}")
        return Launch(THREADS, THREADS, MOST_BLOCKS)
    writer.line(f"{index} = (block() * {THREADS} + thread()) * {width}")
    writer.line(f"while {index} + {width - 1} < stop:")
    with writer:
        Lanes(writer, pointers, index, width).body(body)
        writer.line(f"{index} += blocks() * {THREADS * width}")
    writer.line(f"# the last elements: fewer than {width}")
    writer.line(f"while {index} < stop:")
    with writer:
        Lanes(writer, pointers, index, 1).body(body)
        writer.line(f"{index} += 1")
    return Launch(THREADS, THREADS * width, MOST_BLOCKS)
