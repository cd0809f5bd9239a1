"""Lowering: a fused group in, one section of kernel IR and its arguments out.

Every value outside of the group is read through an `Access`: offset and one stride for each axis of the group. Axes
that all accesses walk through without a gap are collapsed, so that a purely elementwise group of equal shapes becomes
one flat loop. What is left is arranged as parallel axes and inner axes:

* nothing reduced: a flat loop, or rows with a `Map` over the last axis;
* reduced axes: one row per point of the other axes, and inside it a sequence of loops over the reduced axes. Loop k
  can use what loops 0 … k-1 have reduced; element-level values are computed again in each loop that needs them, except
  expensive ones that the kernel stores anyway: those are parked in their own output row and read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from staticgraph.errors import UnsupportedError
from staticgraph.tensor import Tensor, toposort
from staticgraph.types import Size, product

from .fusion import FusionResult, Group, gather_index_axes, is_inline
from .kernel_ir import (
    Axis,
    Check,
    Extent,
    Let,
    Map,
    Parameter,
    Pointer,
    Reduce,
    Result,
    Section,
    Statement,
    Status,
    Store,
)
from .program import Argument
from .views import contiguous_strides, trace, view_of

PARKED = frozenset("""
    exp exp2 expm1 log log1p tanh sigmoid erf erfc softplus pow sin cos divide
""".split())
"""Ops that are dearer than reading their result back from the cache."""


@dataclass(frozen=True)
class Access:
    """Where a value lies: in the buffer of `base`, `offset` elements in, `strides` along the group's axes."""

    base: Tensor
    offset: Size
    strides: tuple[Size, ...]


@dataclass
class Lowered:
    """A section with the argument of every parameter; `extent` is its number of parallel iterations."""

    section: Section
    arguments: list[Argument]
    extent: Size
    lanes: str
    names: list[str]
    reads: set[Tensor] = field(default_factory=set)
    writes: set[Tensor] = field(default_factory=set)
    flat: bool = False
    flops: Size = 0


class Parameters:
    """Collects pointers and extents in order of first use; the slot of each is its position."""

    def __init__(self, buffer_of: Any) -> None:
        self.buffer_of = buffer_of
        self.parameters: list[Parameter] = []
        self.arguments: list[Argument] = []
        self.names: dict[Any, str] = {}

    def pointer(self, base: Tensor, offset: Size, access: str) -> str:
        # One pointer a place in memory, also when it is read and written: then loops over it need no overlap test.
        buffer = self.buffer_of(base)
        key = ("pointer", buffer, offset)
        name = self.names.get(key)
        if name is None:
            letter = "x" if access == "read" else "y"
            name = f"{letter}{sum(isinstance(each, Pointer) and each.name[0] == letter for each in self.parameters)}"
            self._add(key, Pointer(name, str(base.dtype), access),
                      Argument("buffer", buffer, offset * base.dtype.itemsize))
        for slot, each in enumerate(self.parameters):
            if each.name == name and isinstance(each, Pointer) and each.access not in (access, "readwrite"):
                self.parameters[slot] = Pointer(name, each.dtype, "readwrite")
        return name

    def extent(self, size: Size, literal: bool = True) -> str:
        """The size as a literal, or the name of an extent argument."""
        if isinstance(size, int) and literal:
            return str(size)
        key = ("extent", size)
        if key not in self.names:
            name = f"n{sum(isinstance(each, Extent) for each in self.parameters)}"
            self._add(key, Extent(name), Argument("size", size))
        return self.names[key]

    def status(self) -> str:
        if "status" not in self.names:
            self._add("status", Status(), Argument("status"))
        return self.names["status"]

    def check(self, number: int) -> str:
        """The number of a check as an argument, so that the text does not depend on the program around it."""
        key = ("check", number)
        if key not in self.names:
            self._add(key, Extent(f"check{sum(str(each.name).startswith('check') for each in self.parameters)}"),
                      Argument("size", number))
        return self.names[key]

    def _add(self, key: Any, parameter: Parameter, argument: Argument) -> None:
        self.names[key] = parameter.name
        self.parameters.append(parameter)
        self.arguments.append(argument)


