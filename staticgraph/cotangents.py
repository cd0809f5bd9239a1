"""The reverse pass: cotangents of some tensors, given cotangents of what was computed from them.

Tensor graph in, tensor graph out; linear in the number of nodes, and a loop, never a recursion over the graph. What
holds of every node that is built here: it carries the lines of the primal node that it belongs to, and a cotangent has
the dtype and shape of its primal. A composite op without a rule of its own is differentiated through its expansion.

Masks move outwards. The cotangent that `where(c, x, y)` hands to x is ``where(c, ct, 0)``; a rule that multiplies it by
an infinite derivative would make nan of a zero that means "not selected". So the rule of an elementwise op sees the
bare ``ct`` and the mask is put around its result: the branch that was not taken contributes exactly zero. The same
holds through views and reductions of elementwise results, as far as the condition can be seen from the other side: so
a norm n of zero does no harm in ``where(n > 0, x / n, 0)``. Masks within masks become one, and a tensor whose uses are
all masked has a cotangent that counts where one of them does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import location
from .errors import GradientError, message
from .kinship import Kinship, join, new_marks
from .op import as_tensor, broadcast, registry
from .tensor import Tensor, build, operand_row, toposort
from .types import provably_different


def pull_back(outputs: Sequence[Tensor], cotangents: Sequence[Tensor], wrt: Sequence[Tensor],
              boundary: bool = False, forward: bool = False) -> list[Tensor | None]:
    """The cotangent of each tensor in `wrt`, None where no output depends on it in a differentiable way.

    With `boundary`, nothing flows through a tensor of `wrt` to what it was made from. With `forward` the outputs are
    themselves cotangents, and what is found are tangents: they belong to the nodes whose cotangents are gone through.
    """
    targets = {id(tensor) for tensor in wrt}
    order = toposort(outputs, stop=(lambda node: id(node) in targets) if boundary else None)
    active = active_nodes(order, targets)
    pending: dict[int, list[Tensor]] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if id(output) in active:
            pending.setdefault(id(output), []).append(cotangent)
    found: dict[int, Tensor] = {}
    for node in reversed(order):
        contributions = pending.pop(id(node), None)
        if contributions is None:
            continue
        marks = marks_of(node, forward)
        with location.using(node.locations, Kinship((), (), marks), node.scope):
            total = accumulate(contributions)
            if id(node) in targets:
                found[id(node)] = total
                if boundary:
                    continue
            if not is_filled(total):
                kin = total._kin
                new = Kinship((), marks)
                total._kin = new if kin is None else kin._replace(cotangent_of=marks) if not any(kin[:2]) else join(
                    (kin, new))
            if not any(id(each) in active for each in node.inputs):
                continue
            for each, contribution in zip(node.inputs, input_cotangents(node, total), strict=True):
                if contribution is not None and id(each) in active:
                    pending.setdefault(id(each), []).append(contribution)
    return [found.get(id(tensor)) for tensor in wrt]


def marks_of(node: Tensor, forward: bool) -> tuple[int, ...]:
    """The marks by which a node's cotangents know it; with `forward` those of the node whose cotangent it is itself."""
    kin = node._kin
    if kin is None:
        kin = node._kin = Kinship(new_marks())
    elif forward and (kin.cotangent_of or kin.made_for):
        return kin.cotangent_of or kin.made_for
    elif not kin.marks:
        kin = node._kin = kin._replace(marks=new_marks())
    return kin.marks


def active_nodes(order: Sequence[Tensor], targets: set[int]) -> set[int]:
    """Ids of the floating-point nodes through which a derivative can reach a target; `order` has inputs first."""
    active: set[int] = set()
    for node in order:
        if node.dtype.kind != "f":
            continue
        if id(node) in targets or (node.op.connected and any(id(each) in active for each in node.inputs)):
            active.add(id(node))
    return active


