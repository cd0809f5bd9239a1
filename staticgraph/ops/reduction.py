"""Reductions: ops that combine the elements along axes, and the statistics built on them.

Level: tensor graph. A reduction drops its axes; ``keepdims`` is a reshape behind it, so that kernels know one form.
Sums and products of bools and integers are computed in 64 bits, by an explicit cast before the reduction.

Decisions. ``axis=()`` reduces nothing. Elements that tie for a maximum share its gradient evenly. The gradient of a
product multiplies the products on either side of an element, so it is right where elements are zero.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..op import Inference, Op, as_tensor, broadcast, operands_message, primitive
from ..shapes import normalise_axes, normalise_axis
from ..tensor import Tensor
from ..types import Dim, Shape, Size, TensorType, as_dtype, maximum_size, product
from .elementwise import astype, divide, maximum, not_equal, sqrt, square, subtract, where
from .movement import flip_axes, permute_dims, reshape
from .scan import cumulative_product_before

__all__ = ["all", "any", "argmax", "argmin", "count_nonzero", "max", "mean", "min", "prod", "std", "sum", "var"]

_SAMPLE = np.array([[-1.7, -0.6, 0.3, 2.2], [0.8, 1.4, 2.6, -0.9], [1.1, -2.3, 0.5, 0.7]])
_CUBE = np.linspace(-2.0, 2.5, 24).reshape(2, 3, 4)
_one_axis = (((_SAMPLE,), {"axes": (1,)}), ((_SAMPLE,), {"axes": (0,)}))
_axes_examples = (*_one_axis, ((_SAMPLE,), {"axes": (0, 1)}), ((_CUBE,), {"axes": (0, 2)}))
_zeros = np.array([[1.5, 0.0, 2.0], [0.0, 3.0, 0.0], [0.5, 2.0, -1.0]])


def kept_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape with the axes as ones."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def spread(reduced: Tensor, like: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A reduced tensor stretched back over the axes that `like` was reduced over."""
    return broadcast(reshape(reduced, kept_shape(like.shape, axes)), like.shape)


