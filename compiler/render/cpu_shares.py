"""Row kernels that carry sums over the rows along: the gradients of a layer norm in one pass over its operands.

The rows are cut into shares, which are the kernel's parallel iterations: as many as the number of rows asks for, never
as there are threads. A share keeps three numbers for each sum of each column, in memory that stays in the first caches:
the sum of the last `ROWS` rows, the sum of all before them, and what the additions of the one to the other have lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..kernel_ir import ColumnSums, Let, Map, Reduce, Result, Section, Statement, Store
from .cpu_text import Writer, combine, finish, is_compensated, join_block, start_value

SHARES, SHARE_ROWS, PLANES = 32, 64, 3
"""The most shares, how many rows one is at least worth, and the rows of numbers of each share."""

ROWS = 32
SHORTEST_ROW = 128
"""Shorter rows are done many at a time (`cpu_narrow`), or leave the sums little to share with."""


@dataclass(frozen=True)
class _Sum:
    """A result with its three places in memory."""

    result: Result
    pointer: str
    total: str
    part: str
    error: str


def keeps_columns(section: Section) -> bool:
    """Do all loops of the kernel go through a row of the same length, one after the other?"""
    loops = [each for each in section.body if isinstance(each, Map | Reduce)]
    if len(section.axes) != 1 or not all(isinstance(each, Let | Store | Map | Reduce) for each in section.body):
        return False
    if not all(isinstance(inner, Let | Store) for each in loops for inner in each.body):
        return False
    extents = {each.extent if isinstance(each, Map) else " ".join(extent for _, extent in each.loops)
               for each in loops}
    if len(extents) != 1 or not any(isinstance(each, Reduce) for each in loops):
        return False
    (extent,) = extents
    return extent.isidentifier() or (extent.isdigit() and int(extent) >= SHORTEST_ROW)


def render_shares(writer: Writer, section: Section, write_body: Callable[[Sequence[Statement]], None]) -> None:
    """The loop over shares; parameters and prelude are written already. `write_body` writes the body of a row."""
    (axis,) = section.axes
    index, extent = _loop(section.body)
    sums = [_place(each, extent) for columns in section.columns for each in _pairs(columns)]
    writer.line(f"share_count = min(({axis.extent} + {SHARE_ROWS - 1}) // {SHARE_ROWS}, {SHARES})")
    writer.line(f"share_rows = ({axis.extent} + share_count - 1) // max(share_count, 1)")
    writer.line("for share in range(start, stop):")
    with writer:
        _each_column(writer, index, extent, [line for each in sums for line in _start(each)])
        writer.line(f"share_stop = min((share + 1) * share_rows, {axis.extent})")
        writer.line(f"for first in range(share * share_rows, share_stop, {ROWS}):")
        with writer:
            writer.line(f"for {axis.name} in range(first, min(first + {ROWS}, share_stop)):")
            with writer:
                write_body(_with_sums(section, sums))
            if any(is_compensated(each.result) for each in sums):
                writer.line(f"for {index} in range({extent}):")
                with writer:
                    for each in sums:
                        _join(writer, each)
        if any(is_compensated(each.result) for each in sums):
            writer.line(f"for {index} in range({extent}):")
            with writer:
                for each in sums:
                    _finish(writer, each)


def _loop(body: Sequence[Statement]) -> tuple[str, str]:
    loop = next(each for each in body if isinstance(each, Map | Reduce))
    return loop.loops[0] if isinstance(loop, Reduce) else (loop.index, loop.extent)


def _pairs(columns: ColumnSums) -> list[tuple[Result, Store]]:
    return list(zip(columns.results, columns.stores, strict=True))


def _place(pair: tuple[Result, Store], extent: str) -> _Sum:
    result, store = pair
    return _Sum(result, store.pointer, store.index, f"{store.index} + {extent}", f"{store.index} + 2 * {extent}")


def _each_column(writer: Writer, index: str, extent: str, lines: Sequence[str]) -> None:
    writer.line(f"for {index} in range({extent}):")
    with writer:
        for line in lines:
            writer.line(line)


def _start(each: _Sum) -> list[str]:
    places = (each.total, each.part, each.error) if is_compensated(each.result) else (each.total,)
    return [f"{each.pointer}[{place}] = {start_value(each.result)}" for place in places]


def _with_sums(section: Section, sums: Sequence[_Sum]) -> list[Statement]:
    """The body of a row, with the terms of the sums added where they are known."""
    body = list(section.body)
    places = {each.result.name: each for each in sums}
    for columns in section.columns:
        added: list[Statement] = list(columns.body)
        for result in columns.results:
            each = places[result.name]
            place = each.part if is_compensated(result) else each.total
            kept = f"{result.name}_kept"
            added.append(Let(kept, result.dtype, f"{each.pointer}[{place}]"))
            added.append(Store(each.pointer, place, combine(result, kept, result.expr)))
        loop = body[columns.loop]
        assert isinstance(loop, Map | Reduce)
        body[columns.loop] = replace(loop, body=(*loop.body, *added))
    return body


def _join(writer: Writer, each: _Sum) -> None:
    """The sum of the last rows into the sum of all."""
    if not is_compensated(each.result):
        return
    name = each.result.name
    _load(writer, each)
    join_block(writer, name)
    writer.line(f"{each.pointer}[{each.total}] = {name}")
    writer.line(f"{each.pointer}[{each.error}] = {name}_error")
    writer.line(f"{each.pointer}[{each.part}] = {start_value(each.result)}")


def _finish(writer: Writer, each: _Sum) -> None:
    if not is_compensated(each.result):
        return
    name = each.result.name
    _load(writer, each)
    finish(writer, name, name, each.result.dtype)
    writer.line(f"{each.pointer}[{each.total}] = {name}")


def _load(writer: Writer, each: _Sum) -> None:
    name = each.result.name
    for suffix, place in (("", each.total), ("_part", each.part), ("_error", each.error)):
        writer.line(f"{name}{suffix} = {each.pointer}[{place}]")
