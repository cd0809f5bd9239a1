"""Where a group's values lie in memory, and the loops that follow from it.

Every value outside of the group is read through an `Access`: offset and one stride for each axis of the group. Axes
that all accesses walk through without a gap are collapsed, so that a purely elementwise group of equal shapes becomes
one flat loop; what is left is arranged as parallel axes and inner axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from staticgraph.tensor import Tensor
from staticgraph.types import Size, evaluate_size, product, size_symbols

from .groups import FusionResult, Group, gather_index_axes, is_inline
from .views import contiguous_strides, trace, view_of


@dataclass(frozen=True, eq=False)
class Access:
    """Where a value lies: in the buffer of `base`, `offset` elements in, `strides` along the group's axes."""

    base: Tensor
    offset: Size
    strides: tuple[Size, ...]

    @property
    def key(self) -> tuple[int, Size, tuple[Size, ...]]:
        """Equal for accesses to the same elements. Tensors are compared by identity, never by ``==``."""
        return id(self.base), self.offset, self.strides


@dataclass(frozen=True)
class Arrangement:
    """Loops of a group. `runs` are the collapsed axes, each a run of the group's axes whose last one has the stride;
    `outer` and `inner` number the parallel and the inner runs; `flat`: one loop does it; `lanes`: see kernel_ir."""

    runs: tuple[tuple[int, ...], ...]
    extents: tuple[Size, ...]
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    flat: bool
    lanes: str


class GroupAccesses:
    """The accesses of a group: `loads` by member and number of the operand, `stores` by member. `ramps` are members
    that count along an axis, which for that reason stays an axis of its own."""

    def __init__(self, group: Group, fused: FusionResult, stored: Sequence[Tensor]) -> None:
        self.group = group
        self.fused = fused
        self.loads: dict[tuple[Tensor, int], Access] = {}
        self.stores: dict[Tensor, Access] = {}
        self.ramps: dict[Tensor, Access] = {}
        self._collect(stored)

    def arrange(self) -> Arrangement:
        """Parallel runs and inner runs. Nothing reduced: one flat loop, or rows with the last run inside."""
        runs = self._collapse(self._order_axes())
        extents = tuple(product(self.group.extents[axis] for axis in run) for run in runs)
        outer = [number for number, run in enumerate(runs) if run[0] not in self.group.reduced]
        inner = [number for number, run in enumerate(runs) if run[0] in self.group.reduced]
        flat = not inner and len(outer) <= 1
        lanes = self._lanes(runs, outer, inner) if inner else "inner"
        if not inner and not flat:
            inner, outer = [outer[-1]], outer[:-1]
        return Arrangement(tuple(map(tuple, runs)), extents, tuple(outer), tuple(inner), flat, lanes)

    def _collect(self, stored: Sequence[Tensor]) -> None:
        rank = len(self.group.extents)
        for member in self.fused.members(self.group):
            axes = self.group.at[member]
            if member.op.name == "iota":
                self.ramps[member] = _ramp(member, axes, rank)
            for number, operand in enumerate(member.inputs):
                base, _ = trace(operand, lambda each: each in self.fused.copied)
                if member.op.kind == "gather" and number == 0:
                    self.loads[member, 0] = self._gather_source(member, axes, rank)
                    continue
                if is_inline(base) or base in self.group.at:
                    continue
                if member.op.kind == "gather":
                    shape_axes = gather_index_axes(member, tuple(range(operand.ndim))) or ()
                    own_axes = [axes[axis] for axis in shape_axes if axis is not None]
                    self.loads[member, number] = self._operand(operand, own_axes, rank)
                else:
                    self.loads[member, number] = self._operand(operand, axes, rank)
        for member in stored:
            strides = spread(self.group.out_axes(member), contiguous_strides(member.shape), rank)
            self.stores[member] = Access(member, 0, strides)

    def _operand(self, operand: Tensor, axes: Sequence[int | None], rank: int) -> Access:
        base, through = trace(operand, lambda each: each in self.fused.copied)
        if base in self.fused.inlined:
            if base.op.name != "iota":
                return Access(base, 0, (0,) * rank)
            assert through is not None
            return _ramp(base, [None if upper is None else axes[upper] for upper in through], rank)
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
        for access in [*self.stores.values(), *self.loads.values()]:
            member_axes = [axis for axis in every if access.strides[axis] != 0]
            if len(member_axes) == len(every) and access.base not in self.fused.inlined:
                return sorted(every, key=lambda axis: -_weight(access.strides, axis, self.group.extents))
        return every

    def _collapse(self, order: list[int]) -> list[list[int]]:
        """Runs of neighbouring axes that every access walks through as if they were one."""
        accesses = [*self.loads.values(), *self.stores.values(), *self.ramps.values()]
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
        return [access for (member, _), access in self.loads.items() if access.base not in self.fused.inlined]

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


def _ramp(node: Tensor, axes: Sequence[int | None], rank: int) -> Access:
    """The access whose index counts along an iota's axis or, if it has none, through all of its elements."""
    axis = node.attrs["axis"]
    strides = [int(number == axis) for number in range(node.ndim)]
    return Access(node, 0, spread(axes, contiguous_strides(node.shape) if axis is None else strides, rank))


def spread(axes: Sequence[int | None], strides: Sequence[Size], rank: int) -> tuple[Size, ...]:
    """Strides of a tensor's axes as strides along the group's axes."""
    result: list[Size] = [0] * rank
    for axis, stride in zip(axes, strides, strict=True):
        if axis is not None:
            result[axis] = result[axis] + stride
    return tuple(result)


def _weight(strides: Sequence[Size], axis: int, extents: Sequence[Size]) -> int:
    """Sorts axes from large to small stride; symbolic sizes count as large."""
    names = {name: 1009 for stride in strides for name in size_symbols(stride)}
    return abs(evaluate_size(strides[axis], names))
