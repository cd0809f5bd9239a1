"""Functions that rearrange elements, composed of the primitives of movement.py: none is an op of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..op import as_tensor, operands_message, registry
from ..shapes import as_size, normalise_axes, normalise_axis
from ..tensor import Tensor
from ..types import Dim, Size, modulo, provably_different
from .movement import broadcast_to, concat, expand_dims, flip_axes, joined, permute_dims, reshape, slice_axis


def transpose(x: Any, axes: Any = None, *more: int) -> Tensor:
    """The axes of x reversed, or in the order `axes`."""
    x = as_tensor(x)
    if axes is None:
        return permute_dims(x, tuple(reversed(range(x.ndim))))
    return permute_dims(x, (axes, *more) if more or not isinstance(axes, Sequence) else axes)


def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(operands_message("matrix_transpose: needs at least 2 dimensions", [x]))
    return swapaxes(x, -1, -2)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = as_tensor(x)
    order = list(range(x.ndim))
    first, second = normalise_axis("swapaxes", x, axis1), normalise_axis("swapaxes", x, axis2)
    order[first], order[second] = second, first
    return permute_dims(x, order)


def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Axes moved to other places; the rest keep their order."""
    x = as_tensor(x)
    origin, target = normalise_axes("moveaxis", x, source), normalise_axes("moveaxis", x, destination)
    if len(origin) != len(target):
        raise ArgumentError(operands_message("moveaxis: needs as many destinations as sources", [x],
                                             f"got {len(origin)} sources and {len(target)} destinations"))
    placed = dict(zip(target, origin))
    rest = iter(axis for axis in range(x.ndim) if axis not in origin)
    return permute_dims(x, [placed[axis] if axis in placed else next(rest) for axis in range(x.ndim)])


def move_last(x: Tensor, axis: int) -> Tensor:
    """One axis moved to the end."""
    return permute_dims(x, [*(number for number in range(x.ndim) if number != axis), axis])


def flatten(x: Any) -> Tensor:
    """All elements in row-major order, along one axis."""
    return reshape(x, (-1,))


def flip(x: Any, axis: Any = None) -> Tensor:
    """The elements in reverse order along the given axes, by default along all."""
    x = as_tensor(x)
    return flip_axes(x, normalise_axes("flip", x, axis))


