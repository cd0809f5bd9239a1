"""Scheduling: groups in, an ordered list of steps over named buffers out.

Comes in: the result of fusion. Goes out: a `Schedule`, in which every step knows what it reads and writes and in which
stage it runs, and every value that reaches memory has a buffer. Decisions made here:

* an output that a kernel computes is written straight into the caller's array; leaves, repeated outputs and values
  that live elsewhere are copied there;
* a product that only one elementwise group reads is computed in the place of that group's result, where there is one of
  the same shape and dtype (on devices that run a row through both, see `chains`);
* an update that a fenced group computes is written in place, in stage "commit", if nothing that runs in that stage
  still needs the old value (same element excepted); any other update is computed into the arena first and copied in the
  commit stage. So a call that fails leaves every variable as it was, and all updates read the old state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from staticgraph.tensor import Tensor
from staticgraph.types import Shape, Size, product

from .groups import REPORTING, FusionResult, Group, is_leaf_buffer
from .views import contiguous_strides, view_of


@dataclass
class BufferInfo:
    """A buffer before it has an address; see `program.Buffer`."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    place: str
    index: int = 0

    @property
    def nbytes(self) -> Size:
        return product(self.shape) * self.dtype.itemsize


@dataclass(eq=False)
class CopyWork:
    """Copy buffer `source`, contiguous and shaped like `like`, to buffer `target`."""

    source: int
    target: int
    like: Tensor


@dataclass(eq=False)
class PlannedStep:
    """One kernel call to be. `work` is a Group, a node with a kernel of its own, or a CopyWork; `stored` are the
    members of a group that reach memory."""

    work: Group | Tensor | CopyWork
    stage: str = "compute"
    stored: list[Tensor] = field(default_factory=list)


@dataclass(eq=False)
class Schedule:
    """`replaced` are products that lie where a later value overwrites them; `why_late` are codes of `reasons` for new
    values of variables that are made first and copied in the commit stage."""

    fused: FusionResult
    steps: list[PlannedStep]
    buffers: list[BufferInfo]
    buffer_of: dict[Tensor, int]
    outputs: list[int]
    constants: list[np.ndarray[Any, Any]]
    replaced: frozenset[Tensor] = frozenset()
    why_late: Mapping[Tensor, str] = field(default_factory=dict)


