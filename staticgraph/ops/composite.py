"""Composites: named formulas that stay whole until the compiler decomposes them.

Level: tensor graph. Each is given by its expansion into primitives, which is its meaning, and by a gradient in closed
form that is stable where differentiating the expansion would not be and that fuses with it: the row statistics are the
same nodes in both. Rows are shifted by their maximum before any exponential.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..op import Inference, as_tensor, common_dtype, composite, convert_operands, floating, promote_operands
from ..shapes import normalise_axes, normalise_axis
from ..tensor import Tensor
from ..types import TensorType
from .elementwise import (
    add,
    astype,
    check_index,
    erfc,
    exp,
    isfinite,
    isinf,
    log,
    logical_and,
    multiply,
    sigmoid,
    sqrt,
    square,
    where,
)
from .leaf import iota
from .movement import reshape
from .reduction import kept_shape, max, mean, spread, sum

__all__ = ["logsumexp"]

_SAMPLE = np.array([[-1.7, -0.6, 0.3, 2.2], [0.8, 1.4, 2.6, -0.9], [1.1, -2.3, 0.5, 0.7]])
_WEIGHT = np.array([0.5, -1.2, 2.0, 0.7])
_BIAS = np.array([0.1, 0.4, -0.3, 1.0])
_LABELS = np.array([3, 0, -2])
_TARGETS = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.5, 0.5]])
_one_axis: tuple[Any, ...] = (((_SAMPLE,), {"axis": 0}), ((_SAMPLE,), {"axis": 1}))


def _same(context: Inference, x: TensorType, **attrs: Any) -> TensorType:
    return floating(context, x)


def as_floating(x: Any) -> Tensor:
    """The tensor; bools and integers as float64."""
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else astype(x, np.float64)


# Softmax and its kin. A row of -inf alone has no softmax (nan); its logsumexp is -inf.


def _shifted(x: Tensor, axis: int) -> Tensor:
    return x - max(x, axis, keepdims=True)


def _softmax(x: Tensor, axis: int) -> Tensor:
    weights = exp(_shifted(x, axis))
    return weights / sum(weights, axis, keepdims=True)


def _log_softmax(x: Tensor, axis: int) -> Tensor:
    shifted = _shifted(x, axis)
    return shifted - log(sum(exp(shifted), axis, keepdims=True))


def _logsumexp(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    largest = max(x, axes, keepdims=True)
    shift = where(isfinite(largest), largest, 0)  # inf - inf would be nan
    total = log(sum(exp(x - shift), axes, keepdims=True)) + shift
    return reshape(total, [size for axis, size in enumerate(x.shape) if axis not in axes])


def _logsumexp_vjp(ct: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor]:
    total = spread(y, x, axes)
    # Of an infinite total, +inf belongs to the elements that are +inf, and -inf depends on none.
    limit = where(logical_and(x == total, x > 0), as_tensor(0, x.dtype), -math.inf)
    return (spread(ct, x, axes) * exp(where(isinf(total), limit, x - total)),)


def _reduced(context: Inference, x: TensorType, axes: tuple[int, ...]) -> TensorType:
    return TensorType(x.dtype, tuple(size for axis, size in enumerate(x.shape) if axis not in axes))


softmax_op = composite(
    "softmax", doc="exp(x) / sum(exp(x)) along an axis.", infer=_same, expand=_softmax, examples=_one_axis,
    vjp=lambda ct, y, x, axis: (y * (ct - sum(ct * y, axis, keepdims=True)),))
log_softmax_op = composite(
    "log_softmax", doc="log(softmax(x)) along an axis.", infer=_same, expand=_log_softmax, examples=_one_axis,
    vjp=lambda ct, y, x, axis: (ct - exp(y) * sum(ct, axis, keepdims=True),))
logsumexp_op = composite(
    "logsumexp", doc="log(sum(exp(x))) over axes.", infer=_reduced, expand=_logsumexp, vjp=_logsumexp_vjp,
    examples=tuple(((_SAMPLE,), {"axes": axes}) for axes in ((0,), (1,), (0, 1))))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    x = as_floating(x)
    return softmax_op(x, axis=normalise_axis("softmax", x, axis))


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis, without overflow and without log(0)."""
    x = as_floating(x)
    return log_softmax_op(x, axis=normalise_axis("log_softmax", x, axis))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes, without overflow; -inf where every element is."""
    values = as_floating(x)
    axes = tuple(sorted(normalise_axes("logsumexp", values, axis)))
    if not axes:
        return values
    result = logsumexp_op(values, axes=axes)
    return reshape(result, kept_shape(values.shape, axes)) if keepdims else result


# Smooth gates: x times a distribution function. erfc and sigmoid keep its lower tail, where 1 + erf would cancel.

_CUBIC = 0.044715


def _gelu_gate(x: Tensor, approximate: str) -> Tensor:
    if approximate == "none":
        return multiply(erfc(x * -math.sqrt(0.5)), 0.5)
    return sigmoid(_gelu_argument(x))


def _gelu_argument(x: Tensor) -> Tensor:
    return (2 * math.sqrt(2 / math.pi)) * (x + _CUBIC * (x * square(x)))


def _gelu_vjp(ct: Tensor, y: Tensor, x: Tensor, approximate: str) -> tuple[Tensor]:
    gate = _gelu_gate(x, approximate)
    if approximate == "none":
        density = exp(-0.5 * square(x)) * (1 / math.sqrt(2 * math.pi))
    else:
        slope = (2 * math.sqrt(2 / math.pi)) * (1 + 3 * _CUBIC * square(x))
        density = gate * sigmoid(-_gelu_argument(x)) * slope
    return (ct * (gate + x * density),)


def _silu_vjp(ct: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    return (ct * (sigmoid(x) * (1 + x * sigmoid(-x))),)


gelu_op = composite(
    "gelu", doc="x times the normal distribution function of x.", infer=_same, vjp=_gelu_vjp,
    expand=lambda x, approximate: x * _gelu_gate(x, approximate),
    examples=tuple(((_SAMPLE,), {"approximate": kind}) for kind in ("none", "tanh")))
silu_op = composite("silu", doc="x * sigmoid(x).", infer=_same, expand=lambda x: x * sigmoid(x), vjp=_silu_vjp,
                    examples=(((_SAMPLE,), {}),))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; ``approximate="tanh"`` is the usual cheaper formula."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    return gelu_op(as_floating(x), approximate=approximate)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x), also called swish."""
    return silu_op(as_floating(x))


