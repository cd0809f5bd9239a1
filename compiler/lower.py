"""Lowering: a fused group in, one section of kernel IR and its arguments out.

The loops come from `access.GroupAccesses.arrange`:

* nothing reduced: a flat loop, or rows with a `Map` over the last axis;
* reduced axes: one row per point of the other axes, and inside it a sequence of loops over the reduced axes. Loop k
  can use what loops 0 … k-1 have reduced; element-level values are computed again in each loop that needs them, except
  expensive ones that the kernel stores anyway: those are parked in their own output row and read back (on a CPU).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from staticgraph.errors import UnsupportedError
from staticgraph.tensor import Tensor, toposort
from staticgraph.types import Size, product

from .access import Access, Arrangement, GroupAccesses
from .chains import RowSpace, Touch
from .groups import REPORTING, FusionResult, Group, is_inline
from .kernel_ir import Axis, Check, Let, Map, Reduce, Result, Section, Statement, Store, unknown_in_formula
from .parameters import BufferOf, Parameters, Style, cast, index_sum, literal
from .program import Argument
from .views import trace, view_of

PARKED = frozenset("""
    exp exp2 expm1 log log1p tanh sigmoid erf erfc softplus pow sin cos divide
""".split())
"""Ops that are dearer than reading their result back from the cache."""

INT64_MAX = 2**63 - 1

Loads = dict[tuple[int, Size, tuple[Size, ...]], str]
"""Names of values that are loaded already, by `Access.key`."""


@dataclass
class Lowered:
    """A section with the argument of every parameter; `extent` is its number of parallel iterations, `extents` the
    sizes of all its loops, outermost first, and `inner` those of them that are no parallel axes; `rows` says what its
    rows touch, if that is known."""

    section: Section
    arguments: list[Argument]
    extent: Size
    lanes: str
    names: list[str]
    flat: bool = False
    work: Size = 0
    extents: tuple[Size, ...] = ()
    inner: tuple[Size, ...] = ()
    rows: RowSpace | None = None


class GroupLowering:
    """Lowers one group. `stored` are the members that must reach memory; `check_of` numbers the checks of the program;
    `literal_extents` is False for sections that are shared by arrays of different sizes."""

    def __init__(self, group: Group, fused: FusionResult, stored: Sequence[Tensor], buffer_of: BufferOf,
                 check_of: Callable[[Tensor], int], style: Style, literal_extents: bool = True) -> None:
        self.group = group
        self.fused = fused
        self.stored = list(stored)
        self.is_stored = frozenset(stored)
        self.check_of = check_of
        self.literal_extents = literal_extents
        self.style = style
        self.parameters = Parameters(buffer_of, style)
        self.members = fused.members(group)
        self.accesses = GroupAccesses(group, fused, stored)
        self.variables: dict[int, str] = {}
        self.loops: list[tuple[str, str]] = []
        self.prelude: list[Statement] = []
        self.row_body: list[Statement] = []
        self.values: dict[Tensor, str] = {}
        self.loads: Loads = {}
        self.names: list[str] = []
        self.touched: list[Access] = []
        self.scattered: list[Access] = []
        self.counter = 0

    # The section.

    def lower(self) -> Lowered:
        plan = self.accesses.arrange()
        if self.group.reduced and plan.lanes == "inner":
            self.parameters.largest_literal = self.style.row
        axes = []
        for position, number in enumerate(plan.outer):
            name = "i" if plan.flat else "row" if len(plan.outer) == 1 else f"row{position}"
            self.variables[plan.runs[number][-1]] = name
            literal_extent = not plan.flat and self.literal_extents
            axes.append(Axis(name, self.parameters.extent(plan.extents[number], literal_extent)))
        for position, number in enumerate(plan.inner):
            name = "j" if len(plan.inner) == 1 else f"j{position}"
            self.variables[plan.runs[number][-1]] = name
            self.loops.append((name, self.parameters.extent(plan.extents[number])))
        self.inner_axes = frozenset(axis for number in plan.inner for axis in plan.runs[number])
        self._emit()
        section = Section(tuple(self.parameters.parameters), tuple(axes), tuple(self.row_body), 1, tuple(self.prelude))
        outer, inner = (tuple(plan.extents[number] for number in runs) for runs in (plan.outer, plan.inner))
        return Lowered(section, self.parameters.arguments, product(outer), plan.lanes, self.names, plan.flat,
                       len(self.members) * product(self.group.extents), (*outer, *inner), inner,
                       self._row_space(plan))

    def _row_space(self, plan: Arrangement) -> RowSpace:
        """What the points of the parallel axes touch: the accesses of the group, along these axes."""
        axes = [plan.runs[number][-1] for number in plan.outer]
        anywhere = frozenset(self.scattered)
        touches = []
        for access in dict.fromkeys([*self.touched, *self.scattered]):
            known = access not in anywhere and access.offset == 0
            strides = tuple(access.strides[axis] for axis in axes) if known else None
            touches.append(Touch(self.parameters.buffer_of(access.base), strides, access.base.size))
        return RowSpace(tuple(plan.extents[number] for number in plan.outer), tuple(touches))

    # Statements.

    def _emit(self) -> None:
        body = self.row_body
        after: set[Tensor] = set()
        for member in self.members:
            below = {self._below(operand) for operand in member.inputs}
            if member.op.kind == "reduction" or below & after:
                after.add(member)
            elif not self.group.axes_of(member):
                self.values[member] = self._value(member, self.values, self.loads, self.prelude)
        if self.group.reduced:
            self._emit_reductions(body)
        elif self.inner_axes:
            self._emit_rows(body)
        else:
            self._emit_elements(self.members, self.values, self.loads, body)
            self._emit_stores(self.stored, self.values, body)

    def _below(self, operand: Tensor) -> Tensor:
        """The node below the views that an operand is."""
        return trace(operand, lambda each: each in self.fused.copied)[0]

    def _emit_elements(self, members: Sequence[Tensor], values: dict[Tensor, str], loads: Loads,
                       body: list[Statement]) -> None:
        for member in members:
            if member not in values:
                values[member] = self._value(member, values, loads, body)

    def _emit_stores(self, stored: Sequence[Tensor], values: dict[Tensor, str], body: list[Statement]) -> None:
        for member in stored:
            access = self.accesses.stores[member]
            pointer = self.parameters.pointer(member, 0, "write")
            self.touched.append(access)
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
                base = self._below(operand)
                if base in self.group.at:
                    number = max(number, loop_of[base] + (base.op.kind == "reduction"))
            loop_of[member] = number
        return loop_of

    def _parked(self, loop_of: dict[Tensor, int], last: int) -> dict[Tensor, Tensor]:
        """Expensive element values of an early loop that a later loop needs: the output row that keeps them."""
        if not self.style.parks:
            return {}
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
            access = self.accesses.stores[parked[member]]
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
        if not self.style.parks:
            return []
        return [each for each in self.stored
                if each.op.name in PARKED and not self._is_row(each) and loop_of[each] < loop
                and any(user in self.group.at and loop_of[user] >= loop for user in self.fused.users.get(each, ()))]

    def _reload(self, home: Tensor, body: list[Statement]) -> str:
        pointer = self.parameters.pointer(home, 0, "write")
        name = self._name("kept")
        body.append(Let(name, str(home.dtype), f"{pointer}[{self._index(self.accesses.stores[home])}]"))
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
                base = self._below(operand)
                if base in self.group.at:
                    stack.append(base)
        return [member for member in self.members if member in needed and member.op.kind != "reduction"]

    def _result(self, member: Tensor, values: dict[Tensor, str], loads: Loads,
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
        # A stem like add_1 is set apart from the names that a renderer makes of add_1: add_1_0, add_1_1, ...
        return f"{stem}{'_' if stem[-1].isdigit() else ''}_{self.counter}"

    def _index(self, access: Access) -> str:
        terms = [(self.variables[axis], self.parameters.extent(access.strides[axis]))
                 for axis in self.variables if access.strides[axis] != 0]
        return index_sum(terms)

    def _operand_value(self, member: Tensor, number: int, values: dict[Tensor, str], loads: Loads,
                       body: list[Statement]) -> str:
        base = self._below(member.inputs[number])
        if base.op.name == "size_of":
            return self._converted_size(base)
        if is_inline(base):
            return literal(base.attrs["value"])
        if base in self.group.at:
            return values[base]
        access = self.accesses.loads[member, number]
        if base in self.fused.inlined:
            if base.op.name != "iota":
                return self._free_scalar(base)
            return self._ramp(base, access)
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

    def _load(self, access: Access, loads: Loads, body: list[Statement]) -> str:
        if all(stride == 0 for stride in access.strides):
            loads, body = self.loads, self.prelude
        elif body is not self.row_body and all(access.strides[axis] == 0 for axis in self.inner_axes):
            loads, body = self.loads, self.row_body
        name = loads.get(access.key)
        if name is None:
            pointer = self.parameters.pointer(access.base, access.offset, "read")
            self.touched.append(access)
            name = self._name(f"{pointer}v")
            body.append(Let(name, str(access.base.dtype), f"{pointer}[{self._index(access)}]"))
            loads[access.key] = name
        return name

    def _value(self, member: Tensor, values: dict[Tensor, str], loads: Loads,
               body: list[Statement]) -> str:
        """Append what computes the member; the name of its value."""
        op = member.op.name
        if op == "iota":
            return self._let(op, member, self._ramp(member, self.accesses.ramps[member]), body)
        if member.op.kind == "gather":
            return self._gather(member, values, loads, body)
        operands = [self._operand_value(member, number, values, loads, body) for number in range(len(member.inputs))]
        if op in REPORTING:
            size = self.parameters.extent(member.attrs.get("size", 1), literal=False)
            self.parameters.status()
            name, value = self._name("index"), operands[0]
            if str(member.inputs[0].dtype) == "uint64":
                value = f"minimum({value}, uint64({INT64_MAX}))"  # as an int64 it would count from the back
            body.append(Check(name, value, size, self.parameters.check(self.check_of(member))))
            return name
        return self._formula(member, operands, body)

    def _formula(self, member: Tensor, operands: Sequence[str], body: list[Statement]) -> str:
        op = member.op.name
        if op == "astype":
            return self._let(op, member, cast(operands[0], member.inputs[0].dtype, member.dtype), body)
        if member.op.scalar is None:
            raise UnsupportedError(f"'{op}' has no scalar formula, so there is no kernel for it\n  "
                                   f"{member.type}   {member.location}")
        unknown = unknown_in_formula(member.op.scalar)
        if unknown is not None:
            raise UnsupportedError(f"'{op}': the kernel language does not have '{unknown}', which its scalar formula "
                                   f"uses\n  {member.type}   {member.location}")
        return self._let(op, member, member.op.scalar.format(*operands), body)

    def _ramp(self, node: Tensor, access: Access) -> str:
        """The index that counts along the iota's axis or through all of its elements, in the iota's dtype."""
        text = self._index(access)
        if str(node.dtype) != "int64":
            return f"{node.dtype}({text})"
        return text if text.isalnum() else f"({text})"

    def _let(self, stem: str, member: Tensor, expr: str, body: list[Statement]) -> str:
        name = self._name(stem)
        self.names.append(stem)
        body.append(Let(name, str(member.dtype), expr))
        return name

    def _gather(self, member: Tensor, values: dict[Tensor, str], loads: Loads,
                body: list[Statement]) -> str:
        index = self._operand_value(member, 1, values, loads, body)
        access = self.accesses.loads[member, 0]
        source = view_of(member.inputs[0], self.fused.is_buffer)
        assert source is not None
        stride = self.parameters.extent(source.strides[member.attrs["axis"]])
        pointer = self.parameters.pointer(access.base, access.offset, "read")
        self.scattered.append(access)
        rest = self._index(access)
        where = index if stride == "1" else f"{index} * {stride}"
        return self._let(member.op.name, member, f"{pointer}[{where if rest == '0' else f'{where} + {rest}'}]", body)


