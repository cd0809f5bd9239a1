"""What fusion works on and gives: groups of nodes, each a kernel in the making, and what can be asked of nodes.

Comes in: nothing but nodes of the primitive graph. `fusion` says how groups come about and what holds for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from staticgraph.tensor import Tensor
from staticgraph.types import Size

from .reasons import Refusal
from .views import AxisMap, is_one

REPORTING = ("check_index", "guard")
"""Ops that report through the status whatever is not within 0 .. size-1 (of a guard: not 0)."""

FUSED = ("elementwise", "reduction", "gather")
BUFFERS = ("placeholder", "variable")


def is_leaf_buffer(node: Tensor) -> bool:
    """Placeholders, variables and constants of more than one element live in memory before the first kernel."""
    return node.op.name in BUFFERS or (node.op.name == "constant" and node.attrs["value"].size != 1)


def is_inline(node: Tensor) -> bool:
    """Scalar constants and sizes: written into the kernel as literals and extents."""
    return node.op.name == "size_of" or (node.op.name == "constant" and node.attrs["value"].size == 1)


@dataclass(eq=False)
class Group:
    """One kernel in the making; see the module docstring. `at[m]` maps m's iteration axes (for a reduction those of
    its operand) to the group's axes, None for axes of one element."""

    number: int
    extents: list[Size]
    at: dict[Tensor, AxisMap]
    reduced: frozenset[int] = frozenset()
    fenced: bool = False
    first: Tensor | None = None
    predecessors: set[Group] = field(default_factory=set)
    ancestors: int = 0

    def out_axes(self, member: Tensor) -> AxisMap:
        """The group's axes of the member's result."""
        if member.op.kind != "reduction":
            return self.at[member]
        return tuple(axis for number, axis in enumerate(self.at[member]) if number not in member.attrs["axes"])

    def axes_of(self, member: Tensor) -> frozenset[int]:
        return frozenset(axis for axis in self.at[member] if axis is not None)


@dataclass(frozen=True, eq=False)
class FusionResult:
    """Groups in no particular order; `group_of` for every fused node; `copied` are the views to be written out;
    `users` of each node that owns a value, views skipped; `roots` are wanted by the caller; `placed` are products that
    are written as one of `copied` at once; `apart` says why a value and its user are in different groups where both
    could be in one, and `why_copied` why a view is written out."""

    groups: tuple[Group, ...]
    group_of: dict[Tensor, Group]
    copied: frozenset[Tensor]
    users: dict[Tensor, list[Tensor]]
    roots: frozenset[Tensor]
    order: tuple[Tensor, ...]
    inlined: frozenset[Tensor] = frozenset()
    placed: dict[Tensor, Tensor] = field(default_factory=dict)
    apart: dict[tuple[Tensor, Tensor], Refusal] = field(default_factory=dict)
    why_copied: dict[Tensor, Refusal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        position = {node: number for number, node in enumerate(self.order)}
        ordered = {group: sorted(group.at, key=position.__getitem__) for group in self.groups}
        object.__setattr__(self, "_members", ordered)

    def members(self, group: Group) -> list[Tensor]:
        """A group's members in order of the graph."""
        members: list[Tensor] = self._members[group]  # type: ignore[attr-defined]
        return members

    def is_buffer(self, node: Tensor) -> bool:
        """True for nodes that own memory when they are read from another kernel."""
        return node in self.copied or node.op.kind != "view"


def iteration_space(node: Tensor) -> tuple[list[Size], AxisMap, frozenset[int]]:
    """Extents, axis of each dimension (None for one element) and reduced axes of a node on its own."""
    shape = node.inputs[0].shape if node.op.kind == "reduction" else node.shape
    summed = node.attrs["axes"] if node.op.kind == "reduction" else ()
    extents: list[Size] = []
    axes: list[int | None] = []
    for number, size in enumerate(shape):
        if is_one(size) and number not in summed:
            axes.append(None)
        else:
            axes.append(len(extents))
            extents.append(size)
    reduced = frozenset(axis for number, axis in enumerate(axes) if number in summed and axis is not None)
    return extents, tuple(axes), reduced


def gather_index_axes(node: Tensor, axes: AxisMap | None) -> AxisMap | None:
    """The axis map of a gather's indices, moved to where they stand in the gather's result."""
    if axes is None or node.op.name == "gather_along":
        return axes
    first = node.attrs["axis"]
    return tuple(None if axis is None else axis + first for axis in axes)


def update_cone(order: Sequence[Tensor], updates: Sequence[Tensor], outputs: Sequence[Tensor]) -> frozenset[Tensor]:
    """The elementwise nodes of a variable's own shape that serve nothing but its update: they are fenced off.

    Walks down from each update through elementwise nodes of that shape, keeping those with no other user.
    """
    users: dict[Tensor, list[Tensor]] = {}
    for node in order:
        for operand in node.inputs:
            users.setdefault(operand, []).append(node)
    wanted = set(outputs)
    cone: set[Tensor] = set()
    shapes = {update: update.shape for update in updates}
    for node in reversed(order):
        shape = shapes.get(node)
        if shape is None or node.op.kind != "elementwise" or node in wanted:
            continue
        if node.shape != shape or any(user not in cone for user in users.get(node, ())):
            continue
        cone.add(node)
        for operand in node.inputs:
            shapes.setdefault(operand, shape)
    return frozenset(cone)

