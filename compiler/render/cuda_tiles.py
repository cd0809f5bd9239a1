"""Transposes for CUDA: elementwise kernels of which an operand runs along the other axis.

A block takes a tile of 32 x 32 elements. What lies along the rows of the tile is read and written as it is; what lies
along its columns is first read along them, whole sectors at a time, into shared memory (33 to a line, so that the two
directions meet different banks), and taken from there after a barrier.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticgraph.types import Size, floor_divide, product

from ..indices import linear, split_load
from ..kernel_ir import Check, Let, Map, Pointer, Section
from ..program import Launch
from ..statements import WORD
from .cpu_text import Writer, typed
from .cuda_lanes import SIZES
from .cuda_text import WARP, Sequential, write_coordinates

TILE = 32
ROWS_AT_ONCE = 8
MOST_SHARED = 40 * 1024


def transposed_loads(section: Section) -> dict[str, tuple[str, str, str]]:
    """Lets that load along the last parallel axis: name -> (dtype, pointer, index)."""
    found: dict[str, tuple[str, str, str]] = {}
    loop = section.body[-1] if section.body else None
    if not isinstance(loop, Map) or not section.axes:
        return found
    row = section.axes[-1].name
    pointers = {each.name for each in section.parameters if isinstance(each, Pointer)}
    for statement in loop.body:
        load = split_load(statement.expr) if isinstance(statement, Let) else None
        if load is None or load[0] not in pointers:
            continue
        along, across = linear(load[1], row), linear(load[1], loop.index)
        if along.coefficient == 1 and across.coefficient not in (0, 1, -1):
            assert isinstance(statement, Let)
            found[statement.name] = statement.dtype, *load
    return found


def is_transposed(section: Section) -> bool:
    """Worth tiles: a load across, and enough rows and columns where that is known. Indices that come from a check are
    not read ahead."""
    loads = transposed_loads(section)
    if not loads or any(isinstance(each, Check) for each in section.body):
        return False
    loop = section.body[-1]
    assert isinstance(loop, Map)
    if any(isinstance(each, Check) for each in loop.body):
        return False
    names = {each.name for each in loop.body if isinstance(each, Let)}
    if any(set(WORD.findall(index)) & names for _, _, index in loads.values()):
        return False
    shared = sum(SIZES[dtype] for dtype, _, _ in loads.values()) * TILE * (TILE + 1)
    sizes = [each for each in (section.axes[-1].extent, loop.extent) if each.isdigit()]
    return shared <= MOST_SHARED and all(int(size) >= 8 for size in sizes)


def tile_count(extents: Sequence[Size]) -> Size:
    """Parallel iterations over loops of these sizes."""
    rows, columns = extents[-2:]
    tiles = floor_divide(rows + (TILE - 1), TILE) * floor_divide(columns + (TILE - 1), TILE)
    return product((*extents[:-2], tiles))


def write_tiles(writer: Writer, section: Section) -> Launch:
    """`stop` is the number of blocks: tiles of each plane (see `tile_count`)."""
    loop = section.body[-1]
    assert isinstance(loop, Map)
    row, column = section.axes[-1], loop
    loads = transposed_loads(section)
    writer.line("x = thread() & 31")
    writer.line("y = thread() >> 5")
    writer.line(f"tiles_across = quotient_of({column.extent} + {TILE - 1}, {TILE})")
    writer.line(f"tiles_down = quotient_of({row.extent} + {TILE - 1}, {TILE})")
    axes = [*((axis.name, axis.extent) for axis in section.axes[:-1]), ("tile_down", "tiles_down"),
            ("tile_across", "tiles_across")]
    write_coordinates(writer, axes, "block()")
    for name, (dtype, _, _) in loads.items():
        writer.line(f"{name}_tile = shared_{dtype}({TILE * (TILE + 1)})")
    writer.line(f"{row.name} = tile_down * {TILE} + x")
    writer.line(f"if {row.name} < {row.extent}:")
    with writer:
        writer.line(f"for {column.index} in range(tile_across * {TILE} + y, "
                    f"min({column.extent}, tile_across * {TILE} + {TILE}), {ROWS_AT_ONCE}):")
        with writer:
            for name, (_, pointer, index) in loads.items():
                writer.line(f"{name}_tile[({column.index} - tile_across * {TILE}) * {TILE + 1} + x] = "
                            f"{pointer}[{index}]")
    writer.line("barrier()")
    writer.line(f"{column.index} = tile_across * {TILE} + x")
    writer.line(f"if {column.index} < {column.extent}:")
    with writer:
        writer.line(f"for {row.name} in range(tile_down * {TILE} + y, "
                    f"min({row.extent}, tile_down * {TILE} + {TILE}), {ROWS_AT_ONCE}):")
        with writer:
            for statement in section.body[:-1]:
                Sequential(writer).statement(statement)
            for statement in loop.body:
                if isinstance(statement, Let) and statement.name in loads:
                    place = f"x * {TILE + 1} + {row.name} - tile_down * {TILE}"
                    writer.line(f"{statement.name} = {typed(f'{statement.name}_tile[{place}]', statement.dtype)}")
                else:
                    Sequential(writer).statement(statement)
    return Launch(WARP * ROWS_AT_ONCE, 1)
