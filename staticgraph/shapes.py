"""What users write for axes, sizes and shapes, checked and normalised; shared by the functions in ops.

Everything here raises in the name of the function that the user called, with one row per operand.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import ArgumentError, ShapeError
from .op import operands_message
from .tensor import Tensor
from .types import Dim, Shape, Size


def normalise_axis(function: str, x: Tensor, axis: Any, rank: int | None = None) -> int:
    """The axis counted from the front. `rank` is the number of axes to count in, when it is not that of x."""
    rank = x.ndim if rank is None else rank
    number = _as_index(function, x, axis, "an axis")
    if not -rank <= number < rank:
        raise ShapeError(operands_message(f"{function}: axis {number} is out of range", [x],
                                          f"needed an axis of {rank} dimension{'s' * (rank != 1)}"))
    return number % rank


def normalise_axes(function: str, x: Tensor, axes: Any, rank: int | None = None) -> tuple[int, ...]:
    """The axes counted from the front, in the order given; None is all of them, an int is one."""
    rank = x.ndim if rank is None else rank
    if axes is None:
        return tuple(range(rank))
    given = axes if isinstance(axes, Sequence) else (axes,)
    result = tuple(normalise_axis(function, x, axis, rank) for axis in given)
    if len(set(result)) != len(result):
        raise ShapeError(operands_message(f"{function}: an axis is repeated in {tuple(given)}", [x]))
    return result


def as_size(function: str, value: Any, operands: Sequence[Tensor] = ()) -> Size:
    """A size, or anything else that may be an int or a Dim; the sign is the caller's to check."""
    if isinstance(value, Dim):
        return value
    try:
        if isinstance(value, bool | Tensor):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ArgumentError(operands_message(f"{function}: {_article(value)} is not a size", operands,
                                             "needed an int or a symbolic size")) from None


def as_shape(function: str, shape: Any, operands: Sequence[Tensor] = ()) -> Shape:
    """A shape from a size or several; negative ints are the caller's to judge."""
    if isinstance(shape, Iterable) and not isinstance(shape, str | Tensor):
        return tuple(as_size(function, size, operands) for size in shape)
    return (as_size(function, shape, operands),)


def shape_text(shape: Sequence[Size]) -> str:
    """A shape as it prints in messages: ``(batch, 64)``."""
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _as_index(function: str, x: Tensor, value: Any, what: str) -> int:
    try:
        if isinstance(value, bool | Tensor):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ArgumentError(operands_message(f"{function}: {_article(value)} is not {what}", [x],
                                             "needed an int")) from None


def _article(value: Any) -> str:
    return "a tensor" if isinstance(value, Tensor) else f"{value!r} of type {type(value).__name__}"
