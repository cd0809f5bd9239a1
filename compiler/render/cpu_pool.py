"""The kernel of max pooling's gradient on the CPU as text: zeros, with each cotangent added where its window has its
maximum.

Argument table: position (uint8), cotangents, the result (addresses); rows and columns of windows; rows and columns of
the result; columns and elements of a window; the steps of windows down and right. Parallel iterations are planes, one
image of one channel each. Windows that overlap may share a maximum: their cotangents are added in the order of windows,
whatever the number of threads.
"""

from __future__ import annotations

MOST = 255
"""Elements of a window that uint8 can number."""


def render_place(dtype: str) -> tuple[str, str]:
    """(name, text) of the kernel."""
    name = f"max_pool_place_{dtype}"
    return name, f"""\
from staticgraph.runtime.cpu.language import extent, {dtype}, int64, local_int64, pointer_{dtype}, pointer_uint8


def {name}(args, start, stop):
    position, ct, y = pointer_uint8(args, 0), pointer_{dtype}(args, 1), pointer_{dtype}(args, 2)
    rows, columns, height, width = extent(args, 3), extent(args, 4), extent(args, 5), extent(args, 6)
    window_columns, elements = extent(args, 7), extent(args, 8)
    row_step, column_step = extent(args, 9), extent(args, 10)
    offsets = local_int64({MOST})
    for k in range(elements):
        offsets[k] = k // window_columns * width + k % window_columns
    for plane in range(start, stop):
        first = plane * height * width
        for i in range(first, first + height * width):
            y[i] = {dtype}(0.0)
        for row in range(rows):
            corner = first + row * row_step * width
            window = (plane * rows + row) * columns
            for column in range(columns):
                place = corner + column * column_step + offsets[int64(position[window + column])]
                y[place] = y[place] + ct[window + column]
"""
