"""``x[...]``: subscripts as NumPy reads them, on axes of static and symbolic size.

Ints, slices, None and Ellipsis become one `slice` and one `reshape`; integer arrays and tensors become gathers, several
of them one gather along the merged axis. Masks must be known when the graph is built. A bound that is a symbolic size
counts from the start and is clamped at both ends, also where it may turn out negative (``x[:batch - 5]``); one that is
negative for certain (``x[-batch:]``) counts from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, index_message
from ..op import as_array, as_tensor, broadcast_shapes, operands_message, registry
from ..shapes import as_size, shape_text
from ..tensor import Tensor
from ..types import Dim, Size, floor_divide, maximum_size, minimum_size, product, sign_of
from .arrange import moveaxis
from .indexing import checked, gather_op
from .movement import broadcast_to, permute_dims, reshape, slice_axes


def getitem(x: Any, key: Any) -> Tensor:
    """``x[key]`` with NumPy's meaning: ints, slices, None, Ellipsis, integer arrays and tensors, static masks."""
    x = as_tensor(x)
    items = [_plain(x, item) for item in (key if isinstance(key, tuple) else (key,))]
    starts: list[Size] = []
    steps: list[int] = []
    sizes: list[Size] = []
    kept: list[Size] = []  # the shape after ints and None
    picks: list[tuple[int, Any]] = []  # axes of that shape, and the positions to gather along them
    for item in _expand(x, items):
        if item is None:
            kept.append(1)
            continue
        axis, size = len(starts), x.shape[len(starts)]
        start: Size = 0
        step, count = 1, size
        if isinstance(item, int) and isinstance(size, int):
            start, count = _position(x, item, axis, size), 1
        elif isinstance(item, slice):
            start, step, count = _bounds(x, item, size)
            kept.append(count)
        else:
            picks.append((len(kept), checked("getitem", x, item, axis)))
            kept.append(size)
        starts.append(start)
        steps.append(step)
        sizes.append(count)
    result = reshape(slice_axes(x, starts, steps, sizes), kept)
    return _pick(result, picks, _goes_first(items)) if picks else result