def literal(value: np.ndarray[Any, Any]) -> str:
    """A scalar constant in the kernel language, carrying its dtype."""
    item = value.reshape(()).item()
    dtype = str(value.dtype)
    if dtype == "bool":
        return str(bool(item))
    if value.dtype.kind == "f":
        number = "nan" if item != item else "inf" if item == np.inf else "-inf" if item == -np.inf else None
        if number is None:
            number = str(value.reshape(()).astype(value.dtype)) if dtype == "float32" else repr(item)
        return f"{dtype}({number})"
    return f"{dtype}({item})"


def index_sum(terms: Sequence[tuple[str, str]]) -> str:
    """``row * 10 + j`` from (variable, stride) pairs."""
    parts = [variable if stride == "1" else f"{variable} * {stride}" for variable, stride in terms if stride != "0"]
    return " + ".join(parts) if parts else "0"


class GroupLowering:
    """Lowers one group. `stored` are the members that must reach memory; `check_of` numbers the checks of the program;
    `literal_extents` is False for sections that are shared by arrays of different sizes."""

    def __init__(self, group: Group, fused: FusionResult, stored: Sequence[Tensor], buffer_of: Any, check_of: Any,
                 literal_extents: bool = True) -> None:
        self.group = group
        self.fused = fused
        self.stored = list(stored)
        self.is_stored = frozenset(stored)
        self.check_of = check_of
        self.literal_extents = literal_extents
        self.parameters = Parameters(buffer_of)
        self.members = fused.members(group)
        self.accesses: dict[tuple[Tensor, int], Access] = {}
        self.store_access: dict[Tensor, Access] = {}
        self.counter = 0
        self.names: list[str] = []
        self.reads: set[Tensor] = set()

    # Accesses and axes.

    def _collect(self) -> None:
        rank = len(self.group.extents)
        for member in self.members:
            axes = self.group.at[member]
            for number, operand in enumerate(member.inputs):
                base, _ = trace(operand, lambda each: each in self.fused.copied)
                if is_inline(base) or base in self.group.at:
                    continue
                if member.op.kind == "gather" and number == 0:
                    self.accesses[member, 0] = self._gather_source(member, axes, rank)
                elif member.op.kind == "gather":
                    shape_axes = gather_index_axes(member, tuple(range(operand.ndim))) or ()
                    own_axes = [axes[axis] for axis in shape_axes if axis is not None]
                    self.accesses[member, number] = self._operand(operand, own_axes, rank)
                else:
                    self.accesses[member, number] = self._operand(operand, axes, rank)
        for member in self.stored:
            strides = spread(self.group.out_axes(member), contiguous_strides(member.shape), rank)
            self.store_access[member] = Access(member, 0, strides)

    def _operand(self, operand: Tensor, axes: Sequence[int | None], rank: int) -> Access:
        base, through = trace(operand, lambda each: each in self.fused.copied)
        if base in self.fused.inlined:
            if base.op.name != "iota":
                return Access(base, 0, (0,) * rank)
            assert through is not None
            upper = through[base.attrs["axis"]]
            axis = None if upper is None else axes[upper]
            return Access(base, 0, tuple(1 if number == axis else 0 for number in range(rank)))
        view = view_of(operand, self.fused.is_buffer)
        assert view is not None, "needs_copy has written out what strides cannot express"
        return Access(view.base, view.offset, spread(axes, view.strides, rank))

    def _gather_source(self, member: Tensor, axes: Sequence[int | None], rank: int) -> Access:
        """Strides of the gathered operand along the axes that it shares with the result."""
        source, axis = member.inputs[0], member.attrs["axis"]
        view = view_of(source, self.fused.is_buffer)
        assert view is not None
        width = 1 if member.op.name == "gather_along" else member.inputs[1].ndim
        strides: list[Size] = [0] * rank
        for number, stride in enumerate(view.strides):
            if number == axis:
                continue
            upper = axes[number if number < axis else number - 1 + width]
            if upper is not None:
                strides[upper] = strides[upper] + stride
        return Access(view.base, view.offset, tuple(strides))

    def _order_axes(self) -> list[int]:
        """Axes in the order of the memory that matters most: the first full store, else the first full load."""
        every = list(range(len(self.group.extents)))
        for access in [*self.store_access.values(), *self.accesses.values()]:
            member_axes = [axis for axis in every if access.strides[axis] != 0]
            if len(member_axes) == len(every) and access.base not in self.fused.inlined:
                return sorted(every, key=lambda axis: -_weight(access.strides, axis, self.group.extents))
        return every

    def _collapse(self, order: list[int]) -> list[list[int]]:
        """Runs of neighbouring axes that every access walks through as if they were one."""
        accesses = [*self.accesses.values(), *self.store_access.values()]
        runs: list[list[int]] = []
        for axis in order:
            previous = runs[-1][-1] if runs else None
            if previous is not None and (previous in self.group.reduced) == (axis in self.group.reduced) and all(
                access.strides[previous] == access.strides[axis] * self.group.extents[axis] for access in accesses
            ):
                runs[-1].append(axis)
            else:
                runs.append([axis])
        return runs

    def _sources(self) -> list[Access]:
        """Accesses to memory, the ones that reductions read first."""
        return [access for (member, _), access in self.accesses.items() if access.base not in self.fused.inlined]

    # The section.

    def lower(self) -> Lowered:
        self._collect()
        runs = self._collapse(self._order_axes())
        extent_of = [product(self.group.extents[axis] for axis in run) for run in runs]
        reduced = [run[0] in self.group.reduced for run in runs]
        outer = [number for number in range(len(runs)) if not reduced[number]]
        inner = [number for number in range(len(runs)) if reduced[number]]
        flat = not inner and len(outer) <= 1
        lanes = "inner"
        if inner:
            lanes = self._lanes(runs, outer, inner)
        elif not flat:
            inner, outer = [outer[-1]], outer[:-1]
        self.axis_of_run = {number: run[-1] for number, run in enumerate(runs)}
        self.variables: dict[int, str] = {}
        axes = []
        for position, number in enumerate(outer):
            name = "i" if flat else "row" if len(outer) == 1 else f"row{position}"
            self.variables[runs[number][-1]] = name
            literal_extent = not flat and self.literal_extents
            axes.append(Axis(name, self.parameters.extent(extent_of[number], literal_extent)))
        loops = []
        for position, number in enumerate(inner):
            name = "j" if len(inner) == 1 else f"j{position}"
            self.variables[runs[number][-1]] = name
            loops.append((name, self.parameters.extent(extent_of[number])))
        self.inner_axes = frozenset(axis for number in inner for axis in runs[number])
        self.loops = loops
        prelude, body = self._emit(reduces=bool(self.group.reduced))
        section = Section(tuple(self.parameters.parameters), tuple(axes), tuple(body), 1, tuple(prelude))
        extent = product(extent_of[number] for number in outer)
        cost = len(self.members) * product(self.group.extents)
        return Lowered(section, self.parameters.arguments, extent, lanes, self.names, self.reads, set(self.stored),
                       flat, cost)

    def _lanes(self, runs: list[list[int]], outer: list[int], inner: list[int]) -> str:
        """"parallel" when memory runs along the last parallel axis rather than along the last reduced one."""
        if not outer:
            return "inner"
        last_inner, last_outer = runs[inner[-1]][-1], runs[outer[-1]][-1]
        votes = 0
        for access in self._sources():
            if access.strides[last_inner] != 0 and access.strides[last_outer] != 0:
                votes += 1 if access.strides[last_outer] == 1 else -1 if access.strides[last_inner] == 1 else 0
        return "parallel" if votes > 0 else "inner"

    # Statements.

    def _emit(self, reduces: bool) -> tuple[list[Statement], list[Statement]]:
        self.prelude: list[Statement] = []
        body: list[Statement] = []
        self.row_body = body
        self.values: dict[Tensor, str] = {}
        self.loads: dict[Access, str] = {}
        after: set[Tensor] = set()
        for member in self.members:
            below = {trace(operand, lambda each: each in self.fused.copied)[0] for operand in member.inputs}
            if member.op.kind == "reduction" or below & after:
                after.add(member)
            elif not self.group.axes_of(member):
                self.values[member] = self._value(member, self.values, self.loads, self.prelude)
        if reduces:
            self._emit_reductions(body)
        elif self.inner_axes:
            self._emit_rows(body)
        else:
            self._emit_elements(self.members, self.values, self.loads, body)
            self._emit_stores(self.stored, self.values, body)
        return self.prelude, body

    def _emit_elements(self, members: Sequence[Tensor], values: dict[Tensor, str], loads: dict[Access, str],
                       body: list[Statement]) -> None:
        for member in members:
            if member not in values:
                values[member] = self._value(member, values, loads, body)

    def _emit_stores(self, stored: Sequence[Tensor], values: dict[Tensor, str], body: list[Statement]) -> None:
        for member in stored:
            access = self.store_access[member]
            pointer = self.parameters.pointer(member, 0, "write")
            body.append(Store(pointer, self._index(access), values[member]))

    def _emit_rows(self, body: list[Statement]) -> None:
        """Elementwise over several axes: what the inner axis does not change comes before the inner loop."""
        outside = [member for member in self.members if not self.group.axes_of(member) & self.inner_axes]
        self._emit_elements(outside, self.values, self.loads, body)
        inside: list[Statement] = []
        values, loads = dict(self.values), dict(self.loads)
        self._emit_elements(self.members, values, loads, inside)
        self._emit_stores(self.stored, values, inside)
        (index, extent), = self.loops
        body.append(Map(index, extent, tuple(inside)))

    def _emit_reductions(self, body: list[Statement]) -> None:
        loop_of = self._loop_numbers()
        rows = [member for member in self.members if self._is_row(member)]
        last = max(loop_of[member] for member in self.members if member.op.kind == "reduction")
        elements = [member for member in self.stored if not self._is_row(member)]
        last = max([last, *(loop_of[member] for member in elements)])
        parked = self._parked(loop_of, last)
        for loop in range(last + 1):
            self._emit_elements([row for row in rows if loop_of[row] == loop and row.op.kind != "reduction"],
                                self.values, self.loads, body)
            self._emit_loop(loop, loop_of, parked, body)
        for row in rows:
            if row.op.kind != "reduction":
                self._emit_elements([row], self.values, self.loads, body)
        self._emit_stores([member for member in self.stored if self._is_row(member)], self.values, body)

    def _is_row(self, member: Tensor) -> bool:
        return member.op.kind == "reduction" or not self.group.axes_of(member) & self.inner_axes

    def _loop_numbers(self) -> dict[Tensor, int]:
        """For each member the first loop over the reduced axes in which (row values: before which) it can be had."""
        loop_of: dict[Tensor, int] = {}
        for member in self.members:
            number = 0
            for operand in member.inputs:
                base, _ = trace(operand, lambda each: each in self.fused.copied)
                if base in self.group.at:
                    number = max(number, loop_of[base] + (base.op.kind == "reduction"))
            loop_of[member] = number
        return loop_of

    def _parked(self, loop_of: dict[Tensor, int], last: int) -> dict[Tensor, Tensor]:
        """Expensive element values of an early loop that a later loop needs: the output row that keeps them."""
        rest = [member for member in self.stored if not self._is_row(member) and loop_of[member] == last]
        parked: dict[Tensor, Tensor] = {}
        for member in self.members:
            if member.op.name not in PARKED or self._is_row(member) or member in self.is_stored:
                continue
            if loop_of[member] == last:
                continue
            if not any(user in self.group.at and loop_of[user] > loop_of[member] for user in self.fused.users[member]):
                continue
            for home in rest:
                if home.dtype == member.dtype and home not in set(parked.values()):
                    parked[member] = home
                    break
        return parked

    def _emit_loop(self, loop: int, loop_of: dict[Tensor, int], parked: dict[Tensor, Tensor],
                   body: list[Statement]) -> None:
        reductions = [each for each in self.members if each.op.kind == "reduction" and loop_of[each] == loop]
        stores = [each for each in self.stored if not self._is_row(each) and loop_of[each] == loop]
        keep = [each for each in parked if loop_of[each] == loop]
        inside: list[Statement] = []
        values, loads = dict(self.values), dict(self.loads)
        for member in parked:
            if loop_of[member] < loop:
                values[member] = self._reload(parked[member], inside)
        for member in self._stored_early(loop_of, loop):
            values[member] = self._reload(member, inside)
        self._emit_elements(self._needed([*reductions, *stores, *keep], values), values, loads, inside)
        results = [self._result(each, values, loads, inside) for each in reductions]
        self._emit_stores(stores, values, inside)
        for member in keep:
            access = self.store_access[parked[member]]
            pointer = self.parameters.pointer(parked[member], 0, "write")
            inside.append(Store(pointer, self._index(access), values[member]))
        if results:
            body.append(Reduce(tuple(self.loops), tuple(inside), tuple(results)))
            self.values.update({each: result.name for each, result in zip(reductions, results, strict=True)})
        elif inside:
            for index, extent in reversed(self.loops):
                inside = [Map(index, extent, tuple(inside))]
            body += inside

    def _stored_early(self, loop_of: dict[Tensor, int], loop: int) -> list[Tensor]:
        """Expensive values that an earlier loop has stored for good: read back instead of computed again."""
        return [each for each in self.stored
                if each.op.name in PARKED and not self._is_row(each) and loop_of[each] < loop
                and any(user in self.group.at and loop_of[user] >= loop for user in self.fused.users.get(each, ()))]

    def _reload(self, home: Tensor, body: list[Statement]) -> str:
        pointer = self.parameters.pointer(home, 0, "write")
        name = self._name("kept")
        body.append(Let(name, str(home.dtype), f"{pointer}[{self._index(self.store_access[home])}]"))
        return name

    def _needed(self, wanted: Sequence[Tensor], values: dict[Tensor, str]) -> list[Tensor]:
        """Element-level members that have to be computed for `wanted`, in order."""
        needed: set[Tensor] = set()
        stack = list(wanted)
        while stack:
            member = stack.pop()
            if member in needed or member in values:
                continue
            needed.add(member)
            for operand in member.inputs:
                base, _ = trace(operand, lambda each: each in self.fused.copied)
                if base in self.group.at:
                    stack.append(base)
        return [member for member in self.members if member in needed and member.op.kind != "reduction"]

    def _result(self, member: Tensor, values: dict[Tensor, str], loads: dict[Access, str],
                body: list[Statement]) -> Result:
        operand = self._operand_value(member, 0, values, loads, body)
        position = ""
        if member.op.name in ("argmax", "argmin"):
            position = self.variables[next(iter(self.group.reduced))]
        name = self._name(member.op.name)
        self.names.append(member.op.name)
        return Result(name, str(member.dtype), member.op.name, operand, str(member.inputs[0].dtype), position)

    # Values.

    def _name(self, stem: str) -> str:
        self.counter += 1
        return f"{stem}_{self.counter}"

    def _index(self, access: Access) -> str:
        terms = [(self.variables[axis], self.parameters.extent(access.strides[axis]))
                 for axis in self.variables if access.strides[axis] != 0]
        return index_sum(terms)

    def _operand_value(self, member: Tensor, number: int, values: dict[Tensor, str], loads: dict[Access, str],
                       body: list[Statement]) -> str:
        base, _ = trace(member.inputs[number], lambda each: each in self.fused.copied)
        if base.op.name == "size_of":
            return self._converted_size(base)
        if is_inline(base):
            return literal(base.attrs["value"])
        if base in self.group.at:
            return values[base]
        access = self.accesses[member, number]
        if base in self.fused.inlined:
            if base.op.name != "iota":
                return self._free_scalar(base)
            text = self._index(access)
            return text if str(base.dtype) == "int64" else f"{base.dtype}({text})"
        return self._load(access, loads, body)

    def _free_scalar(self, node: Tensor) -> str:
        """A scalar made of sizes and constants, computed once before the loops."""
        for member in toposort([node]):
            if member.op.kind == "elementwise" and member not in self.values:
                operands = [self._free_operand(operand) for operand in member.inputs]
                self.values[member] = self._formula(member, operands, self.prelude)
        return self.values[node]

    def _free_operand(self, node: Tensor) -> str:
        if node.op.name == "size_of":
            return self._converted_size(node)
        return literal(node.attrs["value"]) if is_inline(node) else self.values[node]

    def _converted_size(self, node: Tensor) -> str:
        return self.parameters.extent(node.attrs["size"], literal=False)

    def _load(self, access: Access, loads: dict[Access, str], body: list[Statement]) -> str:
        if all(stride == 0 for stride in access.strides):
            loads, body = self.loads, self.prelude
        elif body is not self.row_body and all(access.strides[axis] == 0 for axis in self.inner_axes):
            loads, body = self.loads, self.row_body
        name = loads.get(access)
        if name is None:
            self.reads.add(access.base)
            pointer = self.parameters.pointer(access.base, access.offset, "read")
            name = self._name(f"{pointer}v")
            body.append(Let(name, str(access.base.dtype), f"{pointer}[{self._index(access)}]"))
            loads[access] = name
        return name

    def _value(self, member: Tensor, values: dict[Tensor, str], loads: dict[Access, str],
               body: list[Statement]) -> str:
        """Append what computes the member; the name of its value."""
        op = member.op.name
        if op == "iota":
            text = self.variables_of_iota(member)
            return self._let(op, member, text, body)
        if member.op.kind == "gather":
            return self._gather(member, values, loads, body)
        operands = [self._operand_value(member, number, values, loads, body) for number in range(len(member.inputs))]
        if op == "check_index":
            size = self.parameters.extent(member.attrs["size"], literal=False)
            self.parameters.status()
            name = self._name("index")
            body.append(Check(name, operands[0], size, self.parameters.check(self.check_of(member))))
            return name
        return self._formula(member, operands, body)

    def _formula(self, member: Tensor, operands: Sequence[str], body: list[Statement]) -> str:
        op = member.op.name
        if op == "astype":
            return self._let(op, member, cast(operands[0], member.inputs[0].dtype, member.dtype), body)
        if member.op.scalar is None:
            raise UnsupportedError(f"'{op}' has no scalar formula, so there is no kernel for it\n  "
                                   f"{member.type}   {member.location}")
        return self._let(op, member, member.op.scalar.format(*operands), body)

    def variables_of_iota(self, member: Tensor) -> str:
        axis = self.group.at[member][member.attrs["axis"]]
        text = "0" if axis is None else self.variables[axis]
        return text if str(member.dtype) == "int64" else f"{member.dtype}({text})"

    def _let(self, stem: str, member: Tensor, expr: str, body: list[Statement]) -> str:
        name = self._name(stem)
        self.names.append(stem)
        body.append(Let(name, str(member.dtype), expr))
        return name

    def _gather(self, member: Tensor, values: dict[Tensor, str], loads: dict[Access, str],
                body: list[Statement]) -> str:
        index = self._operand_value(member, 1, values, loads, body)
        access = self.accesses[member, 0]
        source = view_of(member.inputs[0], self.fused.is_buffer)
        assert source is not None
        stride = self.parameters.extent(source.strides[member.attrs["axis"]])
        pointer = self.parameters.pointer(access.base, access.offset, "read")
        self.reads.add(access.base)
        rest = self._index(access)
        where = index if stride == "1" else f"{index} * {stride}"
        return self._let(member.op.name, member, f"{pointer}[{where if rest == '0' else f'{where} + {rest}'}]", body)


def cast(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
    """Conversion of a scalar between dtypes."""
    if target == np.dtype(bool):
        return text if source == target else f"{text} != 0"
    return f"{target}({text})"


def spread(axes: Sequence[int | None], strides: Sequence[Size], rank: int) -> tuple[Size, ...]:
    """Strides of a tensor's axes as strides along the group's axes."""
    result: list[Size] = [0] * rank
    for axis, stride in zip(axes, strides, strict=True):
        if axis is not None:
            result[axis] = result[axis] + stride
    return tuple(result)


def _weight(strides: Sequence[Size], axis: int, extents: Sequence[Size]) -> int:
    """Sorts axes from large to small stride; symbolic sizes count as large."""
    from staticgraph.types import evaluate_size, size_symbols

    names = {name: 1009 for stride in strides for name in size_symbols(stride)}
    return abs(evaluate_size(strides[axis], names))
