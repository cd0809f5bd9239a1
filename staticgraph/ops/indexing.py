"""Indexing by values: gathers, the scatters that are their gradients, and sorting.

The primitives take int64 indices that are known to be in range: `checked` puts constants in order when the graph is
built and guards everything else by the op `check_index`, which counts negative indices from the end and raises at the
call. Repeated indices of a scatter accumulate in the order of the indices, so that results are the same bits each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, index_message
from ..op import Inference, Op, as_tensor, broadcast, operands_message, primitive, registry
from ..shapes import as_size, normalise_axis, shape_text
from ..tensor import Tensor
from ..types import Shape, Size, TensorType, as_dtype, provably_different
from .arrange import move_last
from .movement import broadcast_to, expand_dims, inverse_permutation, permute_dims, reshape, slice_axis

Array = np.ndarray[Any, Any]


# Along one axis, the same indices for everything: gather and scatter_add.

def _gathered(shape: Shape, indices: Shape, axis: int) -> Shape:
    return (*shape[:axis], *indices, *shape[axis + 1:])


def _needs_int64(context: Inference, indices: TensorType, axis: int, rank: int) -> None:
    if indices.dtype != np.int64:
        raise context.dtype_error("indices must be int64")
    if not 0 <= axis < rank:
        raise context.shape_error(f"axis {axis} is out of range")


def _infer_gather(context: Inference, x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    _needs_int64(context, indices, axis, x.ndim)
    return TensorType(x.dtype, _gathered(x.shape, indices.shape, axis))


def _infer_scatter(context: Inference, x: TensorType, indices: TensorType, src: TensorType, *,
                   axis: int) -> TensorType:
    _needs_int64(context, indices, axis, x.ndim)
    _needs_source(context, x, src, _gathered(x.shape, indices.shape, axis))
    return x


def _needs_source(context: Inference, x: TensorType, src: TensorType, shape: Shape) -> None:
    if src.dtype != x.dtype:
        raise context.dtype_error(f"needs a source of {x.dtype}")
    if src.ndim != len(shape):
        raise context.shape_error(f"needs a source of {len(shape)} dimensions, got {src.ndim}")
    for axis, (needed, given) in enumerate(zip(shape, src.shape, strict=True)):
        context.same_size(needed, given, f"sizes of axis {axis} of the source differ")


def _scatter_meaning(x: Array, indices: Array, src: Array, axis: int) -> Array:
    result = x.copy()
    key: Any = (*[slice(None)] * axis, indices)
    np.add.at(result, key, src)
    return result


gather_op = primitive(
    "gather", kind="gather", doc="The slices of x along an axis at the given positions.",
    infer=_infer_gather, ref=lambda x, indices, axis: np.take(x, indices, axis),
    vjp=lambda ct, y, x, indices, axis: (scatter_add_op(zeros_of(x), indices, ct, axis=axis), None),
    examples=(((np.arange(6.0).reshape(3, 2), np.array([2, 0, 2])), {"axis": 0}),
              ((np.arange(6.0).reshape(3, 2), np.array([[1, 0, 1]])), {"axis": 1}),
              ((np.arange(3.0), np.array(1)), {"axis": 0}),
              ((np.arange(3.0), np.zeros((0,), np.int64)), {"axis": 0})))

scatter_add_op: Op = primitive(
    "scatter_add", kind="scatter", doc="x with the slices of src added along an axis at the given positions.",
    infer=_infer_scatter, ref=_scatter_meaning,
    vjp=lambda ct, y, x, indices, src, axis: (ct, None, gather_op(ct, indices, axis=axis)),
    examples=(((np.ones((3, 2)), np.array([2, 0, 2]), np.arange(6.0).reshape(3, 2)), {"axis": 0}),
              ((np.ones((1, 4)), np.array([3, 3]), np.array([[1.0, 2.0]])), {"axis": 1}),
              ((np.ones(2), np.zeros((0,), np.int64), np.zeros((0,))), {"axis": 0})))


# Along one axis, indices of their own for each position: gather_along and scatter_add_along.

def _needs_alike(context: Inference, x: TensorType, indices: TensorType, axis: int) -> None:
    _needs_int64(context, indices, axis, x.ndim)
    if indices.ndim != x.ndim:
        raise context.shape_error(f"needs indices of {x.ndim} dimensions, got {indices.ndim}")
    for number, (p, q) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if number != axis:
            context.same_size(p, q, f"sizes of axis {number} differ")


def _infer_gather_along(context: Inference, x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    _needs_alike(context, x, indices, axis)
    return TensorType(x.dtype, indices.shape)


def _infer_scatter_along(context: Inference, x: TensorType, indices: TensorType, src: TensorType, *,
                         axis: int) -> TensorType:
    _needs_alike(context, x, indices, axis)
    _needs_source(context, x, src, indices.shape)
    return x


def _scatter_along_meaning(x: Array, indices: Array, src: Array, axis: int) -> Array:
    result = x.copy()
    grid = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    grid[axis] = indices
    np.add.at(result, tuple(grid), src)
    return result


gather_along_op = primitive(
    "gather_along", kind="gather", doc="Elements of x along an axis, each at a position of its own.",
    infer=_infer_gather_along, ref=lambda x, indices, axis: np.take_along_axis(x, indices, axis),
    vjp=lambda ct, y, x, indices, axis: (scatter_add_along_op(zeros_of(x), indices, ct, axis=axis), None),
    examples=(((np.arange(6.0).reshape(2, 3), np.array([[2, 2], [0, 1]])), {"axis": 1}),
              ((np.arange(3.0).reshape(3, 1), np.array([[1]])), {"axis": 0}),
              ((np.ones((0, 3)), np.zeros((0, 1), np.int64)), {"axis": 1})))

scatter_add_along_op: Op = primitive(
    "scatter_add_along", kind="scatter", doc="x with the elements of src added, each at a position of its own.",
    infer=_infer_scatter_along, ref=_scatter_along_meaning,
    vjp=lambda ct, y, x, indices, src, axis: (ct, None, gather_along_op(ct, indices, axis=axis)),
    examples=(((np.ones((2, 3)), np.array([[2, 2], [0, 1]]), np.arange(4.0).reshape(2, 2)), {"axis": 1}),
              ((np.ones((3, 1)), np.array([[1]]), np.array([[2.0]])), {"axis": 0})))


def zeros_of(x: Tensor) -> Tensor:
    """Zeros in the shape and dtype of x."""
    return broadcast_to(as_tensor(np.zeros((), x.dtype)), x.shape)


# What users call.

def checked(function: str, x: Tensor, indices: Any, axis: int | None) -> Tensor:
    """Indices into an axis of x (all its elements for None), as int64 counted from the front.

    Out of range is an error: now where both indices and size are known, else at the call.
    """
    positions = as_tensor(np.zeros((0,), np.int64) if isinstance(indices, list | tuple) and not indices else indices)
    if positions.dtype.kind not in "iu":
        raise DTypeError(operands_message(f"{function}: indices must be integers", [x, positions],
                                          f"got {positions.dtype}"))
    size, what = (x.size, function) if axis is None else (x.shape[axis], f"{function}, axis {axis}")
    if positions.op.name == "constant" and isinstance(size, int):
        values = positions.attrs["value"]
        outside = (values < -size) | (values >= size)
        if outside.any():
            raise OutOfRangeError(operands_message(index_message(what, int(values[outside].flat[0]), size), [x]))
        values = values.astype(np.int64)
        return as_tensor(np.where(values < 0, values + size, values))
    guarded: Tensor = registry["check_index"](positions, size=size, what=what)
    return guarded


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements, or with an axis the slices, of x at integer positions; negative ones count from the end."""
    x = as_tensor(x)
    if axis is None:
        return gather_op(reshape(x, (-1,)), checked("take", x, indices, None), axis=0)
    number = normalise_axis("take", x, axis)
    return gather_op(x, checked("take", x, indices, number), axis=number)


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """Elements along an axis at positions of their own, as `argsort` gives them; the other axes broadcast."""
    x, indices = as_tensor(x), as_tensor(indices)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    number = normalise_axis("take_along_axis", x, axis)
    x, indices = _along("take_along_axis", x, indices, number)
    return gather_along_op(x, checked("take_along_axis", x, indices, number), axis=number)