def _plain(x: Tensor, item: Any) -> Any:
    """An item as None, Ellipsis, a slice, an int, an integer tensor, or an array of bools that is known now."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        raise ArgumentError(operands_message(f"getitem: {item} is not an index", [x]))
    if isinstance(item, Tensor | Dim):
        tensor = as_tensor(item)
        if tensor.dtype == bool:
            raise DTypeError(operands_message("getitem: a computed mask selects an unknown number of elements",
                                              [x, tensor], "use sg.where, or multiply by the mask"))
        return tensor
    array = np.zeros((0,), np.int64) if isinstance(item, list) and not item else as_array(item)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iu":
        raise DTypeError(operands_message("getitem: indices must be integers", [x], f"got {array.dtype}"))
    return int(array) if array.ndim == 0 else as_tensor(array)


def _expand(x: Tensor, items: list[Any]) -> list[Any]:
    """One item for each axis of x, and the Nones: Ellipsis and missing axes as slices, masks as what they select."""
    dots = [number for number, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError(operands_message("getitem: more than one '...'", [x]))
    used = sum(_axes_of(item) for item in items)
    if used > x.ndim:
        raise OutOfRangeError(operands_message(f"getitem: too many indices, {used} for {x.ndim} axes", [x]))
    place = dots[0] if dots else len(items)
    expanded: list[Any] = []
    axis = 0
    for item in (*items[:place], *[slice(None)] * (x.ndim - used), *items[place + 1:]):
        expanded.extend(_selected(x, item, axis) if isinstance(item, np.ndarray) else [item])
        axis += _axes_of(item)
    return expanded


def _axes_of(item: Any) -> int:
    """How many axes of the operand an item stands for."""
    return item.ndim if isinstance(item, np.ndarray) else 0 if item is None or item is Ellipsis else 1


def _selected(x: Tensor, mask: np.ndarray[Any, Any], axis: int) -> list[Tensor]:
    """The positions, one tensor an axis, where a mask of static sizes is true."""
    shape = x.shape[axis:axis + mask.ndim]
    if shape != mask.shape:
        raise ShapeError(operands_message(f"getitem: a mask of shape {shape_text(mask.shape)} does not fit", [x],
                                          f"needed {shape_text(shape)}, of static sizes"))
    return [as_tensor(positions) for positions in mask.nonzero()]


def _position(x: Tensor, index: int, axis: int, size: int) -> int:
    if not -size <= index < size:
        raise OutOfRangeError(operands_message(index_message(f"getitem, axis {axis}", index, size), [x]))
    return index % size


def _bounds(x: Tensor, item: slice, size: Size) -> tuple[Size, int, Size]:
    """Start, step and length of a slice of an axis."""
    start, stop, step = (None if bound is None else as_size("getitem", bound, [x])
                         for bound in (item.start, item.stop, item.step))
    if isinstance(step, Dim) or step == 0:
        raise ArgumentError(operands_message("getitem: the step of a slice must be an int other than 0", [x],
                                             f"got {step}"))
    step = 1 if step is None else step
    if isinstance(size, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        first, end, _ = slice(start, stop, step).indices(size)
        return first, step, len(range(first, end, step))
    return _forward(size, start, stop, step) if step > 0 else _backward(size, start, stop, step)


def _forward(size: Size, start: Size | None, stop: Size | None, step: int) -> tuple[Size, int, Size]:
    # Neither a start beyond the end nor a stop before 0 is clamped: the length is, and an empty slice reads nothing.
    first = 0 if start is None else _from_end(start, size)
    if sign_of(first - size) == 1:
        return 0, 1, 0  # beyond the end for certain
    end = size if stop is None else _from_end(stop, size)
    span = minimum_size(end - first, size - first)
    if sign_of(first) != 1:
        first, span = maximum_size(first, 0), minimum_size(span, minimum_size(end, size))
    if isinstance(size, int):
        first = minimum_size(first, size)
    return first, step, maximum_size(floor_divide(span + step - 1, step), 0)


def _backward(size: Size, start: Size | None, stop: Size | None, step: int) -> tuple[Size, int, Size]:
    given = size - 1 if start is None else _from_end(start, size)
    if sign_of(given + 1) == -1:
        return 0, 1, 0  # before the start for certain
    first = minimum_size(given, size - 1)
    end = -1 if stop is None else _from_end(stop, size)
    span = minimum_size(given - end, size - 1 - end)
    if sign_of(end + 1) != 1:
        span = minimum_size(span, first + 1)
    return first, step, maximum_size(floor_divide(span - step - 1, -step), 0)


def _from_end(bound: Size, size: Size) -> Size:
    return size + bound if bound != 0 and sign_of(bound) == -1 else bound


def _goes_first(items: list[Any]) -> bool:
    """NumPy's rule: where a slice, None or Ellipsis stands between indices, the axes of index arrays come first."""
    places = [number for number, item in enumerate(items)
              if isinstance(item, int | Tensor | np.ndarray)]
    return bool(places) and places[-1] - places[0] + 1 != len(places)


def _pick(x: Tensor, picks: list[tuple[int, Tensor]], first: bool) -> Tensor:
    """The elements of x at the positions given for some of its axes."""
    if all(positions.ndim == 0 for _, positions in picks):
        for axis, positions in reversed(picks):
            x = gather_op(x, positions, axis=axis)
        return x
    axes = [axis for axis, _ in picks]
    place = axes[0]
    if len(picks) == 1:
        positions = picks[0][1]
    else:
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        x = permute_dims(x, [*rest[:place], *axes, *rest[place:]])
        merged = slice(place, place + len(axes))
        positions = _merge([positions for _, positions in picks], x.shape[merged])
        x = reshape(x, (*x.shape[:place], product(x.shape[merged]), *x.shape[merged.stop:]))
    result = gather_op(x, positions, axis=place)
    count = positions.ndim
    return moveaxis(result, tuple(range(place, place + count)), tuple(range(count))) if first else result


def _merge(positions: list[Tensor], sizes: tuple[Size, ...]) -> Tensor:
    """Positions along several axes as positions along the merged axis."""
    shape = broadcast_shapes("getitem", positions)
    total = broadcast_to(positions[0], shape)
    for each, size in zip(positions[1:], sizes[1:], strict=True):
        total = registry["add"](registry["multiply"](total, size), broadcast_to(each, shape))
    return total