def _reduced(context: Inference, x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    return TensorType(x.dtype, tuple(size for axis, size in enumerate(x.shape) if axis not in axes), x.weak)


def _non_empty(context: Inference, x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if builtins.any(isinstance(x.shape[axis], int) and x.shape[axis] == 0 for axis in axes):
        raise context.shape_error("there is nothing to choose from along an empty axis", f"reduced over axes {axes}")
    return _reduced(context, x, axes=axes)


def _position(context: Inference, x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    return TensorType(np.dtype(np.int64), _non_empty(context, x, axes=axes).shape)


def _prod_vjp(ct: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor]:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    order = (*kept, *axes)
    sizes: list[Size] = [x.shape[axis] for axis in order]
    flat = reshape(permute_dims(x, order), (*sizes[:len(kept)], product(sizes[len(kept):])))
    last = flat.ndim - 1
    after = flip_axes(cumulative_product_before(flip_axes(flat, (last,)), last), (last,))
    others = reshape(cumulative_product_before(flat, last) * after, sizes)
    return (spread(ct, x, axes) * permute_dims(others, tuple(order.index(axis) for axis in range(x.ndim))),)


def _extremum_vjp(ct: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor]:
    chosen = x == spread(y, x, axes)
    count = sum(astype(chosen, ct.dtype), axes)
    return (where(chosen, spread(ct / count, x, axes), 0),)


_sum = primitive("sum", kind="reduction", doc="Sum over axes.", infer=_reduced,
                 ref=lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype),
                 vjp=lambda ct, y, x, axes: (spread(ct, x, axes),), examples=_axes_examples)
_prod = primitive("prod", kind="reduction", doc="Product over axes.", infer=_reduced,
                  ref=lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype), vjp=_prod_vjp,
                  examples=(*_axes_examples, ((_zeros,), {"axes": (1,)}), ((_zeros,), {"axes": (0, 1)})))
_max = primitive("max", kind="reduction", doc="Largest element over axes; nan if there is one.", infer=_non_empty,
                 ref=lambda x, axes: np.max(x, axis=axes), vjp=_extremum_vjp, examples=_axes_examples)
_min = primitive("min", kind="reduction", doc="Smallest element over axes; nan if there is one.", infer=_non_empty,
                 ref=lambda x, axes: np.min(x, axis=axes), vjp=_extremum_vjp, examples=_axes_examples)
_any = primitive("any", kind="reduction", doc="Whether one holds.", infer=_reduced,
                 ref=lambda x, axes: np.any(x, axis=axes))
_all = primitive("all", kind="reduction", doc="Whether all hold.", infer=_reduced,
                 ref=lambda x, axes: np.all(x, axis=axes))
_argmax = primitive("argmax", kind="reduction", doc="Index of the first largest element, or of the first nan.",
                    infer=_position, ref=lambda x, axes: np.argmax(x, axis=axes[0]).astype(np.int64))
_argmin = primitive("argmin", kind="reduction", doc="Index of the first smallest element, or of the first nan.",
                    infer=_position, ref=lambda x, axes: np.argmin(x, axis=axes[0]).astype(np.int64))


def _reduce(op: Op, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    axes = tuple(sorted(normalise_axes(op.name, x, axis)))
    if not axes:
        return x
    result = op(x, axes=axes)
    return reshape(result, kept_shape(x.shape, axes)) if keepdims else result


def accumulator_dtype(x: Tensor, dtype: Any = None) -> np.dtype[Any]:
    """The dtype in which sums and products are computed: 64 bits for bools and integers."""
    if dtype is not None:
        return as_dtype(dtype)
    return np.dtype({"b": np.int64, "i": np.int64, "u": np.uint64}.get(x.dtype.kind, x.dtype))


def sum(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Sum over one axis, several, or all. Bools and integers are summed in 64 bits."""
    x = as_tensor(x)
    return _reduce(_sum, astype(x, accumulator_dtype(x, dtype)), axis, keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Product over one axis, several, or all. Bools and integers are multiplied in 64 bits."""
    x = as_tensor(x)
    return _reduce(_prod, astype(x, accumulator_dtype(x, dtype)), axis, keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element over axes; nan if there is one."""
    return _reduce(_max, as_tensor(x), axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes; nan if there is one."""
    return _reduce(_min, as_tensor(x), axis, keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element over the axes is true, or not zero."""
    return _reduce(_any, astype(x, bool), axis, keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over the axes are true, or not zero."""
    return _reduce(_all, astype(x, bool), axis, keepdims)


def _locate(op: Op, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    if axis is None:
        result = op(reshape(x, (x.size,)), axes=(0,))
        return reshape(result, (1,) * x.ndim) if keepdims else result
    return _reduce(op, x, normalise_axis(op.name, x, axis), keepdims)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element along an axis, or in the flattened tensor."""
    return _locate(_argmax, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element along an axis, or in the flattened tensor."""
    return _locate(_argmin, x, axis, keepdims)


def _count(x: Tensor, axis: Any) -> Size:
    return product(x.shape[each] for each in normalise_axes("mean", x, axis))


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over axes; of integers it is float64."""
    x = _as_floating(x)
    return divide(sum(x, axis, keepdims), _count(x, axis))


def var(x: Any, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """Mean squared distance from the mean, with ``n - correction`` for n in the last division."""
    x = _as_floating(x)
    count: Any = _count(x, axis)
    if not isinstance(correction, int | float | Dim | Tensor | np.number):
        raise ArgumentError(operands_message("var: the correction is a number", [x], f"got {correction!r}"))
    degrees = count - correction
    if isinstance(degrees, Tensor):
        degrees = maximum(degrees, 0)
    else:
        degrees = maximum_size(degrees, 0) if isinstance(degrees, Dim) else builtins.max(degrees, 0)
    centred = subtract(x, mean(x, axis, keepdims=True))
    return divide(sum(square(centred), axis, keepdims), degrees)


def std(x: Any, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """Square root of `var`."""
    return sqrt(var(x, axis, correction, keepdims))


def count_nonzero(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """How many elements over the axes are not zero."""
    return sum(not_equal(x, 0), axis, keepdims)


def _as_floating(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else astype(x, np.float64)