class Scheduler:
    """Builds the schedule; see the module docstring."""

    def __init__(self, fused: FusionResult, inputs: Sequence[Tensor], variables: Sequence[Tensor],
                 outputs: Sequence[Tensor], updates: Mapping[Tensor, Tensor], in_place: bool = False) -> None:
        self.fused = fused
        self.inputs = inputs
        self.variables = variables
        self.outputs = outputs
        self.updates = updates
        self.in_place = in_place
        self.written_as = {view: node for node, view in fused.placed.items()}
        self.replaced: set[Tensor] = set()
        self.why_late: dict[Tensor, str] = {}
        self.buffers: list[BufferInfo] = []
        self.buffer_of: dict[Tensor, int] = {}
        self.wanted = frozenset(outputs)
        self.constants: list[np.ndarray[Any, Any]] = []
        self.steps: list[PlannedStep] = []

    def run(self) -> Schedule:
        self._leaf_buffers()
        order = self._ordered_groups()
        commits = self._commit_groups(order)
        output_buffers = self._output_buffers()
        if self.in_place:
            self._place_products(order)
        late: list[PlannedStep] = []
        for item in order:
            step = self._step(item, commits)
            (late if step.stage == "commit" else self.steps).append(step)
        self._copies_to_outputs(output_buffers)
        late += self._copies_to_variables(commits)
        self.steps += late
        return Schedule(self.fused, self.steps, self.buffers, self.buffer_of, output_buffers, self.constants,
                        frozenset(self.replaced), self.why_late)

    # Buffers.

    def add_buffer(self, name: str, dtype: np.dtype[Any], shape: Shape, place: str, index: int = 0) -> int:
        self.buffers.append(BufferInfo(name, dtype, shape, place, index))
        return len(self.buffers) - 1

    def _leaf_buffers(self) -> None:
        for number, node in enumerate(self.inputs):
            self.buffer_of[node] = self.add_buffer(f"input{number}", node.dtype, node.shape, "input", number)
        for number, node in enumerate(self.variables):
            self.buffer_of[node] = self.add_buffer(f"variable{number}", node.dtype, node.shape, "variable", number)

    def buffer(self, node: Tensor) -> int:
        """The buffer of a node that owns memory; constants and temporaries get theirs on first use."""
        if node not in self.buffer_of:
            if node.op.name == "constant":
                self.constants.append(node.attrs["value"])
                number = self.add_buffer(f"constant{len(self.constants) - 1}", node.dtype, node.shape, "constant",
                                         len(self.constants) - 1)
            else:
                number = self.add_buffer(node.op.name, node.dtype, node.shape, "arena")
            self.buffer_of[node] = number
        return self.buffer_of[node]

    # Order.

    def _ordered_groups(self) -> list[Any]:
        """Groups and single nodes so that everything comes after what it needs; ties in order of the graph."""
        items: list[Any] = []
        seen: set[Any] = set()
        for node in self.fused.order:
            item = self._item(node)
            if item is None or item in seen:
                continue
            stack = [item]
            while stack:
                current = stack[-1]
                waiting = [] if current in seen else [each for each in self._needs(current) if each not in seen]
                if waiting:
                    stack.extend(reversed(waiting))
                else:
                    stack.pop()
                    if current not in seen:
                        seen.add(current)
                        items.append(current)
        return items

    def _item(self, node: Tensor) -> Any:
        node = self.written_as.get(node, node)
        group = self.fused.group_of.get(node)
        if group is not None and group.at:
            return group
        if node in self.fused.inlined or (node.op.kind in ("view", "leaf") and node not in self.fused.copied):
            return None
        return node

    def _needs(self, item: Any) -> list[Any]:
        members = self.fused.members(item) if isinstance(item, Group) else [item]
        found: dict[Any, None] = {}
        for member in members:
            for base in self._bases(member):
                other = self._item(base)
                if other is not None and other is not item:
                    found[other] = None
        return list(found)

    def _bases(self, node: Tensor) -> list[Tensor]:
        return bases(self.fused, node)

    # Steps.

    def _stored(self, group: Group) -> list[Tensor]:
        """Members that are needed outside of the group."""
        return [node for node in self.fused.members(group)
                if node in self.fused.roots or any(user not in group.at for user in self.fused.users.get(node, ()))]

    def _group_reads(self, group: Group) -> list[Tensor]:
        found: dict[Tensor, None] = {}
        for member in self.fused.members(group):
            for base in self._bases(member):
                if base not in group.at and (is_leaf_buffer(base) or self._item(base) is not None):
                    found[base] = None
        return list(found)

    def _step(self, item: Any, commits: dict[Group, dict[Tensor, Tensor]]) -> PlannedStep:
        if isinstance(item, Group):
            stored = self._stored(item)
            for node in stored:
                self.buffer(node)
            return PlannedStep(item, "commit" if item in commits else "compute", stored)
        if item in self.fused.placed:
            self.buffer_of[item] = self.buffer(self.fused.placed[item])
        self.buffer(item)
        return PlannedStep(item)

    # Products.

    def _place_products(self, order: Sequence[Any]) -> None:
        """Let products lie in the place of what is made of them."""
        for group in order:
            if not isinstance(group, Group) or group.fenced or group.reduced:
                continue
            homes = self._stored(group)
            for read in self._group_reads(group):
                home = next((node for node in homes if self._overwrites(group, node, read)), None)
                if home is not None:
                    homes = [each for each in homes if each is not home]
                    self.buffer_of[read] = self.buffer(home)
                    self.replaced.add(read)

    def _overwrites(self, group: Group, result: Tensor, read: Tensor) -> bool:
        """May a member's result be stored where the product that it is made of lies? Nothing else may read that, and
        the group only the element that it writes."""
        if read.op.kind != "contraction" or read in self.buffer_of:
            return False
        if read in self.fused.roots or read in self.fused.placed:
            return False
        if result.dtype != read.dtype or any(user not in group.at for user in self.fused.users[read]):
            return False
        return self._in_place(group, result, read)

    # Outputs and updates.

    def _output_buffers(self) -> list[int]:
        """A buffer for each output; the first output of a computed value is computed straight into it."""
        numbers = []
        for position, node in enumerate(self.outputs):
            number = self.add_buffer(f"output{position}", node.dtype, node.shape, "output", position)
            numbers.append(number)
            if node not in self.buffer_of and self._item(node) is not None:
                self.buffer_of[node] = number
        return numbers

    def _copies_to_outputs(self, numbers: Sequence[int]) -> None:
        for node, number in zip(self.outputs, numbers, strict=True):
            if self.buffer_of.get(node) != number:
                self.steps.append(PlannedStep(CopyWork(self.buffer(node), number, node)))

    def _commit_groups(self, order: Sequence[Any]) -> dict[Group, dict[Tensor, Tensor]]:
        """Fenced groups whose results all go into variables in place: {group: {result: variable}}."""
        targets: dict[Tensor, list[Tensor]] = {}
        for variable, value in self.updates.items():
            targets.setdefault(value, []).append(variable)
        commits: dict[Group, dict[Tensor, Tensor]] = {}
        for item in order:
            if not isinstance(item, Group) or not item.fenced or item.reduced:
                continue
            stored = self._stored(item)
            single = all(len(targets.get(node, ())) == 1 and node not in self.wanted for node in stored)
            inside = all(user in item.at for node in stored for user in self.fused.users.get(node, ()))
            checked = any(member.op.name in REPORTING for member in item.at)
            if single and inside and not checked:
                commits[item] = {node: targets[node][0] for node in stored}
            else:
                self.why_late.update(dict.fromkeys(stored, "may fail" if single and inside else "wanted too"))
        self._demote(commits)
        for results in commits.values():
            for node, variable in results.items():
                self.buffer_of[node] = self.buffer_of[variable]
        return commits

    def _demote(self, commits: dict[Group, dict[Tensor, Tensor]]) -> None:
        """Take back groups that would overwrite a value which the commit stage still reads."""
        reads = {group: self._group_reads(group) for group in commits}
        readers: dict[Tensor, set[Group]] = {}
        for group, bases in reads.items():
            for base in bases:
                readers.setdefault(base, set()).add(group)
        for group, results in list(commits.items()):
            read_by_others = any(readers.get(variable, set()) - {group} for variable in results.values())
            if read_by_others or any(not self._in_place(group, node, variable) for node, variable in results.items()):
                del commits[group]
                self.why_late.update(dict.fromkeys(results, "old value"))
                for base in reads[group]:  # it runs before the commit stage now
                    readers[base].discard(group)

    def _in_place(self, group: Group, result: Tensor, variable: Tensor) -> bool:
        """True when the group reads the variable, or other value, only at the element that it writes."""
        home = dict(zip(group.at[result], contiguous_strides(result.shape), strict=True))
        for member in group.at:
            if member.op.kind == "gather" and variable in self._bases(member):
                return False
            for operand, base in zip(member.inputs, self._bases(member), strict=True):
                if base is not variable:
                    continue
                view = view_of(operand, self.fused.is_buffer)
                assert view is not None
                here = dict(zip(group.at[member], view.strides, strict=True))
                if view.offset != 0 or any(here.get(axis, 0) != stride for axis, stride in home.items()
                                           if axis is not None):
                    return False
                if any(axis not in home for axis in range(len(group.extents))):
                    return False
        return True

    def _copies_to_variables(self, commits: dict[Group, dict[Tensor, Tensor]]) -> list[PlannedStep]:
        """Commit steps for updates that are not written in place."""
        done = {variable for results in commits.values() for variable in results.values()}
        copies = []
        for variable, value in self.updates.items():
            if variable in done:
                continue
            source = self.buffer(value)
            if value.op.name == "variable":
                # Another variable's old value: saved before any variable is written.
                saved = self.add_buffer("saved", value.dtype, value.shape, "arena")
                self.steps.append(PlannedStep(CopyWork(source, saved, value)))
                self.why_late[value] = "saved"
                source = saved
            self.why_late.setdefault(value, "wanted too" if value in self.wanted else "not alone")
            copies.append(PlannedStep(CopyWork(source, self.buffer_of[variable], value), "commit"))
        return copies


def bases(fused: FusionResult, node: Tensor) -> list[Tensor]:
    """For each operand of a node the node below the views that it reads."""
    found = []
    for operand in node.inputs:
        while operand.op.kind == "view" and operand not in fused.copied:
            operand = operand.inputs[0]
        found.append(operand)
    return found
