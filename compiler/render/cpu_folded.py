"""Reductions down a few columns: several rows lie side by side in the lanes.

Eight columns do not fill a vector, and a pass over eight lanes costs more to start than to do. Where a row is followed
in memory by the next without a gap, a pass over some dozen neighbouring elements takes many rows: the column's number
starts over and over again. At the end the lanes of a column are joined, in order.

Such a kernel does all columns at once, so these are no parallel iterations: only the axes before them are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..indices import linear, split_load
from ..kernel_ir import Let, Pointer, Reduce, Result, Section, Statement, Store
from ..statements import WORD, everything, lets, renamed, texts
from .cpu_lanes import COLUMN_BLOCK, ROWS_AT_ONCE, Lanes, lane_arrays
from .cpu_text import Writer, combine, coordinates, finish, is_compensated, join_block, start_value, write_window

FOLDED, VECTOR = 64, 16
"""Elements of a pass, where that many are whole rows and whole vectors."""

MOST_COLUMNS = 16


def is_folded(section: Section) -> bool:
    """Does every loop run down all of a few columns that lie in memory row after row?"""
    reductions = [each for each in section.body if isinstance(each, Reduce)]
    if not section.axes or not reductions or not all(isinstance(each, Let | Store | Reduce) for each in section.body):
        return False
    extent = section.axes[-1].extent
    if not extent.isdigit() or not 2 <= int(extent) <= MOST_COLUMNS:
        return False
    return all(_is_contiguous(each, section) for each in reductions)


def _is_contiguous(reduce: Reduce, section: Section) -> bool:
    """Do all loads of the loop go along with the running number of the element? Nothing else may depend on row and
    column alone: a lane has others in every pass."""
    column, width = section.axes[-1].name, int(section.axes[-1].extent)
    index, extent = reduce.loops[-1]
    if reduce.joins or len(reduce.loops) != 1 or any(result.position for result in reduce.results):
        return False
    if extent.isdigit() and int(extent) < 2 * _lanes(width) // width:
        return False
    pointers = {each.name for each in section.parameters if isinstance(each, Pointer)}
    for each in reduce.body:
        if not isinstance(each, Let):
            return False
        load, used = split_load(each.expr), set(WORD.findall(each.expr))
        if load is None and used & {column, index, *pointers}:
            return False
        if load is not None and (linear(load[1], index).coefficient, linear(load[1], column).coefficient) != (width, 1):
            return False
    return not any(WORD.findall(text) and {column, index} & set(WORD.findall(text))
                   for result in reduce.results for text in (result.expr,))


def _lanes(width: int) -> int:
    """Elements of a pass: whole rows that are whole vectors."""
    least = math.lcm(width, VECTOR)
    return least * max(1, FOLDED // least)


def render_folded(writer: Writer, section: Section) -> None:
    """The loop over the axes before the columns; parameters and prelude are written already."""
    *outer, column = section.axes
    width = int(column.extent)
    lanes = _lanes(width)
    arrays = lane_arrays(section.body)
    for reduce in section.body:
        if isinstance(reduce, Reduce):     # also where a single block would do
            arrays.update({f"{result.name}{suffix}": result.dtype for result in reduce.results
                           for suffix in ("_part", "_error") if is_compensated(result)})
    for name, dtype in arrays.items():
        writer.line(f"{name} = local_{dtype}({lanes})")
    writer.line("for point in range(start, stop):")
    with writer:
        if outer:
            coordinates(writer, Section((), tuple(outer), ()), "point")
        _Folded(writer, frozenset(arrays), column.name, width, lanes).body(section.body)


class _Folded(Lanes):
    """Statements for `width` lanes, and loops for all `lanes`. A value that a loop reads is there for all of them."""

    def __init__(self, writer: Writer, arrays: frozenset[str], axis: str, width: int, lanes: int) -> None:
        super().__init__(writer, arrays, axis)
        self.width = width
        self.lanes = lanes
        self.all = False

    def bound(self, inside: Sequence[str]) -> str:
        return str(self.lanes if self.all else self.width)

    def lane(self) -> None:
        if self.opened is None:
            super().lane()
            self.writer.lines[-1] = self.writer.lines[-1].replace("first + lane", "lane")

    def body(self, body: Sequence[Statement]) -> None:
        for number, statement in enumerate(body):
            if isinstance(statement, Reduce):
                self.close()
                self.spread(statement, body[:number])
                self.reduce(statement)
            else:
                self.lane()
                self.plain([statement])
        self.close()

    def spread(self, reduce: Reduce, before: Sequence[Statement]) -> None:
        """What was computed for each column, for the rows that the other lanes stand for."""
        made = {each.name for each in lets(before)} | {
            result.name for each in before if isinstance(each, Reduce) for result in each.results}
        used = {word for each in everything([reduce]) for text in texts(each) for word in WORD.findall(text)}
        for name in sorted(made & used):
            self.writer.line(f"for lane in range({self.width}, {self.lanes}):")
            with self.writer:
                self.writer.line(f"{name}[lane] = {name}[lane - {self.width}]")

    def reduce(self, statement: Reduce) -> None:
        sums = [result for result in statement.results if is_compensated(result)]
        self.all = True
        self.lane()
        for result in statement.results:
            for suffix in ("", "_part", "_error") if result in sums else ("",):
                self.writer.line(f"{result.name}{suffix}[lane] = {start_value(result)}")
        self.close()
        self.blocks(statement, sums)
        for result in sums:
            self.lane()
            finish(self.writer, result.name, result.name, result.dtype, "[lane]")
            self.writer.line(f"{result.name}_error[lane] = {start_value(result)}")
        self.close()
        self.all = False
        self.join(statement.results)

    def blocks(self, statement: Reduce, sums: Sequence[Result]) -> None:
        """Passes over all lanes; the rows that are left at the end fill some of them."""
        writer, rows = self.writer, self.lanes // self.width
        index, extent = statement.loops[-1]
        begin, end = write_window(writer, statement) if statement.window is not None else ("0", extent)
        block = COLUMN_BLOCK * rows
        writer.line(f"{index}_whole = {begin} + ({end} - {begin}) // {rows} * {rows}")
        writer.line(f"for {index}_block in range({begin}, {index}_whole, {block}):")
        with writer:
            writer.line(f"{index}_stop = min({index}_block + {block}, {index}_whole)")
            several = ROWS_AT_ONCE if self.several_rows(statement) else 1
            stride = several * rows
            writer.line(f"{index}_rest = {index}_block + ({index}_stop - {index}_block) // {stride} * {stride}")
            self.passes(statement, f"range({index}_block, {index}_rest, {stride})", several, rows)
            if several > 1:
                self.passes(statement, f"range({index}_rest, {index}_stop, {rows})", 1, rows)
            self.join_blocks(sums)
        self.all = False
        writer.line(f"for {index}_first in range({index}_whole, {end}):")
        with writer:
            self.lane()
            self.turn(statement, f"{index}_first")
            self.close()
        self.all = True
        self.join_blocks(sums)

    def passes(self, statement: Reduce, numbers: str, several: int, rows: int) -> None:
        index = statement.loops[-1][0]
        self.writer.line(f"for {index}_first in {numbers}:")
        with self.writer:
            self.lane()
            for turn in range(several):
                self.turn(statement, f"({index}_first + {turn * rows})" if turn else f"{index}_first")
            self.close()

    def turn(self, statement: Reduce, first: str) -> None:
        """One pass: element `lane` behind the first of row `first`."""
        place = {statement.loops[-1][0]: first, self.axis: "lane"}
        self.row(Reduce(statement.loops, tuple(Let(each.name, each.dtype, renamed(each.expr, place))
                                               for each in lets(statement.body)), statement.results, ("", "")))

    def join_blocks(self, sums: Sequence[Result]) -> None:
        for result in sums:
            self.lane()
            join_block(self.writer, result.name, "[lane]")
            self.writer.line(f"{result.name}_part[lane] = {start_value(result)}")
        self.close()

    def join(self, results: Sequence[Result]) -> None:
        """The lanes of each column together."""
        writer = self.writer
        writer.line(f"for other in range({self.width}, {self.lanes}, {self.width}):")
        with writer:
            self.lane()
            for result in results:
                if is_compensated(result):
                    writer.line(f"{result.name}_part[lane] = {result.name}[other + lane]")
                    join_block(writer, result.name, "[lane]")
                else:
                    name = f"{result.name}[lane]"
                    writer.line(f"{name} = {combine(result, name, f'{result.name}[other + lane]')}")
            self.close()
        for result in results:
            if is_compensated(result):
                self.lane()
                finish(writer, result.name, result.name, result.dtype, "[lane]")
        self.close()
