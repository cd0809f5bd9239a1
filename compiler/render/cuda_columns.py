"""Reductions over leading axes for CUDA, where memory runs along the parallel axis.

The threads of a warp take neighbouring columns, so that each row is read in whole sectors. The warps of a block share
the rows among them; their partial results meet in shared memory and every thread joins those of its column, in the
order of the warps. A thread past the last column works on the last one and stores nothing: it is needed at barriers.

A block has fewer warps where so much is reduced that the partial results of more would not fit into shared memory.
"""

from __future__ import annotations

from ..kernel_ir import Check, Let, Map, Reduce, Section, Statement, Store
from ..program import Launch
from ..statements import unnest
from .cpu_text import Writer, typed
from .cuda_lanes import SIZES
from .cuda_partial import best_of, is_position, partial_names, write_merge, write_start, write_term
from .cuda_text import WARP, Sequential, open_check, write_coordinates

MOST_GROUPS = 8
"""Warps of a block."""

MOST_SHARED = 48 * 1024


def write_columns(writer: Writer, section: Section) -> Launch:
    groups = warps_of_a_block(section)
    writer.line("column = thread() & 31")
    writer.line("group = thread() >> 5")
    writer.line(f"point = block() * {WARP} + column")
    writer.line("live = point < stop")
    writer.line("if not live:     # it stays for the barriers, and stores nothing")
    with writer:
        writer.line("point = stop - 1")
    write_coordinates(writer, [(axis.name, axis.extent) for axis in section.axes], "point")
    depth = writer.depth
    for statement in section.body:
        _write(writer, statement, groups)
    writer.depth = depth
    return Launch(WARP * groups, WARP)


def warps_of_a_block(section: Section) -> int:
    """As many as there is shared memory for, a power of two."""
    results = [result for each in section.body if isinstance(each, Reduce) for result in each.results]
    lane = sum(SIZES[dtype] for result in results for _, dtype in partial_names(result))
    groups = MOST_GROUPS
    while groups > 1 and groups * WARP * lane > MOST_SHARED:
        groups //= 2
    return groups


def _write(writer: Writer, statement: Statement, groups: int) -> None:
    match statement:
        case Let(name, dtype, expr):
            writer.line(f"{name} = {typed(expr, dtype)}")
        case Store(pointer, index, expr):
            writer.line("if live and group == 0:")
            with writer:
                writer.line(f"{pointer}[{index}] = {expr}")
        case Map():
            depth = _open(writer, *_nest(statement), groups)
            _Guarded(writer).body(unnest(statement)[1])
            writer.depth = depth
        case Reduce():
            _write_reduce(writer, statement, groups)
        case Check():
            open_check(writer, statement)
        case _:
            raise AssertionError(f"{type(statement).__name__} in columns that are shared by threads")


def _nest(statement: Map | Reduce) -> tuple[tuple[tuple[str, str], ...], tuple[str, str] | None]:
    return unnest(statement)[0], statement.window if isinstance(statement, Reduce) else None


def _open(writer: Writer, loops: tuple[tuple[str, str], ...], window: tuple[str, str] | None, groups: int) -> int:
    """Open the loop over the rows of this warp; the depth to come back to."""
    depth = writer.depth
    first, stop = "group", " * ".join(extent for _, extent in loops)
    if window is not None:
        first, stop = f"{window[0]} + group", f"min({stop}, {window[0]} + {window[1]})"
    index = loops[0][0] if len(loops) == 1 else f"{loops[-1][0]}_point"
    writer.line(f"for {index} in range({first}, {stop}, {groups}):")
    writer.depth += 1
    if len(loops) > 1:
        write_coordinates(writer, list(loops), index)
    return depth


class _Guarded(Sequential):
    """Stores of live threads only."""

    def statement(self, statement: Statement) -> None:
        if isinstance(statement, Store):
            self.writer.line("if live:")
            with self.writer:
                super().statement(statement)
        else:
            super().statement(statement)


def _write_reduce(writer: Writer, statement: Reduce, groups: int) -> None:
    for result in statement.results:
        write_start(writer, result)
    depth = _open(writer, *_nest(statement), groups)
    guarded = _Guarded(writer)
    for inner in statement.body:
        guarded.statement(inner)
    for result in statement.results:
        write_term(writer, result, result.expr, result.position)
    writer.depth = depth
    for result in statement.results:
        for name, dtype in partial_names(result):
            writer.line(f"{name}_groups = shared_{dtype}({groups * WARP})")
            writer.line(f"{name}_groups[thread()] = {name}")
    writer.line("barrier()")
    for result in statement.results:
        for name, _ in partial_names(result):
            writer.line(f"{name} = {name}_groups[column]")
    writer.line(f"for other in range({WARP} + column, {groups * WARP}, {WARP}):")
    with writer:
        for result in statement.results:
            value = f"{best_of(result) if is_position(result) else result.name}_groups[other]"
            write_merge(writer, result, "", value, f"{result.name}_groups[other]")