# Layer norm.


def _normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """x with mean 0 and variance 1 over the axes, and the factor that did it."""
    centred = x - mean(x, axes, keepdims=True)
    factor = 1 / sqrt(mean(square(centred), axes, keepdims=True) + eps)
    return centred * factor, factor


def _spread_parameter(parameter: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    others = tuple(axis for axis in range(x.ndim) if axis not in axes)
    return spread(parameter, x, others)


def _layer_norm(x: Tensor, *parameters: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    y, _ = _normalised(x, axes, eps)
    for parameter, combine in zip(parameters, (multiply, add)):
        y = combine(y, _spread_parameter(parameter, x, axes))
    return y


def _layer_norm_vjp(ct: Tensor, y: Tensor, x: Tensor, *parameters: Tensor, axes: tuple[int, ...],
                    eps: float) -> tuple[Tensor, ...]:
    normal, factor = _normalised(x, axes, eps)
    others = tuple(axis for axis in range(x.ndim) if axis not in axes)
    inner = ct * _spread_parameter(parameters[0], x, axes) if parameters else ct
    dx = factor * (inner - mean(inner, axes, keepdims=True) - normal * mean(inner * normal, axes, keepdims=True))
    return (dx, sum(ct * normal, others), sum(ct, others))[:1 + len(parameters)]


def _layer_norm_infer(context: Inference, x: TensorType, *parameters: TensorType, axes: tuple[int, ...],
                      eps: float) -> TensorType:
    for parameter in parameters:
        if parameter.ndim != len(axes):
            raise context.shape_error("weight and bias must have the shape of the normalised axes",
                                      f"needed {len(axes)} dimensions")
        for size, axis in zip(parameter.shape, axes):
            context.same_size(x.shape[axis], size, f"sizes along axis {axis} differ")
    return floating(context, x)


layer_norm_op = composite(
    "layer_norm", doc="x with mean 0 and variance 1 over axes, times a weight, plus a bias.",
    infer=_layer_norm_infer, expand=_layer_norm, vjp=_layer_norm_vjp,
    examples=(((_SAMPLE,), {"axes": (1,), "eps": 1e-5}), ((_SAMPLE, _WEIGHT), {"axes": (1,), "eps": 1e-5}),
              ((_SAMPLE, _WEIGHT, _BIAS), {"axes": (1,), "eps": 1e-3}),
              ((_SAMPLE, _WEIGHT[:3], _BIAS[:3]), {"axes": (0,), "eps": 1e-3}),
              ((_SAMPLE, _SAMPLE[::-1], _SAMPLE[:, ::-1]), {"axes": (0, 1), "eps": 1e-3})))


def layer_norm(x: Any, weight: Any = None, bias: Any = None, *, axes: Any = -1, eps: float = 1e-5) -> Tensor:
    """x with mean 0 and variance 1 over axes, then times `weight` and plus `bias`, which have the shape of the axes."""
    given = [as_tensor(x), *(as_tensor(each) for each in (weight, bias) if each is not None)]
    dtype = common_dtype(given)
    x, *parameters = [astype(each, dtype if dtype.kind == "f" else np.float64) for each in given]
    numbers = tuple(sorted(normalise_axes("layer_norm", x, axes)))
    if weight is None and bias is not None:
        return layer_norm_op(x, axes=numbers, eps=float(eps)) + _spread_parameter(parameters[0], x, numbers)
    return layer_norm_op(x, *parameters, axes=numbers, eps=float(eps))


# Losses.


def _hits(x: Tensor, labels: Tensor) -> Tensor:
    """True where the last axis of x is at its row's label; labels out of range raise."""
    indices = reshape(check_index(labels, size=x.shape[-1], what="cross_entropy, labels"), (*labels.shape, 1))
    return iota(shape=x.shape, axis=x.ndim - 1, dtype=np.dtype(np.int64)) == indices


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    # Shifting before the subtraction keeps the digits of small losses. The label's logit is picked by a sum with one
    # term, not by a gather: so the logits need not exist in memory, and loss and gradient are one pass over the row.
    largest = max(logits, -1, keepdims=True)
    chosen = sum(where(_hits(logits, labels), logits - largest, 0), -1, keepdims=True)
    loss = log(sum(exp(logits - largest), -1, keepdims=True)) - chosen
    return reshape(loss, labels.shape)


def _cross_entropy_vjp(ct: Tensor, y: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, None]:
    hit = astype(_hits(logits, labels), logits.dtype)
    return spread(ct, logits, (logits.ndim - 1,)) * (softmax(logits) - hit), None


def _cross_entropy_infer(context: Inference, logits: TensorType, labels: TensorType) -> TensorType:
    if labels.dtype.kind not in "iu":
        raise context.dtype_error("labels must be integers, or probabilities of the shape of the logits")
    if logits.ndim == 0 or labels.ndim != logits.ndim - 1:
        raise context.shape_error("integer labels have the shape of the logits without the last axis")
    for a, b in zip(logits.shape, labels.shape):
        context.same_size(a, b, "sizes of logits and labels differ")
    return TensorType(floating(context, logits).dtype, labels.shape)


def _soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return -sum(targets * _finite_where_unused(log_softmax(logits), targets), -1)


def _finite_where_unused(logs: Tensor, targets: Tensor) -> Tensor:
    """log(0) of what has probability 0 is never to count: as 0, since 0 * -inf would be nan."""
    return where(logical_and(targets == 0, isinf(logs)), 0, logs)


def _soft_cross_entropy_vjp(ct: Tensor, y: Tensor, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    ct = spread(ct, logits, (logits.ndim - 1,))
    slope = softmax(logits) * sum(targets, -1, keepdims=True) - targets
    return ct * slope, -(ct * _finite_where_unused(log_softmax(logits), targets))


def _row_loss(context: Inference, logits: TensorType, targets: TensorType) -> TensorType:
    if logits.ndim == 0 or logits.ndim != targets.ndim:
        raise context.shape_error("probabilities have the shape of the logits")
    result = floating(context, logits, targets)
    return TensorType(result.dtype, result.shape[:-1])


cross_entropy_op = composite(
    "cross_entropy", doc="-log_softmax(logits)[label] of each row.", infer=_cross_entropy_infer,
    expand=_cross_entropy, vjp=_cross_entropy_vjp, examples=(((_SAMPLE, _LABELS), {}),))
soft_cross_entropy_op = composite(
    "soft_cross_entropy", doc="-sum(targets * log_softmax(logits)) of each row.", infer=_row_loss, operands="float",
    expand=_soft_cross_entropy, vjp=_soft_cross_entropy_vjp, examples=(((_SAMPLE, _TARGETS), {}),))
mse_op = composite(
    "mse", doc="Squared difference of each element.", infer=floating, operands="float",
    expand=lambda a, b: square(a - b), examples=(((_SAMPLE, _TARGETS), {}),),
    vjp=lambda ct, y, a, b: (ct * (2 * (a - b)), ct * (2 * (b - a))))


def cross_entropy(logits: Any, labels: Any) -> Tensor:
    """The loss of each row of logits: labels are class numbers, or probabilities of the shape of the logits."""
    logits, labels = as_floating(logits), as_tensor(labels)
    if labels.dtype.kind in "iu" and labels.ndim != logits.ndim:
        return cross_entropy_op(logits, labels)
    targets = labels if labels.dtype.kind == "f" else astype(labels, logits.dtype)  # one-hot rows may be integers
    return soft_cross_entropy_op(*promote_operands(soft_cross_entropy_op, (logits, targets)))


def mse(a: Any, b: Any) -> Tensor:
    """The squared difference of each element."""
    return mse_op(*convert_operands(mse_op, (a, b)))
