"""Column sums inside of row kernels: the gradient of a layer norm reads its operands once.

Comes in: a lowered row kernel, and the lowered reductions over the rows that follow it and read what it computes or
reads anyway (the gradients of gain and bias). Goes out: one row kernel whose blocks go through many rows each and carry
a partial result for every column along, and for each reduction a kernel that joins the blocks' shares, in order.
It is done on devices where every thread keeps the same columns of all rows (`Backend.takes_columns`). A value that only
these reductions wanted is not stored any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from staticgraph.tensor import Tensor
from staticgraph.types import Size, floor_divide, minimum_size

from .indices import canonical
from .kernel_ir import ColumnSums, Extent, Let, Map, Parameter, Pointer, Reduce, Result, Section, Statement, Store
from .lower import Lowered
from .program import Argument
from .statements import WORD, everything, lets, renamed, texts, words, written

MOST_SUMS = 4
"""Column sums of one kernel. A thread has up to 16 registers of partial results for each, and those of a block of 512
threads have 128 in all."""

@dataclass(frozen=True)
class Sharing:
    """How a device shares the rows: into at most so many shares, each worth so many rows; and how many rows of numbers
    a share keeps for each sum, the first of which is the sum."""

    most: int
    rows: int = 1
    planes: int = 1

    def count(self, rows: Size) -> Size:
        pieces = rows if self.rows == 1 else floor_divide(rows + (self.rows - 1), self.rows)
        return minimum_size(pieces, self.most)

    def place(self, length: str) -> str:
        """Where a share's numbers for a sum begin."""
        return f"share * {length}" if self.planes == 1 else f"share * {self.planes} * {length}"


IsDead = Callable[[int, Sequence[Tensor]], bool]
"""Does nothing but these nodes read a buffer?"""


@dataclass
class _Renamed:
    """A reduction over rows in the names of the row kernel."""

    body: list[Let]
    results: list[Result]
    loop: int
    matched: set[str]