def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Elements shifted along axes; what leaves at one end enters at the other. With axis=None x counts as flat.

    Shifts are ints, one for all axes or one for each.
    """
    tensor = as_tensor(x)
    if axis is None:
        return reshape(roll(flatten(tensor), shift, 0), tensor.shape)
    axes = [normalise_axis("roll", tensor, each) for each in (axis if isinstance(axis, Sequence) else (axis,))]
    shifts = list(shift) if isinstance(shift, Sequence) else [shift] * len(axes)
    if len(axes) == 1:
        axes *= len(shifts)
    if len(shifts) != len(axes):
        raise ArgumentError(operands_message("roll: needs as many shifts as axes", [tensor],
                                             f"got {len(shifts)} shifts and {len(axes)} axes"))
    for number, distance in zip(axes, shifts, strict=True):
        tensor = _roll_axis(tensor, number, as_size("roll", distance, [tensor]))
    return tensor


def _roll_axis(x: Tensor, axis: int, shift: Size) -> Tensor:
    size = x.shape[axis]
    if size == 0 or shift == 0:
        return x
    wrapped = modulo(shift, size)
    if wrapped == 0:
        return x
    return concat([slice_axis(x, axis, size - wrapped, wrapped), slice_axis(x, axis, 0, size - wrapped)], axis)


def tile(x: Any, repetitions: Any) -> Tensor:
    """x repeated as a whole: `repetitions` times along each axis; missing leading axes or counts are 1."""
    x = as_tensor(x)
    counts = _counts("tile", x, repetitions if isinstance(repetitions, Iterable) else (repetitions,))
    rank = max(len(counts), x.ndim)
    counts = [*[1] * (rank - len(counts)), *counts]
    shape = (1,) * (rank - x.ndim) + x.shape
    apart = reshape(x, [size for old in shape for size in (1, old)])
    stretched = broadcast_to(apart, [size for count, old in zip(counts, shape, strict=True) for size in (count, old)])
    return reshape(stretched, [count * old for count, old in zip(counts, shape, strict=True)])


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element `repeats` times, next to itself along an axis; axis=None flattens x first.

    `repeats` is one count for all, or known counts, one for each position of an axis of static size.
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = flatten(x), 0
    number = normalise_axis("repeat", x, axis)
    if isinstance(repeats, list | tuple) or (isinstance(repeats, np.ndarray) and repeats.ndim):
        return _repeat_each(x, _counts("repeat", x, repeats), number)
    [count] = _counts("repeat", x, (repeats,))
    apart = expand_dims(x, number + 1)
    stretched = broadcast_to(apart, (*x.shape[:number + 1], count, *x.shape[number + 1:]))
    return reshape(stretched, (*x.shape[:number], x.shape[number] * count, *x.shape[number + 1:]))


def _repeat_each(x: Tensor, counts: list[Size], axis: int) -> Tensor:
    """As many copies of each position as its own count says."""
    size = x.shape[axis]
    known = [count for count in counts if isinstance(count, int)]
    if len(known) != len(counts) or not isinstance(size, int) or len(counts) not in (1, size):
        raise ShapeError(operands_message(f"repeat: {len(counts)} counts do not fit axis {axis}", [x],
                                          f"needed {size} known counts, or one for all"))
    picked: Tensor = registry["gather"](x, np.repeat(np.arange(size), known), axis=axis)
    return picked


def _counts(function: str, x: Tensor, given: Iterable[Any]) -> list[Size]:
    counts = [as_size(function, count, [x]) for count in given]
    if any(isinstance(count, int) and count < 0 for count in counts):
        raise ArgumentError(operands_message(f"{function}: {_only(counts)} is negative", [x]))
    return counts


def _only(counts: Sequence[Size]) -> str:
    return str(counts[0]) if len(counts) == 1 else str(tuple(counts))


def stack(arrays: Iterable[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape, one after the other along a new axis."""
    tensors = joined("stack", arrays)
    first = tensors[0]
    for other in tensors[1:]:
        if other.ndim != first.ndim or any(map(provably_different, first.shape, other.shape)):
            raise ShapeError(operands_message("stack: shapes differ", tensors))
    number = normalise_axis("stack", first, axis, first.ndim + 1)
    return concat([expand_dims(tensor, number) for tensor in tensors], number)


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis of static size, each without that axis."""
    x = as_tensor(x)
    number = normalise_axis("unstack", x, axis)
    size = x.shape[number]
    if isinstance(size, Dim):
        raise ShapeError(operands_message(f"unstack: the size of axis {number} is not known", [x],
                                          f"needed a static size, got {size}"))
    rest = (*x.shape[:number], *x.shape[number + 1:])
    return tuple(reshape(slice_axis(x, number, start, 1), rest) for start in range(size))


def split(x: Any, sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along an axis: into `sections` equal parts, or before each of the given positions.

    A symbolic size is cut into equal parts when it divides for certain, as ``2 * batch`` into 2.
    """
    x = as_tensor(x)
    number = normalise_axis("split", x, axis)
    size = x.shape[number]
    if isinstance(sections, Iterable):
        cuts = [0, *(as_size("split", cut, [x]) for cut in sections), size]
    else:
        if not isinstance(sections, int) or isinstance(sections, bool) or sections < 1 or modulo(size, sections) != 0:
            raise ShapeError(operands_message(f"split: axis {number} does not divide into {sections} equal parts", [x],
                                              f"its size is {size}"))
        part = size // sections
        cuts = [part * count for count in range(sections + 1)]
    for low, high in itertools.pairwise(cuts):
        if isinstance(high - low, int) and high - low < 0:
            raise ShapeError(operands_message(f"split: positions go from {low} to {high}", [x],
                                              f"needed positions in order, none beyond {size}"))
    return tuple(slice_axis(x, number, low, high - low) for low, high in itertools.pairwise(cuts))
