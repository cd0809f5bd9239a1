"""Fusion: the primitive graph in, groups of nodes out; each group becomes one kernel.

A group is a row program in the making: an iteration space (a list of axes), for every member the axes it runs along,
and the set of axes that its reductions reduce. A member is *element-level* when it runs along all axes, *row-level*
when it runs along all but the reduced ones; anything smaller is recomputed where it is needed and therefore must be
cheap, or a scalar, or free of the innermost axis (then it is made once a row), and must not be wanted outside.

Nodes are taken in topological order and merged into the group of each producer, as long as
* the iteration spaces unify axis by axis (through permutes, broadcasts and unit axes, see `views.trace`), at most one
  set of axes being reduced: so softmax, which reads its row three times, is one group, however it was written;
* no path leads from one group to the other through a third (the groups stay convex, so an order of kernels exists);
* the group stays below `MAX_MEMBERS`, which bounds compile time.

Afterwards groups that read the same array in the same way are merged too (two sums over one operand). The nodes that
only serve a parameter update are kept apart (`fence`), so that all updates of a step end up in one commit kernel.

Recognition is by structure only: nothing here knows the name "softmax".
"""

from __future__ import annotations

from collections.abc import Sequence

from staticgraph.rewrite.journal import Fired, Journal
from staticgraph.tensor import Tensor
from staticgraph.types import Size, product

from .groups import FUSED, FusionResult, Group, gather_index_axes, is_inline, is_leaf_buffer, iteration_space
from .products import MOST_BATCH_AXES, batch_axes, written_as
from .reasons import Refusal
from .views import AxisMap, collapse, contiguous_strides, is_one, needs_copy, reshape_strides, trace, view_of

MAX_MEMBERS = 64

CHEAP = frozenset("""
    add subtract multiply negative abs square maximum minimum where astype equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_invert
    relu stop_gradient sign isnan isinf isfinite iota
""".split())
"""Ops worth computing again in an inner loop rather than storing."""


def fuse(order: Sequence[Tensor], roots: Sequence[Tensor], fence: frozenset[Tensor],
         by_rows: bool = False, journal: Journal | None = None) -> FusionResult:
    """Group the nodes of a primitive graph, given in topological order. `by_rows`: what is made of a product goes along
    its rows (see `chains`). What is put together goes into the journal, the user and the value that it is made of."""
    return _Fuser(order, roots, fence, by_rows, journal).run()


