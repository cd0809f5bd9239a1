"""Decomposition: composites out, primitives in.

Composites (softmax, layer_norm, …) have stayed whole until here so that rules could see them. Each is replaced by its
expansion, again and again until only primitives are left; a reduction over axes of one element becomes a reshape, and
one element picked from each row of computed values becomes a masked sum, which fuses with what computes the row.
`settle` comes last of all graph passes: sizes that have to exist in memory, because an op with a kernel of its own
reads them or the caller wants them, are wrapped in a node that has a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from staticgraph.op import as_tensor, broadcast, registry
from staticgraph.ops.leaf import constant_scalar
from staticgraph.rewrite.journal import Fired, Journal, Rebuilt
from staticgraph.tensor import Tensor, build, hand_on, made_of, rebuild, toposort

from .views import is_one


class _Change(NamedTuple):
    """What a sweep does to the nodes that it applies to, and why; {} in the name stands for the node's op."""

    rule: str
    why: str
    applies: Callable[[Tensor], bool]
    make: Callable[[Tensor], Tensor]


def decompose(outputs: Sequence[Tensor], journal: Journal | None = None) -> tuple[list[Tensor], list[Fired]]:
    """The outputs over primitives only, and what was exchanged."""
    sweep = _Sweep(journal)
    current = list(outputs)
    while any(node.op.kind == "composite" for node in toposort(current)):
        current = sweep.run(current, EXPAND)
    return sweep.run(sweep.run(current, PICK), DROP_UNIT), sweep.fired


def settle(outputs: Sequence[Tensor], journal: Journal | None = None) -> tuple[list[Tensor], list[Fired]]:
    """The outputs with every size that has to exist in memory wrapped in a node that has a kernel."""
    sweep = _Sweep(journal)
    current = sweep.run(outputs, STORE_READ)
    stored = {each: sweep.exchange(each, STORE_ROOT, at_roots=True) for each in dict.fromkeys(current)}
    return [stored[each] for each in current], sweep.fired


class _Sweep:
    """Changes all nodes of a graph, inputs first, and keeps what was exchanged."""

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal
        self.fired: list[Fired] = []

    def run(self, outputs: Sequence[Tensor], change: _Change) -> list[Tensor]:
        done: dict[Tensor, Tensor] = {}
        for node in toposort(outputs):
            new = rebuild(node, [done[each] for each in node.inputs])
            if new is not node and self.journal is not None:
                self.journal.append(Rebuilt(node, new))
            done[node] = self.exchange(new, change) if change.applies(new) else new
        return [done[output] for output in outputs]

    def exchange(self, node: Tensor, change: _Change, at_roots: bool = False) -> Tensor:
        with made_of(node):
            result = change.make(node)
        if result is not node:
            hand_on(node, result)
            fired = Fired(change.rule.format(node.op.name), change.why, node, result, (node,), at_roots)
            self.fired.append(fired)
            if self.journal is not None:
                self.journal.append(fired)
        return result


def _expand(node: Tensor) -> Tensor:
    assert node.op.expand is not None
    return node.op.expand(*node.inputs, **node.attrs)


def _pick(node: Tensor) -> Tensor:
    """One element a row taken from, or put into, a row that has no other need to be in memory.

    A gather wants the row written out before, a scatter fills it with zeros first. Compared with positions both fuse:
    a cross entropy written by hand is one kernel, as the library's is.
    """
    row, indices = node.inputs[:2]
    axis = node.attrs["axis"]
    if not is_one(indices.shape[axis]) or (*row.shape[:axis], 1, *row.shape[axis + 1:]) != indices.shape:
        return node
    zero = as_tensor(np.zeros((), row.dtype))
    if node.op.name == "scatter_add_along" and constant_scalar(row) == 0:
        return _where_hit(row, indices, axis, node.inputs[2], zero)
    if node.op.name == "gather_along" and row.dtype.kind == "f" and _is_computed(row):
        masked = _where_hit(row, indices, axis, row, zero)
        picked = build(registry["sum"], (masked,), {"axes": (axis,)})
        return build(registry["reshape"], (picked,), {"shape": node.shape})
    return node


def _where_hit(row: Tensor, indices: Tensor, axis: int, chosen: Tensor, other: Tensor) -> Tensor:
    """`chosen` at the position of each row that the indices say, `other` elsewhere."""
    positions = build(registry["iota"], (), {"shape": row.shape, "axis": axis, "dtype": indices.dtype})
    hit = registry["equal"](positions, broadcast(indices, row.shape))
    return registry["where"](hit, broadcast(chosen, row.shape), other)


def _is_computed(node: Tensor) -> bool:
    while node.op.kind == "view":
        node = node.inputs[0]
    return node.op.kind in ("elementwise", "reduction")


def _drop_unit_reduction(node: Tensor) -> Tensor:
    operand = node.inputs[0]
    axes = node.attrs["axes"]
    units = [axis for axis in axes if is_one(operand.shape[axis])]
    if not units or operand.dtype != node.dtype:
        return node
    shape = tuple(size for axis, size in enumerate(operand.shape) if axis not in units)
    smaller = build(registry["reshape"], (operand,), {"shape": shape})
    kept = tuple(axis - sum(unit < axis for unit in units) for axis in axes if axis not in units)
    return build(node.op, (smaller,), {**node.attrs, "axes": kept}) if kept else smaller


def _store_sizes(node: Tensor) -> Tensor:
    """A size below views under an op that is not fused gets a kernel."""
    inputs = [_stored_size(operand) for operand in node.inputs]
    return rebuild(node, inputs)


def _stored_size(node: Tensor) -> Tensor:
    chain = []
    base = node
    while base.op.kind == "view":
        chain.append(base)
        base = base.inputs[0]
    if base.op.name != "size_of":
        return node
    base = build(registry["stop_gradient"], (base,), {})
    for view in reversed(chain):
        base = rebuild(view, [base])
    return base


EXPAND = _Change("expand-{}", "kernels are made of primitives",
                 lambda node: node.op.kind == "composite", _expand)
PICK = _Change("pick-by-mask", "compared with positions it fuses with what makes the row, which need not be stored",
               lambda node: node.op.name in ("gather_along", "scatter_add_along"), _pick)
DROP_UNIT = _Change("reduce-one-element", "one element is its own sum",
                    lambda node: node.op.kind == "reduction" and node.op.name not in ("argmax", "argmin"),
                    _drop_unit_reduction)
STORE_READ = _Change("store-size", "an op with a kernel of its own reads its operands from memory",
                     lambda node: node.op.kind not in ("elementwise", "reduction", "view"), _store_sizes)
STORE_ROOT = _Change("store-size", "the caller gets its results from memory", lambda node: True, _stored_size)