def input_cotangents(node: Tensor, cotangent: Tensor) -> list[Tensor | None]:
    """What a node hands to each of its inputs, by its op's rule, checked."""
    mask, bare = split_mask(cotangent, through_views=True) if passes_masks(node) else (None, cotangent)
    outer = mask and mask_of_operand(node, mask)
    shown = node.op.name == "debug_print" and node.attrs["grad"]     # as it is, with its zeros
    results = apply_rule(node, cotangent if outer is None or shown else bare)
    if outer is None and mask is not None and node.op.name == "broadcast_to":
        outer = mask_of_copies(node, mask)
    checked: list[Tensor | None] = []
    for primal, result in zip(node.inputs, results, strict=True):
        if result is None or primal.dtype.kind != "f":
            checked.append(None)
            continue
        result = conform(node, primal, as_tensor(result))
        checked.append(result if outer is None else masked(outer, result))
    return checked


def apply_rule(node: Tensor, cotangent: Tensor) -> Sequence[Tensor | None]:
    """The op's own rule, or that of its expansion."""
    op = node.op
    if op.vjp is not None:
        results = op.vjp(cotangent, node, *node.inputs, **node.attrs)
        if not isinstance(results, list | tuple) or len(results) != len(node.inputs):
            gave = f"{len(results)} cotangents" if isinstance(results, list | tuple) else f"a {type(results).__name__}"
            rows = [operand_row("operand", each) for each in node.inputs]
            raise GradientError(message(f"the gradient rule of '{op.name}' gave {gave} for {len(rows)} operands",
                                        [*rows, operand_row("result", node)],
                                        "needed a list or tuple: one cotangent, or None, for each"))
        return results
    if op.expand is None:
        return [None] * len(node.inputs)
    # Inputs are boundaries, each once: an operand given twice gets its whole cotangent in its first place.
    distinct = list({id(each): each for each in node.inputs}.values())
    expansion = op.expand(*node.inputs, **node.attrs)
    by_input = dict(zip(map(id, distinct), pull_back([expansion], [cotangent], distinct, boundary=True), strict=True))
    return [by_input.pop(id(each), None) for each in node.inputs]


def conform(node: Tensor, primal: Tensor, cotangent: Tensor) -> Tensor:
    """The cotangent with exactly its primal's shape; GradientError where a rule gave another dtype or size.

    Sizes that an op may only compare at the call (``batch`` added to ``n``) give cotangents of the other name.
    """
    if cotangent.dtype == primal.dtype and cotangent.shape == primal.shape:
        return cotangent
    if cotangent.dtype != primal.dtype or cotangent.ndim != primal.ndim or any(
        provably_different(a, b) for a, b in zip(cotangent.shape, primal.shape, strict=True)
    ):
        raise GradientError(message(
            f"the gradient rule of '{node.op.name}' gave a cotangent that does not fit its operand",
            [operand_row("operand", primal), operand_row("cotangent", cotangent)], f"needed {primal.type}"))
    return build(registry["broadcast_to"], (cotangent,), {"shape": primal.shape})


def accumulate(contributions: Sequence[Tensor]) -> Tensor:
    """Their sum, first to last; what only counts under masks stays under one."""
    total = contributions[0]
    for other in contributions[1:]:
        (mask, bare), (other_mask, other_bare) = split_mask(total), split_mask(other)
        if mask is None or other_mask is None:
            total = registry["add"](total, other)
        elif mask[0] is not other_mask[0]:
            either = registry["logical_or"](as_condition(mask), as_condition(other_mask))
            total = masked((either, True), registry["add"](total, other))
        elif mask[1] is other_mask[1]:
            total = masked(mask, registry["add"](bare, other_bare))
        else:
            total = registry["where"](mask[0], *((bare, other_bare) if mask[1] else (other_bare, bare)))
    return total


Mask = tuple[Tensor, bool]
"""A condition, and the truth value for which a cotangent counts."""

VIEWS_SEEN_THROUGH = 4
"""Views between a mask and the rule that is to see it; more are rare, and walking down any chain would be quadratic."""


def split_mask(cotangent: Tensor, through_views: bool = False) -> tuple[Mask | None, Tensor]:
    """(mask, bare) of ``where(condition, bare, 0)`` and of its mirror; (None, the cotangent itself) of all else."""
    views: list[Tensor] = []
    node = cotangent
    while through_views and node.op.kind == "view" and len(views) < VIEWS_SEEN_THROUGH:
        views.append(node)
        node = node.inputs[0]
    if node.op.name != "where" or not (is_zero(node.inputs[1]) or is_zero(node.inputs[2])):
        return None, cotangent
    condition, chosen, other = node.inputs
    counts = is_zero(other)
    bare = chosen if counts else other
    for view in reversed(views):
        condition, bare = (build(view.op, (each,), view.attrs) for each in (condition, bare))
    return (condition, counts), bare


