"""Reductions down the columns: when memory runs along the last parallel axis, a tile of neighbouring columns is carried
at once in local arrays, and the column runs in the innermost loop, so that loads are whole vectors. Tiles are as wide
as the first cache allows: a processor fetches ahead along long runs of memory, and each row of a tile is one run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from ..kernel_ir import Check, Let, Map, Reduce, Result, Section, Statement, Store
from ..statements import WORD
from .cpu_text import (
    DEAR,
    Writer,
    accumulate,
    accumulator,
    coordinates,
    finish,
    is_compensated,
    join_block,
    start_value,
    typed,
    write_check,
    write_window,
)

COLUMN_BLOCK = 16
ROWS_AT_ONCE, SHORT_BODY = 4, 8
"""Rows added in one pass over the lanes, where there is little to compute: the sums are then loaded and stored a fourth
as often, and as many runs of memory are fetched ahead at the same time."""

LOCAL_BYTES = 24 * 1024
MOST_LANES, FEWEST_LANES = 2048, 128


def render_lanes(writer: Writer, section: Section) -> None:
    arrays = lane_arrays(section.body)
    lanes = _lane_count(arrays.values())
    for name, dtype in arrays.items():
        writer.line(f"{name} = local_{dtype}({lanes})")
    lane_axis = section.axes[-1]
    writer.line("point = start")
    writer.line("while point < stop:")
    with writer:
        if len(section.axes) > 1:
            coordinates(writer, section, "point")
            writer.line(f"first = {lane_axis.name}")
        else:
            writer.line("first = point")
        writer.line(f"width = min(min(stop - point, {lane_axis.extent} - first), {lanes})")
        Lanes(writer, frozenset(arrays), lane_axis.name).body(section.body)
        writer.line("point += width")


def _lane_count(dtypes: Iterable[str]) -> int:
    """Columns of a tile: a power of two for which the local arrays fill half of a first cache."""
    room = LOCAL_BYTES // max(1, sum(np.dtype(dtype).itemsize for dtype in dtypes))
    return max(FEWEST_LANES, min(MOST_LANES, 1 << max(0, room.bit_length() - 1)))


def lane_arrays(body: Sequence[Statement]) -> dict[str, str]:
    """Names that live as long as a tile of columns, with their dtypes: one array of lanes for each."""
    arrays: dict[str, str] = {}
    for statement in body:
        if isinstance(statement, Let):
            arrays[statement.name] = statement.dtype
        elif isinstance(statement, Check):
            arrays[statement.name] = "int64"
        elif isinstance(statement, Reduce):
            for result in statement.results:
                arrays[result.name] = result.dtype
                if result.op in ("argmax", "argmin"):
                    arrays[f"{result.name}_best"] = result.term_dtype
                if is_compensated(result) and not is_short(statement):
                    arrays[f"{result.name}_part"] = result.dtype
                    arrays[f"{result.name}_error"] = result.dtype
    return arrays


def is_short(statement: Reduce) -> bool:
    """Is all that is reduced a single block? Then there is nothing to join."""
    if statement.joins or statement.window is not None:
        return False
    return all(extent.isdigit() for _, extent in statement.loops) and math.prod(
        int(extent) for _, extent in statement.loops) <= COLUMN_BLOCK


class Lanes:
    """Writes statements for all lanes of a tile, the lane running innermost. Statements that follow each other share
    one loop over the lanes: `lane` opens it where none is open, `close` ends it."""

    def __init__(self, writer: Writer, arrays: frozenset[str], axis: str) -> None:
        self.writer = writer
        self.arrays = arrays
        self.axis = axis
        self.opened: int | None = None

    def fix(self, text: str) -> str:
        return WORD.sub(lambda match: f"{match[0]}[lane]" if match[0] in self.arrays else match[0], text)

    def lane(self) -> None:
        if self.opened is None:
            self.writer.line("for lane in range(width):")
            self.writer.depth += 1
            self.writer.line(f"{self.axis} = first + lane")
            self.opened = len(self.writer.lines)

    def close(self) -> None:
        if self.opened is None:
            return
        axis, inside = self.opened - 1, self.writer.lines[self.opened:]
        loop = self.writer.lines[axis - 1]
        self.writer.lines[axis - 1] = loop.replace("range(width)", f"range({self.bound(inside)})")
        if not any(re.search(rf"\b{self.axis}\b", line) for line in inside):
            del self.writer.lines[axis]
        self.writer.depth -= 1
        self.opened = None

    def bound(self, inside: Sequence[str]) -> str:
        """How many lanes a loop of these lines goes through."""
        return "width"

    def body(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Reduce):
                self.reduce(statement)
            elif isinstance(statement, Map):
                self.map(statement)
            else:
                self.lane()
                self.plain([statement])
        self.close()

    def plain(self, body: Sequence[Statement]) -> None:
        for statement in body:
            match statement:
                case Let(name, dtype, expr):
                    self.writer.line(f"{self.fix(name)} = {typed(self.fix(expr), dtype)}")
                case Store(pointer, index, expr):
                    self.writer.line(f"{pointer}[{self.fix(index)}] = {self.fix(expr)}")
                case Check(name, value, size, number):
                    write_check(self.writer, Check(self.fix(name), self.fix(value), size, number))
                case _:
                    raise AssertionError(f"{type(statement).__name__} inside of a lane loop")

    def map(self, statement: Map) -> None:
        self.close()
        depth = self.writer.depth
        inner: Sequence[Statement] = (statement,)
        while len(inner) == 1 and isinstance(inner[0], Map):
            self.writer.line(f"for {inner[0].index} in range({inner[0].extent}):")
            self.writer.depth += 1
            inner = inner[0].body
        self.lane()
        self.plain(inner)
        self.close()
        self.writer.depth = depth

    def reduce(self, statement: Reduce) -> None:
        sums = [] if is_short(statement) else [result for result in statement.results if is_compensated(result)]
        self.lane()
        for result in statement.results:
            self.writer.line(f"{accumulator(result)}[lane] = {start_value(result)}")
            if result.op in ("argmax", "argmin"):
                self.writer.line(f"{result.name}[lane] = 0")
        for result in sums:
            self.writer.line(f"{result.name}_part[lane] = {start_value(result)}")
            self.writer.line(f"{result.name}_error[lane] = {start_value(result)}")
        self.close()
        depth = self.writer.depth
        for outer, size in statement.loops[:-1]:
            self.writer.line(f"for {outer} in range({size}):")
            self.writer.depth += 1
        self.blocks(statement, sums)
        self.writer.depth = depth
        for result in sums:
            self.lane()
            finish(self.writer, result.name, result.name, result.dtype, "[lane]")

    def blocks(self, statement: Reduce, sums: Sequence[Result]) -> None:
        writer = self.writer
        index, extent = statement.loops[-1]
        begin, end = write_window(writer, statement) if statement.window is not None else ("0", extent)
        if sums:
            size = 1 if statement.joins else COLUMN_BLOCK
            writer.line(f"for {index}_block in range({begin}, {end}, {size}):")
            writer.depth += 1
            begin, end = f"{index}_block", f"min({index}_block + {size}, {end})"
        if self.several_rows(statement):
            writer.line(f"{index}_stop = {end}")
            writer.line(f"{index}_rest = {begin} + ({index}_stop - {begin}) // {ROWS_AT_ONCE} * {ROWS_AT_ONCE}")
            writer.line(f"for {index}_first in range({begin}, {index}_rest, {ROWS_AT_ONCE}):")
            with writer:
                self.lane()
                for number in range(ROWS_AT_ONCE):
                    writer.line(f"{index} = {index}_first + {number}")
                    self.row(statement)
                self.close()
            begin, end = f"{index}_rest", f"{index}_stop"
        writer.line(f"for {index} in range({begin}, {end}):")
        with writer:
            self.lane()
            self.row(statement)
            self.close()
        for result in sums:
            self.lane()
            join_block(writer, result.name, "[lane]")
            writer.line(f"{result.name}_part[lane] = {start_value(result)}")
        self.close()

    def several_rows(self, statement: Reduce) -> bool:
        """Whether a pass over the lanes takes several rows."""
        extent = statement.loops[-1][1]
        enough = not str(extent).isdigit() or int(extent) >= 2 * ROWS_AT_ONCE
        simple = all(isinstance(each, Let) for each in statement.body) and len(statement.body) <= SHORT_BODY
        simple = simple and not any(DEAR.search(each.expr) for each in statement.body if isinstance(each, Let))
        simple = simple and not statement.joins
        return enough and simple and not any(result.position for result in statement.results)

    def row(self, statement: Reduce) -> None:
        """One row of a tile, inside of the loop over its lanes."""
        self.plain(statement.body)
        for result in statement.results:
            fixed = Result(result.name, result.dtype, result.op, self.fix(result.expr), result.term_dtype,
                           result.position)
            part = "_part" if is_compensated(result) and not is_short(statement) else ""
            accumulate(self.writer, fixed, part, "[lane]")
