"""Contractions: products of matrices, and the functions that are one.

The primitive `matmul` is strict: one dtype, the same leading axes on both sides. `matmul()` brings what users write
into that form: it promotes, gives vectors an axis, stretches leading axes, and folds them into the rows where the right
side is one matrix, so that a layer applied to (batch, time, features) is one large product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..op import Inference, as_tensor, broadcast, operands_message, primitive, promote_operands, registry
from ..shapes import normalise_axes, normalise_axis
from ..tensor import Tensor
from ..types import Shape, Size, TensorType, product, provably_different
from .arrange import matrix_transpose, move_last
from .movement import permute_dims, reshape


def _infer_matmul(context: Inference, a: TensorType, b: TensorType) -> TensorType:
    if a.ndim < 2 or a.ndim != b.ndim:
        raise context.shape_error("needs two stacks of matrices of the same number of dimensions")
    if a.dtype != b.dtype:
        raise context.dtype_error("needs operands of one dtype")
    batch = [context.same_size(p, q, f"sizes of axis {axis} differ")
             for axis, (p, q) in enumerate(zip(a.shape[:-2], b.shape[:-2]))]
    _check_inner(context.inputs, a.shape[-1], b.shape[-2])
    context.same_size(a.shape[-1], b.shape[-2], "inner dimensions differ")
    return TensorType(a.dtype, (*batch, a.shape[-2], b.shape[-1]))


def _check_inner(operands: Sequence[Tensor], left: Size, right: Size) -> None:
    if provably_different(left, right):
        place = -2 if operands[1].ndim > 1 else -1
        raise ShapeError(operands_message(
            "matmul: inner dimensions differ", operands,
            f"needed a.shape[-1] == b.shape[{place}], got {left} and {right}"))


matmul_op = primitive(
    "matmul", kind="contraction", doc="Products of matrices: (..., m, k) by (..., k, n) gives (..., m, n).",
    operands="promote", infer=_infer_matmul, ref=np.matmul,
    vjp=lambda ct, y, a, b: (matmul(ct, matrix_transpose(b)), matmul(matrix_transpose(a), ct)),
    examples=(((np.arange(6.0).reshape(2, 3), np.linspace(-1, 1, 12).reshape(3, 4)), {}),
              ((np.linspace(0, 1, 12).reshape(2, 2, 3), np.linspace(-1, 1, 6).reshape(2, 3, 1)), {}),
              ((np.ones((1, 1)), np.ones((1, 1))), {}),
              ((np.ones((2, 0)), np.ones((0, 3))), {}),
              ((np.ones((0, 2)), np.ones((2, 3))), {})))


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product as NumPy has it: vectors gain an axis and lose it again, leading axes broadcast."""
    a, b = promote_operands(matmul_op, (a, b))
    for operand in (a, b):
        if operand.ndim == 0:
            raise ShapeError(operands_message("matmul: a scalar is not a matrix", [a, b],
                                              "needed at least 1 dimension on both sides; use * for scalars"))
    _check_inner([a, b], a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[-1])
    rows = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    columns = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    result = _batched(a, b, rows, columns)
    shape = result.shape
    shape = shape[:-2] + (() if a.ndim == 1 else shape[-2:-1]) + (() if b.ndim == 1 else shape[-1:])
    return reshape(result, shape)


