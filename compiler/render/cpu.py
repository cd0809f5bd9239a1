"""Rendering kernel IR as Numba source for the CPU.

The form of a kernel is ``def kernel(args, start, stop)``: `args` is the address of a table of int64 slots, and
``start … stop`` a range of its parallel iterations. All index arithmetic is signed 64-bit (a mixture with unsigned
integers would become float64). Skeletons:

* elements: one flat loop, vectorised by LLVM;
* rows: a loop over rows, inner loops over the row; sums add up blocks of `BLOCK` elements with reassociation allowed
  (that is what vectorises them) and join the blocks with compensated addition, so a float32 sum is at least as accurate
  as NumPy's pairwise one, whatever the length;
* rows in shares (`cpu_shares`): the same, with sums over the rows carried along;
* narrow rows (`cpu_narrow`): tiles of short rows, turned on their side;
* lanes (`cpu_lanes`): when memory runs along the last parallel axis, neighbouring columns are carried at once in local
  arrays and the column index runs in the innermost loop;
* folded columns (`cpu_folded`): a few columns, several rows side by side in the lanes.

Chunks may be split anywhere: no result depends on `start` and `stop`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ..kernel_ir import (
    Barrier,
    Check,
    Extent,
    KernelIR,
    Let,
    Local,
    Map,
    Parameter,
    Pointer,
    Reduce,
    Result,
    Scan,
    Section,
    Statement,
    Status,
    Store,
)
from ..statements import WORD
from .cpu_ahead import lines_ahead, rows_ahead, second_loop, write_ahead
from .cpu_folded import is_folded, render_folded
from .cpu_lanes import render_lanes
from .cpu_narrow import is_narrow, render_narrow
from .cpu_shares import render_shares
from .cpu_text import (
    Writer,
    accumulate,
    accumulator,
    coordinates,
    finish,
    header,
    is_compensated,
    join_block,
    start_value,
    typed,
    write_check,
    write_window,
)

BLOCK = 512
"""Elements of a row that are added up before a compensated addition."""

UNROLLED_WIDE, VECTORISED = 7, 128
"""Loops of up to so many elements of 8 bytes are better unrolled, and from so many on LLVM vectorises them first."""

STRIP = 64
"""What a vector loop takes at a time. The elements left over are a block of their own: added one by one to the sum of
all others they would each round at its size."""


def render(kernel: KernelIR) -> str:
    """The Numba source of the kernel, starting with the import of the names that it uses."""
    writer = Writer()
    writer.line(f"def {kernel.name}(args, start, stop):")
    with writer:
        if len(kernel.sections) == 1 and kernel.sections[0].count == 1:
            _render_single(writer, kernel.sections[0], kernel.lanes)
        else:
            _render_sections(writer, kernel.sections)
    return header(writer.text()) + writer.text()


def _parameters(writer: Writer, parameters: Sequence[Parameter], table: str, first: int = 0) -> None:
    for slot, parameter in enumerate(parameters, first):
        match parameter:
            case Pointer(name, dtype, _):
                writer.line(f"{name} = pointer_{dtype}({table}, {slot})")
            case Extent(name):
                writer.line(f"{name} = extent({table}, {slot})")
            case Status(name):
                writer.line(f"{name} = address({table}, {slot})")


def _render_single(writer: Writer, section: Section, lanes: str) -> None:
    _parameters(writer, section.parameters, "args")
    _statements(writer, section.prelude)
    if any(isinstance(each, Pointer) and each.dtype == "float64" for each in section.parameters):
        writer.unrolled = UNROLLED_WIDE
    if lanes == "parallel":
        (render_folded if is_folded(section) else render_lanes)(writer, section)
        return
    if is_narrow(section) and not section.columns:
        render_narrow(writer, section)
        return
    lead = rows_ahead(section)
    if lead is not None:
        writer.line(lead)
    if section.columns:
        render_shares(writer, section, lambda body: _row(writer, section, body))
        return
    _point_loop(writer, section, "start", "stop")


def _point_loop(writer: Writer, section: Section, start: str, stop: str) -> None:
    """The loop over parallel points, and their coordinates from the running number."""
    axes = section.axes
    index = axes[0].name if len(axes) == 1 else "point"
    writer.line(f"for {index} in range({start}, {stop}):")
    with writer:
        if len(axes) > 1:
            coordinates(writer, section, "point")
        _row(writer, section, section.body)


def _row(writer: Writer, section: Section, body: Sequence[Statement]) -> None:
    """The body of a row. The second of its loops asks for what the first will want of a later row."""
    ahead = lines_ahead(section)
    second = second_loop(body)
    for statement in body:
        if ahead and second is not None and statement is second:
            _render_reduce(writer, second, ahead)
        else:
            _statement(writer, statement)


def _render_sections(writer: Writer, sections: Sequence[Section]) -> None:
    """Sections follow each other in the numbering of parallel iterations; equal ones share a loop over the table."""
    writer.line("begin = 0")
    first = 0
    for number, section in enumerate(sections):
        writer.line(f"# section {number}: {section.count} of one form")
        suffix = f"_{number}"
        writer.line(f"for turn{suffix} in range({section.count}):")
        with writer:
            width = len(section.parameters)
            writer.line(f"table{suffix} = args + ({first} + turn{suffix} * {width}) * 8")
            renamed = suffixed(section, suffix)
            _parameters(writer, renamed.parameters, f"table{suffix}")
            _statements(writer, renamed.prelude)
            extent = " * ".join(axis.extent for axis in renamed.axes) or "1"
            writer.line(f"length{suffix} = {extent}")
            _point_loop(writer, renamed, "max(start - begin, 0)", f"min(stop - begin, length{suffix})")
            writer.line(f"begin += length{suffix}")
        first += section.count * len(section.parameters)


def suffixed(section: Section, suffix: str) -> Section:
    """The section with its names made its own: a Numba variable keeps one type in a whole function."""
    names = {parameter.name for parameter in section.parameters} | {axis.name for axis in section.axes}
    for statement in (*section.prelude, *section.body):
        if not isinstance(statement, Let | Store):
            raise AssertionError("sections hold flat programs only")
        if isinstance(statement, Let):
            names.add(statement.name)

    def fix(text: str) -> str:
        return WORD.sub(lambda match: match[0] + suffix if match[0] in names else match[0], text)

    def fix_all(body: Sequence[Statement]) -> tuple[Statement, ...]:
        fixed: list[Statement] = []
        for statement in body:
            if isinstance(statement, Let):
                fixed.append(Let(fix(statement.name), statement.dtype, fix(statement.expr)))
            elif isinstance(statement, Store):
                fixed.append(Store(fix(statement.pointer), fix(statement.index), fix(statement.expr)))
        return tuple(fixed)

    parameters = tuple(replace(each, name=fix(each.name)) for each in section.parameters)
    axes = tuple(replace(axis, name=fix(axis.name), extent=fix(axis.extent)) for axis in section.axes)
    return Section(parameters, axes, fix_all(section.body), section.count, fix_all(section.prelude))


def _statements(writer: Writer, body: Sequence[Statement]) -> None:
    for statement in body:
        _statement(writer, statement)


def _statement(writer: Writer, statement: Statement) -> None:
    match statement:
        case Let(name, dtype, expr):
            writer.line(f"{name} = {typed(expr, dtype)}")
        case Store(pointer, index, expr):
            writer.line(f"{pointer}[{index}] = {expr}")
        case Map(index, extent, inner, order):
            writer.line(f"for {index} in {_range(writer, extent, order)}:")
            with writer:
                _statements(writer, inner)
        case Reduce():
            _render_reduce(writer, statement)
        case Scan():
            _render_scan(writer, statement)
        case Check():
            write_check(writer, statement)
        case Local(name, dtype, size, _):
            writer.line(f"{name} = local_{dtype}({size})")
        case Barrier():
            pass  # a kernel call runs on one thread


def _range(writer: Writer, extent: str, order: str) -> str:
    extent = _kept_loop(writer, extent)
    return f"range({extent} - 1, -1, -1)" if order == "backward" else f"range({extent})"


def _render_scan(writer: Writer, scan: Scan) -> None:
    for carry in scan.carries:
        writer.line(f"{carry.name} = {carry.init}")
    writer.line(f"for {scan.index} in {_range(writer, scan.extent, scan.order)}:")
    with writer:
        _statements(writer, scan.body)
        for carry in scan.carries:
            writer.line(f"{carry.name}_next = {typed(carry.next, carry.dtype)}")
        _statements(writer, scan.after)
        for carry in scan.carries:
            writer.line(f"{carry.name} = {carry.name}_next")


# Reductions along a row.

def _kept_loop(writer: Writer, extent: str) -> str:
    """The extent of a loop along a row, so that LLVM leaves it a loop: it turns short ones of known length into a line
    of statements before it looks for what vectorises, and then there is nothing."""
    return f"opaque({extent})" if extent.isdigit() and writer.unrolled < int(extent) < VECTORISED else extent


def _is_one_block(extent: str) -> bool:
    """Whether so many elements are added up at once: then there is nothing to join."""
    return extent.isdigit() and (int(extent) < STRIP or (int(extent) <= BLOCK and int(extent) % STRIP == 0))


def _render_reduce(writer: Writer, reduce: Reduce, ahead: Mapping[str, int] = MappingProxyType({})) -> None:
    """`ahead`: what to ask memory for meanwhile, see `cpu_ahead`."""
    index, extent = reduce.loops[-1]
    whole = len(reduce.loops) == 1 and _is_one_block(extent) and reduce.window is None and not reduce.joins
    sums = [] if whole else [result for result in reduce.results if is_compensated(result)]
    begin, extent = write_window(writer, reduce) if reduce.window is not None else ("0", _kept_loop(writer, extent))
    if sums and not extent.isidentifier() and not extent.isdigit():
        writer.line(f"{index}_size = {extent}")
        extent = f"{index}_size"
    for result in reduce.results:
        writer.line(f"{accumulator(result)} = {start_value(result)}")
        if result.op in ("argmax", "argmin"):
            writer.line(f"{result.name} = 0")
        elif result in sums:
            writer.line(f"{result.name}_error = {start_value(result)}")
    depth = writer.depth
    for outer, size in reduce.loops[:-1]:
        writer.line(f"for {outer} in range({size}):")
        writer.depth += 1
    if sums and not reduce.joins:
        _open_blocks(writer, index, begin, extent)
        _start_parts(writer, sums)
        write_ahead(writer, ahead, f"{index}_block", f"{index}_stop")
        begin, extent = f"{index}_block", f"{index}_stop"
    elif extent.isdigit():
        write_ahead(writer, ahead, begin, extent)
    writer.line(f"for {index} in range({extent if begin == '0' else f'{begin}, {extent}'}):")
    with writer:
        if reduce.joins:
            _start_parts(writer, sums)
        _statements(writer, reduce.body)
        for result in reduce.results:
            accumulate(writer, result, "_part" if result in sums else "")
        if reduce.joins:
            _join_blocks(writer, sums)
    if not reduce.joins:
        _join_blocks(writer, sums)
    writer.depth = depth
    for result in sums:
        finish(writer, result.name, result.name, result.dtype)


def _open_blocks(writer: Writer, index: str, begin: str, extent: str) -> None:
    """A loop over blocks; those at the end are what is left of vectors."""
    writer.line(f"{index}_stop = {begin}")
    writer.line(f"while {index}_stop < {extent}:")
    writer.depth += 1
    writer.line(f"{index}_block = {index}_stop")
    writer.line(f"{index}_stop += max(min({extent} - {index}_block, {BLOCK}) & -{STRIP}, "
                f"min({extent} - {index}_block, {STRIP - 1}))")


def _start_parts(writer: Writer, sums: Sequence[Result]) -> None:
    for result in sums:
        writer.line(f"{result.name}_part = {start_value(result)}")


def _join_blocks(writer: Writer, sums: Sequence[Result]) -> None:
    for result in sums:
        join_block(writer, result.name)