class _Fuser:
    def __init__(self, order: Sequence[Tensor], roots: Sequence[Tensor], fence: frozenset[Tensor],
                 by_rows: bool, journal: Journal | None) -> None:
        self.order = order
        self.journal = journal
        self.apart: dict[tuple[Tensor, Tensor], Refusal] = {}
        self.by_rows = by_rows
        self.fence = fence
        self.roots = frozenset(roots)
        self.copied = {root for root in roots if root.op.kind == "view"}
        self.why_copied = dict.fromkeys(self.copied, Refusal("caller's view"))
        self._copy_views()
        self.group_of: dict[Tensor, Group] = {}
        self.groups: dict[Group, None] = {}
        self.preds: dict[Tensor, list[tuple[Tensor, AxisMap | None]]] = {}
        self.users: dict[Tensor, list[Tensor]] = {}
        self.number = 0
        self._collect_users()

    def stop(self, node: Tensor) -> bool:
        return node in self.copied

    def owns(self, node: Tensor) -> bool:
        return node.op.kind != "view" or node in self.copied

    def _copy_views(self) -> None:
        """Find the views that have to be written out; one that is may make others necessary."""
        known = -1
        while known != len(self.copied):
            known = len(self.copied)
            for view in needs_copy(self.order, self.owns):
                self._copy(view, Refusal("reshape"))
            self._copy_for_specials()

    def _copy(self, view: Tensor, why: Refusal) -> None:
        self.copied.add(view)
        self.why_copied.setdefault(view, why)

    def _copy_for_specials(self) -> None:
        """Sorts and scatters read contiguous operands, and so does a matrix product its bias; of its matrices it wants
        the batch axes to be one stride."""
        for node in self.order:
            if node.op.kind not in ("sort", "scatter", "contraction", "windowed"):
                continue
            for operand in node.inputs:
                view = None if self.owns(operand) else view_of(operand, self.owns)
                if view is None:
                    continue
                if node.op.kind == "contraction" and operand.ndim == 1:
                    if view.strides != (1,):
                        self._copy(operand, Refusal("contiguous", node))
                elif node.op.kind == "contraction" and self.by_rows:
                    if len(self._batch_axes(node)) > MOST_BATCH_AXES and len(collapse(
                            operand.shape[:-2], view.strides[:-2])[0]) > 1:
                        self._copy(operand, Refusal("contiguous", node))
                elif node.op.kind == "contraction":
                    batch = reshape_strides(operand.shape[:-2], view.strides[:-2], (product(operand.shape[:-2]),))
                    if batch is None and any(not is_one(size) for size in operand.shape[:-2]):
                        self._copy(operand, Refusal("contiguous", node))
                elif view.offset != 0 or view.strides != contiguous_strides(operand.shape):
                    self._copy(operand, Refusal("contiguous", node))

    def _batch_axes(self, node: Tensor, result: Sequence[Size] | None = None) -> list[Size]:
        """The batch axes of a product that its kernel goes through."""
        views = [view_of(operand, self.owns) for operand in node.inputs]
        strides = [view.strides for view in views if view is not None]
        return batch_axes(node.shape, *strides, result or contiguous_strides(node.shape))[0]

    def _placed(self) -> dict[Tensor, Tensor]:
        """Products that are written in the order of a permutation of them, which nobody needs to copy then."""
        placed: dict[Tensor, Tensor] = {}
        for view in self.order:
            node = view.inputs[0] if view.inputs else view
            if not self.by_rows or view not in self.copied or node in self.roots or node in self.copied:
                continue
            strides = written_as(node, view)
            if strides is not None and len(self.users[node]) == 1 and len(
                    self._batch_axes(node, strides)) <= MOST_BATCH_AXES:
                placed[node] = view
        return placed

    def _collect_users(self) -> None:
        for node in self.order:
            if not self.owns(node):
                continue
            below = []
            for operand in node.inputs:
                base, axes = trace(operand, self.stop)
                if node.op.kind == "gather":
                    axes = None if operand is node.inputs[0] else gather_index_axes(node, axes)
                below.append((base, axes))
                self.users.setdefault(base, []).append(node)
            self.preds[node] = below
        self.inlined = self._inlined()

    def _inlined(self) -> frozenset[Tensor]:
        """Values that each kernel makes for itself: iotas that every user can compute from its own loop index, and
        scalars made of sizes and constants only (1 / batch)."""
        plain: set[Tensor] = set()
        for node in self.order:
            free = node.op.kind == "elementwise" and node.op.scalar is not None and node.ndim == 0 and all(
                is_inline(operand) or operand in plain for operand in node.inputs)
            if (free or node.op.name == "iota") and node not in self.roots:
                plain.add(node)
        for node, below in self.preds.items():
            for base, axes in below:
                if axes is None or node.op.kind not in FUSED:
                    plain.discard(base)
        # A free scalar whose operand turned out to need memory is computed with it.
        for node in self.order:
            if node in plain and any(not is_inline(operand) and operand not in plain for operand in node.inputs):
                plain.discard(node)
        return frozenset(plain)

    def run(self) -> FusionResult:
        for node in self.order:
            if node in self.inlined:
                continue
            if node.op.kind in FUSED or node.op.name == "iota":
                self._place(node)
            elif self.owns(node):
                self._place_alone(node)
        while self._merge_again():
            pass
        self._merge_siblings()
        groups = tuple(group for group in self.groups if group.at)
        members = {node: group for node, group in self.group_of.items() if node in group.at}
        return FusionResult(groups, members, frozenset(self.copied), self.users, self.roots, tuple(self.order),
                            self.inlined, self._placed(), self.apart, self.why_copied)

    def _new_group(self, node: Tensor) -> Group:
        group = Group(self.number, [], {}, fenced=node in self.fence, first=node)
        self.number += 1
        group.predecessors = {self.group_of[base] for base, _ in self.preds[node] if base in self.group_of}
        for before in group.predecessors:
            group.ancestors |= before.ancestors | 1 << before.number
        return group

    def _place_alone(self, node: Tensor) -> None:
        """Leaves need no kernel; every other op is a kernel of its own, which orders the groups around it."""
        if is_leaf_buffer(node) or is_inline(node):
            return
        group = self._new_group(node)
        self.group_of[node] = group
        self.groups[group] = None

    def _place(self, node: Tensor) -> None:
        group = self._new_group(node)
        group.extents, group.at[node], group.reduced = iteration_space(node)
        self.group_of[node] = group
        self.groups[group] = None
        for base, _ in self.preds[node]:
            self._offer(base, node)

    def _merge_again(self) -> bool:
        """Offer each group its producers once more: what was no row value when it was placed may be one by now."""
        changed = False
        for group in list(self.groups):
            for member in list(group.at):
                for base, _ in self.preds[member]:
                    changed = (bool(group.at) and self._offer(base, member)) or changed
        return changed

    def _offer(self, base: Tensor, member: Tensor) -> bool:
        """Join the groups of a value and of a node that uses it, or keep why that cannot be."""
        producer, user = self.group_of.get(base), self.group_of[member]
        if producer is None or producer is user or not producer.at:
            return False
        made = self._joined(producer, user)
        if isinstance(made, Refusal):
            self.apart[base, member] = made
            return False
        self._commit_merge(producer, user, made)
        if self.journal is not None:
            self.journal.append(Fired("fuse", "they go through the same elements", member, member, (member, base)))
        return True

    def _joined(self, a: Group, b: Group) -> Group | Refusal:
        """The group of both, where b uses values of a; or why there can be none."""
        if a.fenced != b.fenced:
            return Refusal("update")
        if len(a.at) + len(b.at) > MAX_MEMBERS:
            return Refusal("size")
        between = self._between(a, b)
        if between is not None:
            return Refusal("cycle", between)
        mapping = self._unify(a, b)
        if isinstance(mapping, Refusal):
            return mapping
        extents = list(a.extents)
        for axis, size in enumerate(b.extents):
            if mapping[axis] == len(extents):
                extents.append(size)
            elif isinstance(size, int):
                extents[mapping[axis]] = size
        at = dict(a.at)
        for member, axes in b.at.items():
            at[member] = tuple(None if axis is None else mapping[axis] for axis in axes)
        reduced = a.reduced | {mapping[axis] for axis in b.reduced}
        merged = Group(a.number, extents, at, reduced)
        return self._flaw(merged) or merged

    def _commit_merge(self, a: Group, b: Group, merged: Group) -> None:
        a.extents, a.at, a.reduced = merged.extents, merged.at, merged.reduced
        for member in b.at:
            self.group_of[member] = a
        b.at = {}
        del self.groups[b]
        gained = (b.ancestors | a.ancestors) & ~(1 << a.number | 1 << b.number)
        a.predecessors = (a.predecessors | b.predecessors) - {a, b}
        unused = b.number == self.number - 1  # just made, so nothing comes after it yet
        if unused and gained == a.ancestors:
            return
        a.ancestors = gained
        bits = 1 << a.number | 1 << b.number
        for group in self.groups:
            if group.ancestors & bits:
                group.ancestors |= gained | bits
            if b in group.predecessors:
                group.predecessors.remove(b)
                group.predecessors.add(a)

    def _between(self, a: Group, b: Group) -> Tensor | None:
        """A node of a third group that lies on a path between the two."""
        third = next((group for group in b.predecessors if group is not a and group.ancestors >> a.number & 1), None)
        if third is None:
            third = next((each for each in a.predecessors if each is not b and each.ancestors >> b.number & 1), None)
        return None if third is None else third.first

    def _edges(self, a: Group, b: Group) -> list[tuple[Tensor, AxisMap, Tensor, AxisMap | None]]:
        """For every use of a's values in b: the value, its axes in a, the user, and the map between the two."""
        return [(base, a.out_axes(base), user, axes)
                for user in b.at for base, axes in self.preds[user] if base in a.at]

    def _unify(self, a: Group, b: Group) -> dict[int, int] | Refusal:
        """For each axis of b the axis of a that it is; new ones are appended. A refusal when they do not fit."""
        mapping: dict[int, int] = {}
        for base, producer, user, axes in self._edges(a, b):
            if axes is None:
                return self._through(base, user)
            for ours, through in zip(producer, axes, strict=True):
                theirs = None if through is None else b.at[user][through]
                if (ours is None) != (theirs is None):
                    return Refusal("single", value=base)
                if ours is not None and theirs is not None and mapping.setdefault(theirs, ours) != ours:
                    return Refusal("two ways", value=base)
        if len(set(mapping.values())) != len(mapping):
            return Refusal("two ways")
        return self._unify_rest(a, b, mapping)

    def _through(self, base: Tensor, user: Tensor) -> Refusal:
        """Why no axis of a value is one of its user: what lies between the two."""
        for operand in user.inputs:
            view: Tensor | None = None
            while operand is not base and operand.op.kind == "view" and not self.stop(operand):
                if view is None or view.op.name in ("permute_dims", "broadcast_to"):
                    view = operand
                operand = operand.inputs[0]
            if operand is base and view is not None and user.op.kind != "gather":
                return Refusal("view", view, base)
        return Refusal("table", value=base)

    def _unify_rest(self, a: Group, b: Group, mapping: dict[int, int]) -> dict[int, int] | Refusal:
        missing = [axis for axis in range(len(b.extents)) if axis not in mapping]
        rest = [axis for axis in range(len(a.extents)) if axis not in mapping.values()]
        if missing and rest:
            # A row value spread over its row again: the new axes are the reduced ones.
            same = [b.extents[axis] for axis in missing] == [a.extents[axis] for axis in rest]
            if frozenset(rest) != a.reduced or not same:
                return Refusal("spread")
            mapping.update(zip(missing, rest, strict=True))
        elif missing:
            if a.reduced:
                return Refusal("spread")
            mapping.update({axis: len(a.extents) + number for number, axis in enumerate(missing)})
        elif rest and (frozenset(rest) != a.reduced or b.reduced):
            return Refusal("complete")
        theirs = {mapping[axis] for axis in b.reduced}
        return Refusal("axes") if a.reduced and theirs and a.reduced != theirs else mapping

    def _flaw(self, group: Group) -> Refusal | None:
        """A member that is neither element-level, nor row-level, nor cheap to compute again and wanted nowhere else."""
        every = frozenset(range(len(group.extents)))
        rows = every - group.reduced
        innermost = self._innermost(group, every)
        for member in group.at:
            axes = group.axes_of(member)
            if axes == every or (axes == rows and member.op.kind != "reduction"):
                continue
            if member.op.kind == "reduction":
                return Refusal("reduced again", member)
            if member in self.roots:
                return Refusal("wanted", member)
            if any(user not in group.at for user in self.users.get(member, ())):
                return Refusal("shared", member)
            if axes and member.op.name not in CHEAP and (group.reduced or axes & innermost):
                return Refusal("dear", member)
        keeps = not self.by_rows or not group.reduced or self._keeps_rows(group, every)
        return None if keeps else Refusal("rows")

    def _keeps_rows(self, group: Group, every: frozenset[int]) -> bool:
        """False where a product is turned into something that others need, and that is summed over the rows besides (a
        gradient and that of the bias): in one kernel it would go down the columns, far from the product's rows."""
        for member in group.at:
            for base, axes in self.preds[member]:
                if base.op.kind != "contraction" or axes is None or group.axes_of(member) != every:
                    continue
                *rows, column = (None if axis is None else group.at[member][axis] for axis in axes)
                if column not in group.reduced and group.reduced == frozenset(rows) - {None}:
                    return all(group.axes_of(each) != every or each.op.kind == "reduction" or
                               not self._wanted_outside(each, group) for each in group.at)
        return True

    def _wanted_outside(self, member: Tensor, group: Group) -> bool:
        return member in self.roots or any(user not in group.at for user in self.users.get(member, ()))

    def _innermost(self, group: Group, every: frozenset[int]) -> frozenset[int]:
        """The axis that the inner loop of an elementwise group will run along: the last of its results' axes. What
        does not change along it is computed once a row."""
        for member in reversed(group.at):
            if group.axes_of(member) == every:
                axes = [axis for axis in group.out_axes(member) if axis is not None]
                return frozenset(axes[-1:])
        return every

    def _merge_siblings(self) -> None:
        """Merge groups that read one array along the same axes: the array is loaded once."""
        readers: dict[Tensor, list[tuple[Group, AxisMap]]] = {}
        for node in self.order:
            group = self.group_of.get(node)
            if group is None or node not in group.at:
                continue
            for base, axes in self.preds[node]:
                if axes is not None and not is_inline(base) and base not in self.inlined:
                    readers.setdefault(base, []).append((group, tuple(
                        None if axis is None else group.at[node][axis] for axis in axes)))
        for every in readers.values():
            uses = list(dict.fromkeys(every))
            for number, (first, first_axes) in enumerate(uses):
                for second, second_axes in uses[number + 1:]:
                    self._merge_pair(first, first_axes, second, second_axes)

    def _merge_pair(self, a: Group, a_axes: AxisMap, b: Group, b_axes: AxisMap) -> None:
        if a is b or not a.at or not b.at or a.fenced != b.fenced or len(a.at) + len(b.at) > MAX_MEMBERS:
            return
        if (a.ancestors >> b.number | b.ancestors >> a.number) & 1 or len(a.extents) != len(b.extents):
            return
        if a.reduced and b.reduced and len(a.reduced) != len(b.reduced):
            return
        mapping = {theirs: ours for ours, theirs in zip(a_axes, b_axes, strict=True)
                   if ours is not None and theirs is not None}
        if len(mapping) != len(b.extents) or len(set(mapping.values())) != len(mapping):
            return
        if a.reduced and b.reduced and a.reduced != {mapping[axis] for axis in b.reduced}:
            return
        at = dict(a.at)
        for member, axes in b.at.items():
            at[member] = tuple(None if axis is None else mapping[axis] for axis in axes)
        merged = Group(a.number, a.extents, at, a.reduced | {mapping[axis] for axis in b.reduced})
        if self._flaw(merged) is None:
            self._commit_merge(a, b, merged)
            if self.journal is not None:
                assert a.first is not None and b.first is not None
                self.journal.append(Fired("fuse", "they read the same array", b.first, b.first, (b.first, a.first)))
