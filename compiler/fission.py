"""Fission: a row program with few, long rows as several kernels that fill a device.

Comes in: a lowered section with reductions. Goes out: sections that compute the same, in order. One row is work for one
block of threads of a GPU, or for one thread of a CPU. Where there are few rows, and long ones, each reduction becomes
two kernels: *parts* (a parallel axis more: each part of the row reduced on its own, the results in scratch memory) and
*joins* (the parts of a row reduced in order, which gives the same bits at every run). Values of the row that a later
kernel needs go through scratch memory too. What follows the last reduction and runs over the row's elements becomes an
elementwise kernel.

How many parts there are follows from the number of rows alone; their length from the sizes at run time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from staticgraph.types import Size, evaluate_size, floor_divide, maximum_size, product, size_symbols

from .kernel_ir import Axis, Check, Extent, Let, Map, Parameter, Pointer, Reduce, Result, Section, Statement, Store
from .lower import Lowered
from .program import Argument
from .statements import everything, lets, live, texts, unnest, words, written


@dataclass(frozen=True)
class Limits:
    """What a device cuts. At most so many rows (columns) of at least such a length, which may have to be known; into
    so many parts for all rows together (for each column: as many as come near `columns_at_once`), which are no shorter
    than so much. `known`: not for lengths that nothing is known of. `nested`: rows that several loops go through are
    cut too."""

    rows: int
    columns: int
    row_length: int
    column_length: int
    row_parts: int
    column_parts: int
    columns_at_once: int
    row_part: int
    column_part: int
    elements: int = 0
    known: bool = False
    nested: bool = True


GPU = Limits(rows=256, columns=8192, row_length=16384, column_length=2048, row_parts=1024, column_parts=512,
             columns_at_once=2**15, row_part=4096, column_part=64)
CPU = Limits(rows=16, columns=8192, row_length=2**16, column_length=512, row_parts=64, column_parts=32,
             columns_at_once=2**18, row_part=8192, column_part=64, elements=2**18, known=True, nested=False)
"""On a CPU another kernel is another compile: the whole has to be worth several threads. Columns are cut where their
length is known, rows also where it is likely to be long (all elements of n by 1000, but not those of n)."""

KNOWN, SOME = 256, 1009

Scratch = Callable[[tuple[Size, ...], str], int]
"""Makes a buffer of this shape and dtype in the arena; gives its number."""


def fission(lowered: Lowered, scratch: Scratch, limits: Limits) -> list[Lowered]:
    """The section itself, or what it is cut into."""
    parts = number_of_parts(lowered, limits)
    return [lowered] if parts <= 1 else _Fission(lowered, scratch, parts, limits).run()


def number_of_parts(lowered: Lowered, limits: Limits) -> int:
    """Into how many parts a row is cut; 1 where that is not worth it."""
    section = lowered.section
    body = section.body
    simple = all(isinstance(each, Let | Store | Reduce | Map) for each in body)
    if not simple or not any(isinstance(each, Reduce) for each in body) or not isinstance(lowered.extent, int):
        return 1
    if not all(_is_flat(each, limits) for each in body):
        return 1
    rows, length = lowered.extent, product(lowered.inner)
    columns = lowered.lanes == "parallel"
    few, long = (limits.columns, limits.column_length) if columns else (limits.rows, limits.row_length)
    if not 0 < rows <= few or (isinstance(length, int) and (length < long or rows * length < limits.elements)):
        return 1
    if limits.known and not isinstance(length, int) and (columns or not _is_likely_long(length, limits)):
        return 1
    return max(1, min(limits.column_parts, limits.columns_at_once // rows) if columns else limits.row_parts // rows)


def _is_likely_long(length: Size, limits: Limits) -> bool:
    """A length of which a good part is known, and that is long where every symbol is some thousand."""
    known, likely = (evaluate_size(length, dict.fromkeys(size_symbols(length), some)) for some in (1, SOME))
    return known >= KNOWN and likely >= limits.elements


def _is_flat(statement: Statement, limits: Limits) -> bool:
    if not isinstance(statement, Map | Reduce):
        return True
    loops, body = unnest(statement)
    return all(isinstance(each, Let | Store | Check) for each in body) and (limits.nested or len(loops) == 1)


class _Fission:
    def __init__(self, lowered: Lowered, scratch: Scratch, parts: int, limits: Limits) -> None:
        self.limits = limits
        self.lowered = lowered
        self.section = lowered.section
        self.scratch = scratch
        self.parts = parts
        self.parameters: dict[str, tuple[Parameter, Argument]] = {
            each.name: (each, argument)
            for each, argument in zip(self.section.parameters, lowered.arguments, strict=True)}
        self.rows = lowered.extent
        self.made: list[Lowered] = []

    def run(self) -> list[Lowered]:
        body = self.section.body
        last = max(number for number, each in enumerate(body) if isinstance(each, Reduce))
        ends_in_rows = not any(isinstance(each, Map) for each in body[last:])
        row_values: list[Statement] = []     # values of the row so far: computed again where they are needed
        for number, statement in enumerate(body):
            match statement:
                case Reduce():
                    self._parts(statement, row_values, number)
                    if number == last and ends_in_rows:
                        self._join(statement, row_values, number, body[last + 1:])
                        return self.made
                    row_values += self._join_into_scratch(statement, number)
                case Map():
                    self._elements(statement, row_values)
                case _:
                    row_values.append(statement)
        if any(isinstance(each, Store) for each in row_values):
            self._rows(row_values)
        return self.made

    # The kernels.

    def _place(self, part: str) -> str:
        """Where a part's result lies: columns beside each other, or the parts of a row beside each other."""
        row = self._row_number()
        if self.lowered.lanes == "parallel":
            return f"{part} * {self.rows} + {row}"
        return part if row == "0" else f"({row}) * {self.parts} + {part}"

    def _parts(self, statement: Reduce, before: Sequence[Statement], number: int) -> None:
        """Each part of a row reduced on its own."""
        part, length = f"part{number}", f"length{number}"
        columns = self.lowered.lanes == "parallel"
        shortest = self.limits.column_part if columns else self.limits.row_part
        pieces = floor_divide(product(self.lowered.inner) + (self.parts * shortest - 1), self.parts * shortest)
        self.parameters[length] = Extent(length), Argument("size", maximum_size(pieces, 1) * shortest)
        results = [*statement.results, *(_extreme(each) for each in statement.results if each.position)]
        stores = [Store(self._workspace(f"w{number}_{result.name}", result.dtype, self.rows * self.parts),
                        self._place(part), result.name) for result in results]
        reduce = Reduce(statement.loops, statement.body, tuple(results), (f"{part} * {length}", length))
        axis = Axis(part, str(self.parts))
        axes = (axis, *self.section.axes) if columns else (*self.section.axes, axis)
        self._add(axes, [*lets(before), reduce, *stores], self.rows * self.parts, self.lowered.inner,
                  self.lowered.lanes, ["parts", *self._names(statement)])

    def _join(self, statement: Reduce, before: Sequence[Statement], number: int, after: Sequence[Statement]) -> None:
        """The parts of each row reduced in order."""
        index = self._place(f"p{number}")
        loads: list[Statement] = []
        terms: list[Result] = []
        for result in statement.results:
            load, pointer = f"{result.name}_piece", f"w{number}_{result.name}"
            if result.position:
                loads.append(Let(load, result.term_dtype, f"{pointer}_extreme[{index}]"))
                loads.append(Let(f"{load}_place", "int64", f"{pointer}[{index}]"))
                terms.append(replace(result, expr=load, position=f"{load}_place"))
            else:
                loads.append(Let(load, result.dtype, f"{pointer}[{index}]"))
                terms.append(replace(result, expr=load))
        join = Reduce(((f"p{number}", str(self.parts)),), tuple(loads), tuple(terms), joins=True)
        self._add(self.section.axes, [*before, join, *after], self.rows, (self.parts,), self.lowered.lanes,
                  ["join", *self._names(statement)])

    def _join_into_scratch(self, statement: Reduce, number: int) -> list[Statement]:
        """The join where later kernels need the results; gives what loads them there."""
        row = self._row_number()
        stores, values = [], []
        for result in statement.results:
            pointer = self._workspace(f"r{number}_{result.name}", result.dtype, self.rows)
            stores.append(Store(pointer, row, result.name))
            values.append(Let(result.name, result.dtype, f"{pointer}[{row}]"))
        self._join(statement, [], number, stores)
        return list(values)

    def _elements(self, statement: Map, before: Sequence[Statement]) -> None:
        """What runs over the elements of the row: each is a parallel iteration of its own."""
        loops, body = unnest(statement)
        axes = (*self.section.axes, *(Axis(index, extent) for index, extent in loops[:-1]))
        last, extent = loops[-1]
        values = lets(before)
        if not axes:
            # What is the same for all elements comes before them: on a CPU the loop over them is the kernel's own.
            self._add((Axis(last, extent),), body, self.lowered.inner[-1], (), "inner", ["elements"], values)
            return
        self._add(axes, [*values, Map(last, extent, tuple(body))], product((self.rows, *self.lowered.inner[:-1])),
                  self.lowered.inner[-1:], "inner", ["elements"])

    def _rows(self, values: Sequence[Statement]) -> None:
        """What is stored once a row, where no kernel that goes through the rows comes last: each row is an element."""
        *outer, last = self.section.axes or (None,)
        if last is None or not outer:
            self._add(self.section.axes, values, self.rows, (), "inner", ["row"])
            return
        size = self._size_of(last)
        rows = product(self._size_of(axis) for axis in outer)
        self._add(tuple(outer), [Map(last.name, last.extent, tuple(values))], rows, (size,), "inner", ["row"])

    def _names(self, statement: Reduce) -> list[str]:
        return [re.sub(r"_\d+$", "", each.name) for each in statement.results]

    def _row_number(self) -> str:
        """The running number of the row, from the indices of its axes."""
        number = "0"
        for axis in self.section.axes:
            number = axis.name if number == "0" else f"({number}) * {axis.extent} + {axis.name}"
        return number

    def _workspace(self, name: str, dtype: str, size: Size) -> str:
        buffer = self.scratch((size,), dtype)
        self.parameters[name] = Pointer(name, dtype, "readwrite"), Argument("buffer", buffer)
        return name

    def _add(self, axes: tuple[Axis, ...], body: Sequence[Statement], extent: Size, inner: tuple[Size, ...],
             lanes: str, names: list[str], first: Sequence[Statement] = ()) -> None:
        """A kernel with the parameters that it uses; `first` comes before its axes."""
        kept, before = live(body), [*self.section.prelude, *first]
        stored = written(kept)
        used = words([*kept, *before]) | {axis.extent for axis in axes} | stored
        prelude = live(before, used)
        used |= words(prelude)
        parameters, arguments = [], []
        for name, (parameter, argument) in self.parameters.items():
            if name in used:
                if isinstance(parameter, Pointer):
                    loads = any(f"{name}[" in text for each in everything([*kept, *prelude]) for text in texts(each))
                    access = ("readwrite" if loads else "write") if name in stored else "read"
                    parameter = replace(parameter, access=access)
                parameters.append(parameter)
                arguments.append(argument)
        flat = len(axes) <= 1 and not any(isinstance(each, Map | Reduce) for each in kept)
        section = Section(tuple(parameters), axes, tuple(kept), 1, tuple(prelude))
        outer = tuple(self._size_of(axis) for axis in axes)
        self.made.append(Lowered(section, arguments, extent, lanes, names, flat, 0, (*outer, *inner), inner))

    def _size_of(self, axis: Axis) -> Size:
        if axis.extent.lstrip("-").isdigit():
            return int(axis.extent)
        return self.parameters[axis.extent][1].value


def _extreme(result: Result) -> Result:
    """The value beside a position."""
    op = "max" if result.op == "argmax" else "min"
    return Result(f"{result.name}_extreme", result.term_dtype, op, result.expr, result.term_dtype)