class RowKernel:
    """A row kernel that takes column sums in. `nodes` are the members of all groups in it."""

    def __init__(self, lowered: Lowered, nodes: Sequence[Tensor], guard: bool, scratch: Callable[..., int],
                 is_dead: IsDead, sharing: Sharing) -> None:
        self.sharing = sharing
        self.lowered = lowered
        self.nodes = list(nodes)
        self.guard = guard
        self.scratch = scratch
        self.is_dead = is_dead
        self.joins: list[tuple[Lowered, list[Tensor], bool]] = []
        (self.axis,) = lowered.section.axes
        self.index, self.length = _loops(lowered.section)[0]
        (self.size,) = lowered.inner

    def take_in(self, other: Lowered, nodes: Sequence[Tensor], guard: bool) -> bool:
        """Take a reduction over the rows in, if it is one and everything that it reads is at hand."""
        reduce = self._reduction(other)
        carried = sum(len(each.results) for each in self.lowered.section.columns)
        if reduce is None or carried + len(reduce.results) > MOST_SUMS:
            return False
        parameters = dict(self._parameters())
        renamed = self._renamed(other, reduce, parameters)
        if renamed is None:
            return False
        stores = []
        shares = self.sharing.count(self.lowered.extent)
        joins: dict[str, int] = {}
        for result in renamed.results:
            joins[result.name] = self.scratch((self.size * (self.sharing.most * self.sharing.planes),), result.dtype)
            name = f"w_{result.name}"
            parameters[name] = Pointer(name, result.dtype, "write"), Argument("buffer", joins[result.name])
            stores.append(Store(name, f"{self.sharing.place(self.length)} + {self.index}", result.name))
        sums = ColumnSums(renamed.loop, tuple(renamed.body), tuple(renamed.results), tuple(stores))
        section = self.lowered.section
        section = replace(section, columns=(*section.columns, sums),
                          parameters=tuple(each for each, _ in parameters.values()))
        self.nodes += nodes
        self.lowered = replace(self.lowered, section=section, work=self.lowered.work + other.work, rows=None,
                               arguments=[argument for _, argument in parameters.values()],
                               names=[*self.lowered.names, "columns"] if not self.joins else self.lowered.names)
        self._drop_dead(renamed.matched)
        self.joins.append((self._join(other, reduce, joins, renamed, shares), list(nodes), guard))
        return True

    def _parameters(self) -> list[tuple[str, tuple[Parameter, Argument]]]:
        section = self.lowered.section
        return [(each.name, (each, argument))
                for each, argument in zip(section.parameters, self.lowered.arguments, strict=True)]

    def _reduction(self, other: Lowered) -> Reduce | None:
        """The one reduction of a section that reduces the rows for each column."""
        section = other.section
        found = [each for each in section.body if isinstance(each, Reduce)]
        if len(found) != 1 or not isinstance(section.body[0], Reduce) or section.prelude or section.columns:
            return None
        (reduce,) = found
        if not all(isinstance(each, Let | Store) for each in section.body[1:]):
            return None
        if len(section.axes) != 1 or other.extent != self.size or len(reduce.loops) != 1:
            return None
        plain = all(isinstance(each, Let) for each in reduce.body) and not any(each.position for each in reduce.results)
        return reduce if plain and other.inner == (self.lowered.extent,) else None

    def _renamed(self, other: Lowered, reduce: Reduce,
                 parameters: dict[str, tuple[Parameter, Argument]]) -> _Renamed | None:
        suffix = f"_c{len(self.joins)}"
        names = {other.section.axes[0].name: self.index, reduce.loops[0][0]: self.axis.name}
        for parameter, argument in zip(other.section.parameters, other.arguments, strict=True):
            same = next((name for name, (_, known) in parameters.items() if known == argument), None)
            if argument == Argument("size", self.size):
                same = self.length
            if same is None and any(parameter.name in WORD.findall(each.expr) for each in lets(reduce.body)):
                if argument.kind == "buffer" and argument.value in self._written():
                    return None     # another view of what the row kernel, or a join after it, has yet to write
                same = parameter.name + suffix
                parameters[same] = replace(parameter, name=same), argument
            names[parameter.name] = same or parameter.name
        stored = self._stores()
        loops, matched, body = set(), set(), []
        for each in lets(reduce.body):
            expr = renamed(each.expr, names)
            load = re.fullmatch(r"(\w+)\[(.*)\]", expr)
            home = parameters.get(load[1]) if load else None
            if load and home is not None and isinstance(home[0], Pointer) and home[0].access != "read":
                found = stored.get((load[1], canonical(load[2])))
                if found is None:
                    return None     # what the row kernel writes, but not here
                loops.add(found[0])
                matched.add(load[1])
                names[each.name] = found[1]
                continue
            names[each.name] = each.name + suffix
            body.append(Let(each.name + suffix, each.dtype, expr))
        if len(loops) > 1:
            return None
        results = [replace(each, name=each.name + suffix, expr=renamed(each.expr, names)) for each in reduce.results]
        return _Renamed(body, results, loops.pop() if loops else self._last_loop(), matched)

    def _written(self) -> set[Any]:
        """The buffers that the row kernel and the joins write."""
        return {argument.value for lowered in (self.lowered, *(join for join, _, _ in self.joins))
                for parameter, argument in zip(lowered.section.parameters, lowered.arguments, strict=True)
                if isinstance(parameter, Pointer) and parameter.access != "read"}

    def _stores(self) -> dict[tuple[str, tuple[tuple[str, ...], ...]], tuple[int, str]]:
        """Where the row kernel stores elements: (pointer, index) -> (loop, value)."""
        found = {}
        for number, statement in enumerate(self.lowered.section.body):
            if isinstance(statement, Map | Reduce):
                for each in statement.body:
                    if isinstance(each, Store):
                        found[each.pointer, canonical(each.index)] = number, each.expr
        return found

    def _last_loop(self) -> int:
        if self.lowered.section.columns:
            return self.lowered.section.columns[-1].loop
        return max(number for number, each in enumerate(self.lowered.section.body) if isinstance(each, Map | Reduce))

    def _drop_dead(self, pointers: set[str]) -> None:
        """Stores of what only the column sums have read."""
        section = self.lowered.section
        by_name = dict(self._parameters())
        kept = {name for name in pointers if any(f"{name}[" in text for each in everything(section.body)
                                                 for text in texts(each))}     # read again by a later loop
        dead = {name for name in pointers - kept if self.is_dead(int(str(by_name[name][1].value)), self.nodes)}
        if not dead:
            return
        body = tuple(replace(each, body=tuple(inner for inner in each.body if not _stores_to(inner, dead)))
                     if isinstance(each, Map | Reduce) else each for each in section.body)
        left = [(each, argument) for name, (each, argument) in by_name.items() if name not in dead]
        section = replace(section, body=body, parameters=tuple(each for each, _ in left))
        self.lowered = replace(self.lowered, section=section, arguments=[argument for _, argument in left])

    def _join(self, other: Lowered, reduce: Reduce, buffers: dict[str, int], renamed: _Renamed,
              shares: Size) -> Lowered:
        """The section of the reduction again, over the blocks' shares instead of the rows."""
        column = other.section.axes[0]
        loads: list[Statement] = []
        results: list[Result] = []
        parameters: list[Parameter] = [Extent("shares")]
        arguments = [Argument("size", shares)]
        for result, partial in zip(reduce.results, renamed.results, strict=True):
            pointer, value = f"w_{result.name}", f"{result.name}_share"
            parameters.append(Pointer(pointer, result.dtype))
            arguments.append(Argument("buffer", buffers[partial.name]))
            loads.append(Let(value, result.dtype, f"{pointer}[{self.sharing.place(column.extent)} + {column.name}]"))
            results.append(replace(result, expr=value))
        rest = other.section.body[1:]
        used = words(rest) | written(rest) | {column.extent}
        for parameter, argument in zip(other.section.parameters, other.arguments, strict=True):
            if parameter.name in used:
                parameters.append(parameter)
                arguments.append(argument)
        joined = Reduce((("share", "shares"),), tuple(loads), tuple(results), joins=True)
        section = Section(tuple(parameters), other.section.axes, (joined, *rest))
        return Lowered(section, arguments, other.extent, "parallel", ["join", *other.names], False, 0,
                       (self.size, shares), (shares,))


def _loops(section: Section) -> tuple[tuple[str, str], ...]:
    return next(each.loops for each in section.body if isinstance(each, Reduce))


def _stores_to(statement: Statement, pointers: set[str]) -> bool:
    return isinstance(statement, Store) and statement.pointer in pointers