def passes_masks(node: Tensor) -> bool:
    """Is it worth to take the mask off a cotangent of this node: can something infinite lie behind it?"""
    if node.op.kind == "reduction":
        return views_elementwise(node.inputs[0])
    return views_elementwise(node)


def mask_of_operand(node: Tensor, mask: Mask) -> Mask | None:
    """The mask of a node's cotangent as one of its operands' cotangents; None where it has no such form."""
    condition, counts = mask
    if is_elementwise(node):
        return mask
    x = node.inputs[0]
    if node.op.kind == "reduction":
        kept = tuple(1 if axis in node.attrs["axes"] else size for axis, size in enumerate(x.shape))
        return broadcast(build(registry["reshape"], (condition,), {"shape": kept}), x.shape), counts
    if node.op.name == "broadcast_to":
        if condition.op.name == "broadcast_to" and condition.inputs[0].shape == x.shape:
            return condition.inputs[0], counts  # all copies share one condition
        return None
    assert node.op.vjp is not None  # of a view it moves elements back, and puts False where none came from
    moved = node.op.vjp(as_condition(mask), node, x, **node.attrs)[0]
    return None if moved is None else (moved, True)


STEEP = frozenset(("sqrt", "log", "log1p", "log2", "log10", "divide", "reciprocal", "pow", "asin", "acos", "acosh",
                   "atanh", "hypot", "atan2"))
"""Ops whose derivatives have poles: worth a reduction to see whether any copy of their result counts."""


def mask_of_copies(node: Tensor, mask: Mask) -> Mask | None:
    """Where any of the copies counts that `broadcast_to` made of an element; None where nothing steep lies behind.

    Unlike any other mask that moves, this one does not replace the one around the copies' cotangents.
    """
    x, condition = node.inputs[0], as_condition(mask)
    if below_views(x).op.name not in STEEP:
        return None
    extra = condition.ndim - x.ndim
    axes = [axis for axis in range(condition.ndim) if axis < extra or x.shape[axis - extra] == 1]
    some = build(registry["any"], (condition,), {"axes": tuple(axes)})
    return build(registry["reshape"], (some,), {"shape": x.shape}), True


def below_views(node: Tensor) -> Tensor:
    while node.op.kind == "view":
        node = node.inputs[0]
    return node


def views_elementwise(node: Tensor) -> bool:
    return is_elementwise(below_views(node))


def is_elementwise(node: Tensor) -> bool:
    """Elementwise ops, and composites of the library that expand to such alone."""
    op = node.op
    if op.kind != "composite" or op.expand is None or registry.get(op.name) is not op:
        return op.kind == "elementwise"
    inputs = {id(each) for each in node.inputs}
    inside = toposort([op.expand(*node.inputs, **node.attrs)], stop=lambda each: id(each) in inputs)
    return all(id(each) in inputs or each.op.kind == "elementwise" or is_filled(each) for each in inside)


def is_filled(node: Tensor) -> bool:
    """A constant number, also when stretched."""
    while node.op.name == "broadcast_to":
        node = node.inputs[0]
    return node.op.name == "constant" and node.ndim == 0


def as_condition(mask: Mask) -> Tensor:
    """The mask as a tensor that is True where the cotangent counts."""
    condition, counts = mask
    return condition if counts else registry["logical_not"](condition)


def masked(mask: Mask, value: Tensor) -> Tensor:
    """The value where the mask counts, else zero; a mask inside of it is merged."""
    inner, bare = split_mask(value)
    if inner is not None and (inner[0] is not mask[0] or inner[1] is not mask[1]):
        mask, value = (registry["logical_and"](as_condition(mask), as_condition(inner)), True), bare
    elif inner is not None:
        return value
    condition, counts = mask
    zero = broadcast(as_tensor(0, value.dtype), value.shape)
    return registry["where"](condition, *((value, zero) if counts else (zero, value)))


def is_zero(node: Tensor) -> bool:
    """True of a constant zero, also when stretched."""
    while node.op.name == "broadcast_to":
        node = node.inputs[0]
    return node.op.name == "constant" and bool(np.all(node.attrs["value"] == 0))
