"""The reverse pass: cotangents of some tensors, given cotangents of what was computed from them.

Tensor graph in, tensor graph out; linear in the number of nodes, and a loop, never a recursion over the graph. What
holds of every node that is built here: it carries the lines of the primal node that it belongs to, and a cotangent has
the dtype and shape of its primal. A composite op without a rule of its own is differentiated through its expansion.

Masks move outwards. The cotangent that `where(c, x, y)` hands to x is ``where(c, ct, 0)``; a rule that multiplies it by
an infinite derivative would make nan of a zero that means "not selected". So the rule of an elementwise op sees the
bare ``ct`` and the mask is put around its result: the branch that was not taken contributes exactly zero. The same
holds through views of elementwise results, as far as the condition can be seen from the other side: so a norm n of zero
does no harm in ``where(n > 0, x / n, 0)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import location
from .errors import GradientError, message
from .op import as_tensor, broadcast, registry
from .tensor import Tensor, build, operand_row, toposort
from .types import provably_different


def pull_back(outputs: Sequence[Tensor], cotangents: Sequence[Tensor], wrt: Sequence[Tensor],
              boundary: bool = False) -> list[Tensor | None]:
    """The cotangent of each tensor in `wrt`, None where no output depends on it in a differentiable way.

    With `boundary`, nothing flows through a tensor of `wrt` to what it was made from.
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
        with location.using(node.locations):
            total = accumulate(contributions)
            if id(node) in targets:
                found[id(node)] = total
                if boundary:
                    continue
            if not any(id(each) in active for each in node.inputs):
                continue
            for each, contribution in zip(node.inputs, input_cotangents(node, total), strict=True):
                if contribution is not None and id(each) in active:
                    pending.setdefault(id(each), []).append(contribution)
    return [found.get(id(tensor)) for tensor in wrt]


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
    mask, bare = split_mask(cotangent)
    mask = mask and mask_of_operand(node, mask)
    results = apply_rule(node, cotangent if mask is None else bare)
    checked: list[Tensor | None] = []
    for primal, result in zip(node.inputs, results, strict=True):
        if result is None or primal.dtype.kind != "f":
            checked.append(None)
            continue
        result = conform(node, primal, as_tensor(result))
        checked.append(result if mask is None else masked(mask, result))
    return checked


def apply_rule(node: Tensor, cotangent: Tensor) -> Sequence[Tensor | None]:
    """The op's own rule, or that of its expansion."""
    op = node.op
    if op.vjp is not None:
        results = op.vjp(cotangent, node, *node.inputs, **node.attrs)
        if len(results) != len(node.inputs):
            raise GradientError(f"the gradient rule of '{op.name}' gave {len(results)} cotangents for "
                                f"{len(node.inputs)} operands")
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
    """Their sum, first to last; contributions under one mask stay under it."""
    total = contributions[0]
    for other in contributions[1:]:
        mask, bare = split_mask(total)
        other_mask, other_bare = split_mask(other)
        if mask is not None and other_mask is not None and mask[0] is other_mask[0] and mask[1] is other_mask[1]:
            total = masked(mask, registry["add"](bare, other_bare))
        else:
            total = registry["add"](total, other)
    return total


Mask = tuple[Tensor, bool]
"""A condition, and the truth value for which a cotangent counts."""


def split_mask(cotangent: Tensor) -> tuple[Mask | None, Tensor]:
    """(mask, bare) of ``where(condition, bare, 0)`` and of its mirror; (None, the cotangent itself) of all else."""
    if cotangent.op.name == "where":
        condition, chosen, other = cotangent.inputs
        if is_zero(other):
            return (condition, True), chosen
        if is_zero(chosen):
            return (condition, False), other
    return None, cotangent


def mask_of_operand(node: Tensor, mask: Mask) -> Mask | None:
    """The mask of a node's cotangent as one of its operands' cotangents; None where it has no such form."""
    condition, counts = mask
    if node.op.kind == "elementwise":
        return mask
    if node.op.kind != "view" or not views_elementwise(node):
        return None  # nothing infinite can come of it, and one masked cotangent can serve all
    shape = node.inputs[0].shape
    if node.op.name == "reshape":
        return build(registry["reshape"], (condition,), {"shape": shape}), counts
    if node.op.name == "permute_dims":
        axes = node.attrs["axes"]
        return registry["permute_dims"](condition, axes=tuple(axes.index(each) for each in range(len(axes)))), counts
    if node.op.name == "broadcast_to" and condition.op.name == "broadcast_to" and condition.inputs[0].shape == shape:
        return condition.inputs[0], counts  # all copies share one condition
    return None


def views_elementwise(node: Tensor) -> bool:
    while node.op.kind == "view":
        node = node.inputs[0]
    return node.op.kind == "elementwise"


def masked(mask: Mask, value: Tensor) -> Tensor:
    condition, counts = mask
    zero = broadcast(as_tensor(0, value.dtype), value.shape)
    return registry["where"](condition, *((value, zero) if counts else (zero, value)))


def is_zero(node: Tensor) -> bool:
    """True of a constant zero, also when stretched."""
    while node.op.name == "broadcast_to":
        node = node.inputs[0]
    return node.op.name == "constant" and bool(np.all(node.attrs["value"] == 0))