def _along(function: str, x: Tensor, indices: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Both stretched to the same sizes on all axes but one."""
    if x.ndim != indices.ndim:
        raise ShapeError(operands_message(f"{function}: needs as many dimensions of indices as of x", [x, indices],
                                          f"got {x.ndim} and {indices.ndim}"))
    shape: list[Size] = []
    for number, (p, q) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if number != axis and p != 1 and q != 1 and provably_different(p, q):
            raise ShapeError(operands_message(f"{function}: sizes of axis {number} do not broadcast", [x, indices],
                                              f"got {p} and {q}"))
        shape.append(q if p == 1 else p)
    stretched = [broadcast(tensor, (*shape[:axis], tensor.shape[axis], *shape[axis + 1:])) for tensor in (x, indices)]
    return stretched[0], stretched[1]


def scatter_add(x: Any, indices: Any, src: Any, axis: int = 0) -> Tensor:
    """x with the slices of src added along an axis at integer positions; repeated positions accumulate.

    src broadcasts to the shape that `take` would give, and is cast to the dtype of x where that is lossless.
    """
    x = as_tensor(x)
    src = as_tensor(src) if isinstance(src, Tensor | np.ndarray) else as_tensor(src, x.dtype)
    number = normalise_axis("scatter_add", x, axis)
    positions = checked("scatter_add", x, indices, number)
    if src.dtype != x.dtype:
        if not np.can_cast(src.dtype, x.dtype, "safe"):
            raise DTypeError(operands_message(f"scatter_add: {src.dtype} cannot be added to {x.dtype}", [x, src],
                                              "needed a source that casts without loss; use sg.astype"))
        src = registry["astype"](src, dtype=x.dtype)
    shape = _gathered(x.shape, positions.shape, number)
    if src.ndim > len(shape) or any(q != 1 and provably_different(p, q)
                                    for p, q in zip(reversed(shape), reversed(src.shape))):
        raise ShapeError(operands_message("scatter_add: the source does not fit", [x, positions, src],
                                          f"needed a source that broadcasts to {shape_text(shape)}"))
    return scatter_add_op(x, positions, broadcast(src, shape), axis=number)


def one_hot(indices: Any, size: Any, dtype: Any = "float32") -> Tensor:
    """Rows of `size` elements, 1 at the index and 0 elsewhere; an index outside of the row gives a row of zeros."""
    indices = as_tensor(indices)
    if indices.dtype.kind not in "iu":
        raise DTypeError(operands_message("one_hot: indices must be integers", [indices], f"got {indices.dtype}"))
    count = as_size("one_hot", size, [indices])
    if isinstance(count, int) and count < 0:
        raise ArgumentError(operands_message(f"one_hot: size {count} is negative", [indices]))
    shape = (*indices.shape, count)
    if indices.dtype != np.int64:
        indices = registry["astype"](indices, dtype=np.dtype(np.int64))
    ramp = registry["iota"](shape=shape, axis=indices.ndim, dtype=np.dtype(np.int64))
    hot = registry["equal"](broadcast_to(expand_dims(indices, -1), shape), ramp)
    result: Tensor = registry["astype"](hot, dtype=as_dtype(dtype))
    return result


# Sorting: by positions along the last axis.

def _infer_argsort(context: Inference, x: TensorType, *, descending: bool) -> TensorType:
    if x.ndim == 0:
        raise context.shape_error("needs at least 1 dimension")
    return TensorType(np.dtype(np.int64), x.shape)


def _argsort_meaning(x: Array, descending: bool) -> Array:
    # Reversing keys rather than the result keeps equal elements in order, and leaves nan last.
    keys = x if not descending else -x if x.dtype.kind == "f" else ~x
    return np.argsort(keys, axis=-1, kind="stable")


argsort_op = primitive(
    "argsort", kind="sort", doc="Positions that put the last axis in order: stable, nan last in both directions.",
    infer=_infer_argsort, ref=_argsort_meaning)


def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Positions (int64) that put an axis in order.

    Equal elements keep their order and nan comes last, in both directions; `stable` is accepted for the standard's
    sake: the sort is always stable.
    """
    x = as_tensor(x)
    number = normalise_axis("argsort", x, axis)
    return _back(argsort_op(move_last(x, number), descending=bool(descending)), number)


def _back(x: Tensor, axis: int) -> Tensor:
    """The last axis moved to where it came from."""
    order = [*(number for number in range(x.ndim) if number != axis), axis]
    return permute_dims(x, inverse_permutation(order))


def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """An axis in order, as `argsort` has it: stable, nan last in both directions."""
    x = as_tensor(x)
    number = normalise_axis("sort", x, axis)
    last = move_last(x, number)
    order = argsort_op(last, descending=bool(descending))
    return _back(gather_along_op(last, order, axis=last.ndim - 1), number)


def topk(x: Any, k: Any, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) elements along an axis, best first, and their positions; nan counts as worst."""
    x = as_tensor(x)
    number = normalise_axis("topk", x, axis)
    count, size = as_size("topk", k, [x]), x.shape[number]
    if isinstance(count, int) and (count < 0 or (isinstance(size, int) and count > size)):
        raise ShapeError(operands_message(f"topk: cannot take {count} of axis {number}, which has size {size}", [x]))
    last = move_last(x, number)
    order = argsort_op(last, descending=bool(largest))
    best = slice_axis(order, last.ndim - 1, 0, count)
    return _back(gather_along_op(last, best, axis=last.ndim - 1), number), _back(best, number)