def _batched(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The product of two stacks of matrices; a and b are what the user wrote, for messages."""
    if columns.ndim == 2:
        folded = reshape(rows, (product(rows.shape[:-1]), rows.shape[-1]))
        return reshape(matmul_op(folded, columns), (*rows.shape[:-1], columns.shape[-1]))
    batch = _broadcast_batch(a, b, rows.shape[:-2], columns.shape[:-2])
    return matmul_op(broadcast(rows, (*batch, *rows.shape[-2:])), broadcast(columns, (*batch, *columns.shape[-2:])))


def _broadcast_batch(a: Tensor, b: Tensor, left: Shape, right: Shape) -> Shape:
    rank = max(len(left), len(right))
    batch: list[Size] = []
    for p, q in zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True):
        if p != 1 and q != 1 and provably_different(p, q):
            raise ShapeError(operands_message("matmul: leading dimensions do not broadcast", [a, b],
                                              f"got {p} and {q}"))
        batch.append(q if p == 1 else p)
    return tuple(batch)


def dot(a: Any, b: Any) -> Tensor:
    """NumPy's dot: a product of scalars, vectors or matrices; otherwise a sum over the last axis of a and the last
    but one of b."""
    a, b = promote_operands(matmul_op, (a, b))
    if a.ndim == 0 or b.ndim == 0:
        product_: Tensor = registry["multiply"](a, b)
        return product_
    return matmul(a, b) if a.ndim <= 2 and b.ndim <= 2 else tensordot(a, b, ((-1,), (-2 if b.ndim > 1 else -1,)))


def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """The sum of products along one axis, the other axes broadcast."""
    a, b = promote_operands(matmul_op, (a, b))
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(operands_message("vecdot: needs at least 1 dimension on both sides", [a, b]))
    left = move_last(a, normalise_axis("vecdot", a, axis))
    right = move_last(b, normalise_axis("vecdot", b, axis))
    if provably_different(left.shape[-1], right.shape[-1]):
        raise ShapeError(operands_message("vecdot: lengths differ", [a, b],
                                          f"got {left.shape[-1]} and {right.shape[-1]}"))
    products = registry["multiply"](left, right)
    total: Tensor = registry["any" if products.dtype == bool else "sum"](products, axes=(products.ndim - 1,))
    return total if total.dtype == a.dtype else registry["astype"](total, dtype=a.dtype)


def outer(a: Any, b: Any) -> Tensor:
    """All products of an element of a and one of b; what is not a vector is flattened."""
    a, b = as_tensor(a), as_tensor(b)
    result: Tensor = registry["multiply"](reshape(a, (-1, 1)), reshape(b, (1, -1)))
    return result


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """The sum of products over pairs of axes: the last `axes` of a with the first of b, or those in a pair."""
    a, b = promote_operands(matmul_op, (a, b))
    inner_a, inner_b = _contracted(a, b, axes)
    outer_a = [axis for axis in range(a.ndim) if axis not in inner_a]
    outer_b = [axis for axis in range(b.ndim) if axis not in inner_b]
    for p, q in zip(inner_a, inner_b, strict=True):
        if provably_different(a.shape[p], b.shape[q]):
            raise ShapeError(operands_message("tensordot: contracted sizes differ", [a, b],
                                              f"axis {p} of a is {a.shape[p]}, axis {q} of b is {b.shape[q]}"))
    rows, columns = [a.shape[axis] for axis in outer_a], [b.shape[axis] for axis in outer_b]
    inner = [a.shape[axis] for axis in inner_a]
    left = reshape(permute_dims(a, outer_a + list(inner_a)), (product(rows), product(inner)))
    right = permute_dims(b, list(inner_b) + outer_b)
    right = reshape(right, (product(right.shape[:len(inner)]), product(columns)))
    return reshape(matmul_op(left, right), (*rows, *columns))


def _contracted(a: Tensor, b: Tensor, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ShapeError(operands_message(f"tensordot: cannot contract {axes} axes", [a, b]))
        return tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    if not isinstance(axes, tuple | list) or len(axes) != 2:
        raise ArgumentError(operands_message(f"tensordot: {axes!r} are not axes", [a, b],
                                             "needed an int, or a pair (axes of a, axes of b)"))
    first, second = normalise_axes("tensordot", a, axes[0]), normalise_axes("tensordot", b, axes[1])
    if len(first) != len(second):
        raise ShapeError(operands_message("tensordot: needs as many axes of a as of b", [a, b]))
    return first, second
