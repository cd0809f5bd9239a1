"""Scans: ops whose element depends on all elements before it along one axis.

Level: tensor graph. The general one is `linear_recurrence`; with it each scan's gradient is again a scan, which needs
no division and is right where factors are zero.

Definition. Forward: ``y[i] = a[i] * y[i-1] + b[i]``; reverse: ``y[i] = a[i] * y[i+1] + b[i]``. What stands before the
first (behind the last) element is 0, so ``y[0]`` is ``b[0]`` wherever ``a[0]`` is finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Inference, Op, as_tensor, convert_operands, elementwise, primitive
from ..shapes import normalise_axis
from ..tensor import Tensor
from ..types import TensorType, as_dtype
from .elementwise import astype
from .movement import flip_axes, pad, reshape, slice_axis

__all__ = ["cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "linear_recurrence"]

_SAMPLE = np.array([[-1.7, 0.6, 0.3, 2.2], [0.8, 0.0, 2.6, -0.9], [1.1, -2.3, 0.5, 0.7]])
_OTHER = np.array([[0.5, -1.1, 0.9, 1.2], [-0.3, 0.7, 0.0, 1.9], [0.2, 0.4, -0.8, 1.5]])
_examples = tuple(((_SAMPLE,), {"axis": axis}) for axis in (0, 1))


def _along(context: Inference, *types: TensorType, axis: int, **attrs: Any) -> TensorType:
    return elementwise(context, *types)


def _reverse_sum(ct: Tensor, y: Tensor, x: Tensor, axis: int) -> tuple[Tensor]:
    return (flip_axes(_cumulative_sum(flip_axes(ct, (axis,)), axis=axis), (axis,)),)


def _shift(x: Tensor, axis: int, to_end: bool) -> Tensor:
    """x moved by one place along the axis, towards its end or its start; a zero comes in."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (1, 0) if to_end else (0, 1)
    return slice_axis(pad(x, widths), axis, 0 if to_end else 1, x.shape[axis])


def cumulative_product_before(x: Tensor, axis: int) -> Tensor:
    """The product of all elements before each, along an axis; 1 for the first."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (1, 0)
    return slice_axis(_cumulative_prod(pad(x, widths, constant_values=1), axis=axis), axis, 0, x.shape[axis])


def _cumulative_prod_vjp(ct: Tensor, y: Tensor, x: Tensor, axis: int) -> tuple[Tensor]:
    # dx[k] = (product before k) * r[k], where r[k] = ct[k] + x[k+1] * r[k+1]
    later = _linear_recurrence(_shift(x, axis, to_end=False), ct, axis=axis, reverse=True)
    return (cumulative_product_before(x, axis) * later,)


def _recurrence_vjp(ct: Tensor, y: Tensor, a: Tensor, b: Tensor, axis: int, reverse: bool) -> tuple[Tensor, Tensor]:
    # The influence of b[i] on later elements runs the other way: r[i] = ct[i] + a[i+1] * r[i+1].
    influence = _linear_recurrence(_shift(a, axis, to_end=reverse), ct, axis=axis, reverse=not reverse)
    return influence * _shift(y, axis, to_end=not reverse), influence


def _recurrence_ref(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    a, y = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0).copy()
    state = np.zeros(y.shape[1:], y.dtype)
    for place in reversed(range(len(y))) if reverse else range(len(y)):
        y[place] += a[place] * state
        state = y[place]
    return np.moveaxis(y, 0, axis)


_cumulative_sum = primitive(
    "cumulative_sum", kind="scan", doc="Running sum along an axis.", infer=_along, vjp=_reverse_sum,
    ref=lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype), examples=_examples)
_cumulative_prod = primitive(
    "cumulative_prod", kind="scan", doc="Running product along an axis.", infer=_along, vjp=_cumulative_prod_vjp,
    ref=lambda x, axis: np.cumprod(x, axis=axis, dtype=x.dtype), examples=_examples)
_linear_recurrence: Op = primitive(
    "linear_recurrence", kind="scan", doc="y[i] = a[i] * y[i-1] + b[i] along an axis, or from its end.",
    infer=_along, operands="number", vjp=_recurrence_vjp, ref=_recurrence_ref,
    examples=tuple(((_SAMPLE, _OTHER), {"axis": axis, "reverse": reverse}) for axis in (0, 1)
                   for reverse in (False, True)))


def _scan(name: str, op: Op, x: Any, axis: int | None, dtype: Any, initial: int | None) -> Tensor:
    x = as_tensor(x)
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    number = normalise_axis(name, x, axis)
    kind = {"b": np.int64, "i": np.int64, "u": np.uint64}
    x = astype(x, as_dtype(kind.get(x.dtype.kind, x.dtype) if dtype is None else dtype))
    if initial is not None:
        widths = [(0, 0)] * x.ndim
        widths[number] = (1, 0)
        x = pad(x, widths, constant_values=initial)
    return op(x, axis=number)


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running sum along an axis (None: of the flattened tensor); `include_initial` puts a 0 in front."""
    return _scan("cumulative_sum", _cumulative_sum, x, axis, dtype, 0 if include_initial else None)


def cumulative_prod(x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running product along an axis (None: of the flattened tensor); `include_initial` puts a 1 in front."""
    return _scan("cumulative_prod", _cumulative_prod, x, axis, dtype, 1 if include_initial else None)


def linear_recurrence(a: Any, b: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """``y[i] = a[i] * y[i-1] + b[i]`` along an axis, with 0 before the first; reverse runs from the end."""
    a, b = convert_operands(_linear_recurrence, (a, b))
    return _linear_recurrence(a, b, axis=normalise_axis("linear_recurrence", b, axis), reverse=bool(reverse))


cumsum = cumulative_sum
cumprod = cumulative_prod
