"""Derivatives: tensor graph in, tensor graph out.

Every function here stabilises the graph that it is given first, with the tensors in `wrt` opaque, so that the gradient
is that of the repaired formula (a rule that only saw the forward pass would come too late), while `grad(log(p), [p])`
still means what it says. Results are ordinary graph: they can be differentiated again.

Forward mode is reverse mode applied twice: a pullback is linear in its cotangent, so pulling the tangents back through
it pushes them forward through the primal; the stand-in for the cotangent is then gone from the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from . import gradient_check, location
from .cotangents import active_nodes, pull_back
from .errors import ArgumentError, DTypeError, GradientError, ShapeError, message
from .interpreter import evaluate
from .op import as_tensor, broadcast, registry
from .rewrite import STABILITY
from .rewrite.rewriter import normalised
from .shapes import shape_text
from .tensor import Tensor, build, operand_row, substitute, toposort
from .types import Dim, Shape

Unconnected = Literal["raise", "zero"]
Outputs = TypeVar("Outputs", Tensor, list[Tensor])


def stabilise(y: Outputs, opaque: Sequence[Tensor] = ()) -> Outputs:
    """The same values by formulas that neither overflow nor cancel, where a rule knows one: ``log(softmax(x))`` is
    log_softmax(x). `y` is a tensor or a list; tensors in `opaque` are neither looked into nor exchanged."""
    if isinstance(y, Tensor):
        return normalised([y], STABILITY, opaque)[0][0]
    if not isinstance(y, list | tuple):
        raise ArgumentError(f"stabilise: y is a tensor or a list of tensors, not {type(y).__name__}")
    for each in y:
        require_tensor("stabilise", "y", each)
    return normalised(y, STABILITY, opaque)[0]


def grad(y: Tensor, wrt: Any, *, cotangent: Any = None, unconnected: Unconnected = "raise") -> Any:
    """The gradient of a scalar `y` with respect to `wrt`: a tensor, or a list, tuple or dict of tensors.

    The result mirrors `wrt`; each gradient has the dtype and shape of its tensor. `wrt` may hold any tensor of the
    graph, results of other ops too. With `cotangent` (broadcast to y, cast within its kind) y need not be a scalar, and
    the result is the gradient of ``sum(cotangent * y)``.

    GradientError when y does not depend on a tensor in a differentiable way; ``unconnected="zero"`` gives zeros there.
    floor, ceil, round, trunc and sign are connected with gradient zero; comparisons, casts to integers and
    stop_gradient disconnect. An integer tensor in `wrt` is a DTypeError unless ``unconnected="zero"``.
    """
    require_tensor("grad", "y", y)
    if cotangent is None and y.shape != ():
        raise GradientError(message("grad: y is not a scalar", [operand_row("y", y)],
                                    f"needed shape (), got {shape_text(y.shape)}: "
                                    "reduce y to a scalar (sg.sum, sg.mean) or pass cotangent="))
    tensors = flatten("grad", wrt)
    cotangents = [as_tensor(1, y.dtype) if cotangent is None else fitting("grad", "cotangent", cotangent, y)]
    return mirror(wrt, gradients("grad", [y], tensors, cotangents, unconnected))


def vjp(outputs: Any, wrt: Any, cotangents: Any, *, unconnected: Unconnected = "raise") -> list[Tensor]:
    """Vector-Jacobian products: for each tensor in `wrt` the gradient of ``sum(sum(ct * y) for ct, y in zip(...))``.

    `outputs` and `wrt` are a tensor or a sequence of them, `cotangents` one value for each output, broadcast to it.
    """
    ys, tensors = flatten("vjp", outputs, "outputs"), flatten("vjp", wrt)
    seeds = matching("vjp", "cotangent", cotangents, outputs, ys)
    return gradients("vjp", ys, tensors, seeds, unconnected)


def jvp(outputs: Any, wrt: Any, tangents: Any, *, unconnected: Unconnected = "raise") -> list[Tensor]:
    """Jacobian-vector products: the change of each output as `wrt` moves along `tangents`.

    `outputs` and `wrt` are a tensor or a sequence of them, `tangents` one value for each of `wrt`, broadcast to it.
    """
    ys, tensors = flatten("jvp", outputs, "outputs"), flatten("jvp", wrt)
    moves = matching("jvp", "tangent", tangents, wrt, tensors)
    dummies = [stand_in(y, f"cotangent of output {number}") for number, y in enumerate(ys)]
    pulled = gradients("jvp", ys, tensors, dummies, unconnected)
    pushed = pull_back(pulled, moves, dummies, forward=True)
    alive = {id(node) for node in toposort([each for each in pushed if each is not None])}
    repaired = stabilise(ys, opaque=tensors)
    connected = active_nodes(toposort(repaired), set(map(id, tensors)))
    results = []
    for y, node, dummy, result in zip(ys, repaired, dummies, pushed, strict=True):
        if result is None:  # a step function is connected, and does not move
            how: Unconnected = "zero" if id(node) in connected else unconnected
            result = zeros_or_raise("jvp", [y], y, how, "this output depends on none of wrt")
        if id(dummy) in alive:
            raise GradientError(message("jvp: a gradient rule is not linear in its cotangent", [operand_row("y", y)]))
        results.append(result)
    return results


def jacobian(y: Tensor, x: Any, *, unconnected: Unconnected = "raise") -> Any:
    """All first derivatives: for each tensor of `x` an array of shape ``y.shape + x.shape``.

    One pullback for each element of y, laid side by side: y needs static sizes, and should be small.
    """
    require_tensor("jacobian", "y", y)
    count = static_count("jacobian", y)
    tensors = flatten("jacobian", x)
    dummy = stand_in(y, "cotangent")
    pulled = gradients("jacobian", [y], tensors, [dummy], unconnected)
    rows: list[list[Tensor]] = []
    for number in range(count):
        one_hot = np.zeros(count, y.dtype)
        one_hot[number] = 1
        rows.append(substitute(pulled, {dummy: as_tensor(one_hot.reshape(static_shape(y)))}))
    return mirror(x, [stack_rows(y, tensor, [row[number] for row in rows]) for number, tensor in enumerate(tensors)])


def hessian(y: Tensor, x: Tensor) -> Tensor:
    """All second derivatives of a scalar `y`: shape ``x.shape + x.shape``; x needs static sizes."""
    require_tensor("hessian", "x", x)
    slope: Tensor = grad(y, x)
    result: Tensor = jacobian(slope, x, unconnected="zero")  # y may be linear in x
    return result


def verify_grad(y: Tensor, wrt: Any, feed: Mapping[Tensor, Any], seed: int = 0) -> None:
    """Compare the gradient of `y` with central differences, in double precision, on a random direction of y.

    `wrt` is a tensor or several, fed or computed; `feed` gives arrays as `evaluate` takes them, best away from kinks.
    GradientError shows the worst entry where the two differ.
    """
    require_tensor("verify_grad", "y", y)
    tensors = flatten("verify_grad", wrt)
    if not isinstance(feed, Mapping):
        raise ArgumentError(f"verify_grad: feed is a mapping of tensors to arrays, not {type(feed).__name__}")
    (lifted, *places), arrays = gradient_check.in_float64([y, *tensors], feed)
    direction = gradient_check.projected(lifted, arrays, seed)
    weights = stand_in(lifted, "direction")
    slopes = gradients("verify_grad", [lifted], places, [weights], "raise")
    found = gradient_check.compare(lifted, places, evaluate(slopes, {**arrays, weights: direction}), arrays, direction,
                                   seed)
    if found is not None and found[1] > 1:
        worst = found[0]
        raise GradientError(message(
            "verify_grad: the gradient is not the slope", [operand_row("wrt", tensors[worst.number])],
            f"worst at index {worst.place}: gradient {worst.gradient:.10g}, central difference "
            f"{worst.difference:.10g}"))


def gradients(what: str, ys: Sequence[Tensor], tensors: Sequence[Tensor], seeds: Sequence[Tensor],
              unconnected: Unconnected) -> list[Tensor]:
    """Cotangents of `tensors` in the stabilised graph, with zeros or an error for what is not connected."""
    if unconnected not in ("raise", "zero"):
        raise ArgumentError(f"{what}: unconnected is 'raise' or 'zero', not {unconnected!r}")
    for tensor in tensors:
        if tensor.dtype.kind != "f" and unconnected == "raise":
            raise DTypeError(message(f"{what}: no derivative with respect to a tensor of {tensor.dtype}",
                                     [operand_row("wrt", tensor)],
                                     'needed a floating-point dtype; pass unconnected="zero" for zeros'))
    found = pull_back(stabilise(list(ys), opaque=tensors), seeds, tensors)
    return [zeros_or_raise(what, ys, tensor, unconnected, "y does not depend on this tensor") if each is None else each
            for tensor, each in zip(tensors, found, strict=True)]


def zeros_or_raise(what: str, ys: Sequence[Tensor], tensor: Tensor, unconnected: Unconnected, why: str) -> Tensor:
    if unconnected == "raise":
        rows = [operand_row("y", y) for y in ys if y is not tensor]
        raise GradientError(message(f"{what}: {why}", [operand_row("wrt" if rows else "y", tensor), *rows],
                                    'pass unconnected="zero" for zeros'))
    with location.using(tensor.locations):
        return filled(0, tensor)


def filled(value: float, like: Tensor) -> Tensor:
    return broadcast(as_tensor(value, like.dtype), like.shape)


def require_tensor(what: str, role: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise ArgumentError(f"{what}: {role} is a tensor, not {type(value).__name__}")


def flatten(what: str, structure: Any, role: str = "wrt") -> list[Tensor]:
    """The tensors of a tensor, list, tuple or dict, in order."""
    if isinstance(structure, Mapping):
        tensors = list(structure.values())
    else:
        tensors = list(structure) if isinstance(structure, list | tuple) else [structure]
    for tensor in tensors:
        require_tensor(what, role, tensor)
    return tensors


def mirror(structure: Any, tensors: list[Tensor]) -> Any:
    """The tensors in the form of `structure`."""
    if isinstance(structure, Mapping):
        return dict(zip(structure, tensors, strict=True))
    if isinstance(structure, tuple):
        return tuple(tensors)
    return tensors if isinstance(structure, list) else tensors[0]


def matching(what: str, role: str, values: Any, structure: Any, targets: Sequence[Tensor]) -> list[Tensor]:
    """One fitting tensor for each target; a bare value where the structure is a bare tensor."""
    if isinstance(structure, Tensor) and not (isinstance(values, list | tuple) and len(values) == 1
                                              and isinstance(values[0], Tensor | np.ndarray)):
        return [fitting(what, role, values, targets[0])]
    if isinstance(structure, Mapping) and isinstance(values, Mapping):
        values = [values[key] for key in structure]
    if not isinstance(values, list | tuple) or len(values) != len(targets):
        got = len(values) if isinstance(values, list | tuple) else f"one {type(values).__name__}"
        raise ArgumentError(f"{what}: needed {len(targets)} {role}s, one for each tensor, got {got}")
    return [fitting(what, role, value, target) for value, target in zip(values, targets, strict=True)]


def fitting(what: str, role: str, value: Any, target: Tensor) -> Tensor:
    """The value as a tensor of the target's dtype and shape: cast within its kind, broadcast."""
    if target.dtype.kind != "f":
        return filled(0, target)  # nothing flows through it
    weak = not isinstance(value, Tensor | Dim | np.ndarray | np.generic)
    tensor = as_tensor(value, target.dtype) if weak else as_tensor(value)
    rows = [operand_row(role, tensor), operand_row("for", target)]
    if not np.can_cast(tensor.dtype, target.dtype, "same_kind"):
        raise DTypeError(message(f"{what}: the {role} cannot be cast to {target.dtype}", rows))
    if tensor.dtype != target.dtype:
        tensor = build(registry["astype"], (tensor,), {"dtype": target.dtype})
    if tensor.shape == target.shape:
        return tensor
    try:
        return build(registry["broadcast_to"], (tensor,), {"shape": target.shape})
    except ShapeError:
        raise ShapeError(message(f"{what}: the {role} does not broadcast to its tensor", rows)) from None


def stand_in(y: Tensor, name: str) -> Tensor:
    """A placeholder for a cotangent of y."""
    node = build(registry["placeholder"], (), {"shape": y.shape, "dtype": y.dtype})
    node._label = name
    return node


def static_shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size for size in tensor.shape if isinstance(size, int))


def static_count(what: str, y: Tensor) -> int:
    if len(static_shape(y)) != y.ndim:
        raise ShapeError(message(f"{what}: the sizes of y must be known when the graph is built",
                                 [operand_row("y", y)]))
    return int(np.prod(static_shape(y), dtype=np.int64))


def stack_rows(y: Tensor, x: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """Gradients of each element of y, as one tensor of shape ``y.shape + x.shape``."""
    shape: Shape = (*y.shape, *x.shape)
    with location.using(y.locations):
        if not rows:
            return broadcast(as_tensor(0, x.dtype), shape)
        parts = [build(registry["reshape"], (row,), {"shape": (1, *x.shape)}) for row in rows]
        joined = parts[0] if len(parts) == 1 else build(registry["concat"], parts, {"axis": 0})
        return build(registry["reshape"], (joined,), {"shape": shape})
