"""Functions of where an element stands: triangles, diagonals, grids and neighbours. None is an op of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..op import as_tensor, broadcast_shapes, operands_message, registry
from ..shapes import as_size, normalise_axis
from ..tensor import Tensor
from ..types import Size, maximum_size, minimum_size
from . import reduction
from .indexing import gather_along_op
from .movement import broadcast_to, concat, reshape, slice_axis


def ramp(shape: tuple[Size, ...], axis: int) -> Tensor:
    """The int64 index along one axis of a shape."""
    result: Tensor = registry["iota"](shape=shape, axis=axis, dtype=np.dtype(np.int64))
    return result


def tril(x: Any, k: int = 0) -> Tensor:
    """x with zeros above the k-th diagonal of its last two axes."""
    return _triangle("tril", as_tensor(x), "less_equal", k)


def triu(x: Any, k: int = 0) -> Tensor:
    """x with zeros below the k-th diagonal of its last two axes."""
    return _triangle("triu", as_tensor(x), "greater_equal", k)


def _triangle(function: str, x: Tensor, compare: str, k: int) -> Tensor:
    offset = _matrix(function, x, k)
    shape = x.shape[-2:]
    kept = registry[compare](registry["subtract"](ramp(shape, 1), ramp(shape, 0)), offset)
    result: Tensor = registry["where"](kept, x, as_tensor(np.zeros((), x.dtype)))
    return result


def _matrix(function: str, x: Tensor, offset: Any) -> Size:
    """The number of a diagonal, as a size; an error unless x has a last and a last but one axis."""
    if x.ndim < 2:
        raise ShapeError(operands_message(f"{function}: needs at least 2 dimensions", [x]))
    return as_size(function, offset, [x])


def diagonal(x: Any, offset: int = 0) -> Tensor:
    """The elements of a diagonal of the last two axes (NumPy's diagonal takes the first two), along a new last axis."""
    x = as_tensor(x)
    number = _matrix("diagonal", x, offset)
    if not isinstance(number, int):
        raise ArgumentError(operands_message(f"diagonal: the offset {number} is not known", [x], "needed an int"))
    down, right = max(-number, 0), max(number, 0)
    rows, columns = maximum_size(x.shape[-2] - down, 0), maximum_size(x.shape[-1] - right, 0)
    length = minimum_size(rows, columns)
    square = slice_axis(x, x.ndim - 2, down if length != 0 else 0, length)
    positions = ramp((*square.shape[:-1], 1), x.ndim - 2)
    if right:
        positions = registry["add"](positions, right)
    return reshape(gather_along_op(square, positions, axis=x.ndim - 1), square.shape[:-1])


def trace(x: Any, offset: int = 0) -> Tensor:
    """The sum of a diagonal of the last two axes."""
    return reduction.sum(diagonal(x, offset), axis=-1)


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """All stretched to one shape."""
    if not arrays:
        return ()
    tensors = [as_tensor(array) for array in arrays]
    shape = broadcast_shapes("broadcast_arrays", tensors)
    return tuple(broadcast_to(tensor, shape) for tensor in tensors)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Vectors as coordinates of a grid: one tensor for each, with the first two axes exchanged for ``xy``."""
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    vectors = [reshape(array, (-1,)) for array in map(as_tensor, arrays)]
    order = list(range(len(vectors)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = [1, 0]
    shape = tuple(vectors[number].size for number in order)
    return tuple(broadcast_to(reshape(vector, [vector.size if place == number else 1 for place in order]), shape)
                 for number, vector in enumerate(vectors))


def diff(x: Any, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along an axis, `n` times over, after joining what is to be put before and after."""
    result = as_tensor(x)
    number = normalise_axis("diff", result, axis)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError(operands_message(f"diff: needs a number of times, got {n!r}", [result]))
    ends = [each for each in (prepend, result, append) if each is not None]
    result = concat(ends, number) if len(ends) > 1 and n > 0 else result  # nothing is joined for n = 0, as in NumPy
    for _ in range(n):
        size = maximum_size(result.shape[number] - 1, 0)
        later, earlier = slice_axis(result, number, 1 if size != 0 else 0, size), slice_axis(result, number, 0, size)
        result = registry["not_equal" if result.dtype == bool else "subtract"](later, earlier)
    return result
