"""Movement: ops that place elements without computing any.

Level: tensor graph and primitive graph. Views (`reshape`, `permute_dims`, `broadcast_to`, `slice`) become index maps
of the kernels that read them; `concat` and `pad` become selects. The functions here fold what changes nothing and
merge neighbours of the same kind, so a graph never carries a chain of reshapes; functions composed of these primitives
are in arrange.py and subscript.py.

Sizes may be symbolic everywhere, in starts and widths too. Where the result of a `slice` is empty its start may lie
outside of the axis, and where the operand of a `pad` is empty a width may be negative: the formulas of symbolic sizes
stay short that way, and nothing is read.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Inference, as_array, as_tensor, operands_message, primitive, promote_operands, registry
from ..shapes import as_shape, as_size, normalise_axes, normalise_axis, shape_text
from ..tensor import Tensor
from ..types import (
    Dim,
    Shape,
    Size,
    TensorType,
    divide_exactly,
    floor_divide,
    minimum_size,
    product,
    provably_different,
    sign_of,
)

Array = np.ndarray[Any, Any]
Width = tuple[Size, Size]


# reshape

def _infer_reshape(context: Inference, x: TensorType, *, shape: Shape) -> TensorType:
    before, after = product(x.shape), product(shape)
    if provably_different(before, after):
        raise context.shape_error("the number of elements differs",
                                  f"needed {before} elements, {shape_text(shape)} has {after}")
    context.same_size(after, before, "the number of elements differs")
    return TensorType(x.dtype, tuple(shape), x.weak)


reshape_op = primitive(
    "reshape", kind="view", doc="The same elements, in row-major order, in another shape.",
    infer=_infer_reshape, ref=lambda x, shape: np.reshape(x, shape),
    vjp=lambda ct, y, x, shape: (reshape(ct, x.shape),),
    examples=(((np.arange(6.0).reshape(2, 3),), {"shape": (3, 2)}),
              ((np.array(2.5),), {"shape": (1, 1)}),
              ((np.zeros((0, 3)),), {"shape": (3, 0, 2)})))


def reshape(x: Any, shape: Any, *more: Any, copy: bool | None = None) -> Tensor:
    """x in another shape of as many elements, in row-major order; one size may be -1.

    Sizes may be symbolic; where it is not decidable now whether the elements fit, the call checks it. `copy` is
    accepted for the standard's sake: nothing can change a tensor.
    """
    source = as_tensor(x)
    new = _fill_in(source, as_shape("reshape", (shape, *more) if more else shape, [source]))
    if new == source.shape:
        return source
    if source.op is reshape_op and not source.guards:
        source = source.inputs[0]
    return source if source.shape == new else reshape_op(source, shape=new)


def _fill_in(x: Tensor, shape: Shape) -> Shape:
    """The shape with its -1, if any, replaced by what is left of the elements of x."""
    negative = [size for size in shape if isinstance(size, int) and size < 0]
    if not negative:
        return shape
    if negative != [-1]:
        raise ShapeError(operands_message(f"reshape: {shape_text(shape)} is not a shape", [x],
                                          "at most one size may be -1, the others are not negative"))
    left, divisor = list(x.shape), product(1 if size == -1 else size for size in shape)
    if isinstance(divisor, Dim) or any(isinstance(size, Dim) for size in left):
        # Equal sizes cancel first, so that (batch + 1, 4) -> (batch + 1, -1) needs no division of polynomials.
        divisor = 1
        for size in shape:
            if size in left:
                left.remove(size)
            elif size != -1:
                divisor = divisor * size
    total = product(left)
    quotient = divide_exactly(total, divisor)
    if quotient is None:
        if isinstance(total, int) and isinstance(divisor, int):
            raise ShapeError(operands_message(f"reshape: cannot fill in the -1 of {shape_text(shape)}", [x],
                                              f"{total} elements do not divide by {divisor}"))
        quotient = floor_divide(total, divisor)  # the op's rule guards that nothing is left over
    return tuple(quotient if size == -1 else size for size in shape)


def expand_dims(x: Any, axis: Any = 0) -> Tensor:
    """x with an axis of size 1 put in at `axis`, or at each of several; positions are those of the result."""
    x = as_tensor(x)
    axes = axis if isinstance(axis, Sequence) else (axis,)
    rank = x.ndim + len(axes)
    places = normalise_axes("expand_dims", x, axes, rank)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if number in places else next(sizes) for number in range(rank)))


def squeeze(x: Any, axis: Any = None) -> Tensor:
    """x without the given axes, which must have static size 1; by default without all axes of static size 1."""
    x = as_tensor(x)
    if axis is None:
        return reshape(x, tuple(size for size in x.shape if size != 1))
    axes = normalise_axes("squeeze", x, axis)
    for number in axes:
        if x.shape[number] != 1:
            raise ShapeError(operands_message(f"squeeze: axis {number} is not of size 1", [x],
                                              f"needed 1, got {x.shape[number]}"))
    return reshape(x, tuple(size for number, size in enumerate(x.shape) if number not in axes))


# permute_dims

def _infer_permute(context: Inference, x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if sorted(axes) != list(range(x.ndim)):
        raise context.shape_error(f"{axes} is not a permutation of {x.ndim} axes")
    return TensorType(x.dtype, tuple(x.shape[axis] for axis in axes), x.weak)


def inverse_permutation(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `axes`."""
    return tuple(axes.index(number) for number in range(len(axes)))


permute_op = primitive(
    "permute_dims", kind="view", doc="The axes in another order: axis i of the result is axis axes[i] of x.",
    infer=_infer_permute, ref=lambda x, axes: np.transpose(x, axes),
    vjp=lambda ct, y, x, axes: (permute_dims(ct, inverse_permutation(axes)),),
    examples=(((np.arange(6.0).reshape(1, 2, 3),), {"axes": (2, 0, 1)}), ((np.zeros((0, 3)),), {"axes": (1, 0)})))


def permute_dims(x: Any, axes: Any) -> Tensor:
    """The axes of x in another order: axis i of the result is axis ``axes[i]`` of x."""
    x = as_tensor(x)
    order = normalise_axes("permute_dims", x, axes)
    if len(order) != x.ndim:
        raise ShapeError(operands_message(f"permute_dims: {order} is not a permutation of {x.ndim} axes", [x]))
    if x.op is permute_op:
        x, order = x.inputs[0], tuple(x.attrs["axes"][axis] for axis in order)
    return x if order == tuple(range(x.ndim)) else permute_op(x, axes=order)


# broadcast_to

def _infer_broadcast(context: Inference, x: TensorType, *, shape: Shape) -> TensorType:
    extra = len(shape) - x.ndim
    if extra < 0 or any(isinstance(size, int) and size < 0 for size in shape):
        raise context.shape_error(f"cannot stretch to {shape_text(shape)}")
    sizes = list(shape)
    for axis, old in enumerate(x.shape):
        if not (isinstance(old, int) and old == 1):
            sizes[extra + axis] = context.same_size(sizes[extra + axis], old, f"cannot stretch to {shape_text(shape)}")
    return TensorType(x.dtype, tuple(sizes), x.weak)


def _sum_stretched(ct: Tensor, x: Tensor) -> Tensor:
    """The sum over the axes along which x was stretched, in the shape of x."""
    extra = ct.ndim - x.ndim
    stretched = (axis + extra for axis, size in enumerate(x.shape) if size == 1 and ct.shape[axis + extra] != 1)
    axes = (*range(extra), *stretched)
    return reshape(registry["sum"](ct, axes=axes) if axes else ct, x.shape)


broadcast_op = primitive(
    "broadcast_to", kind="view", doc="x repeated along its axes of static size 1 and along new leading axes.",
    infer=_infer_broadcast, ref=lambda x, shape: np.broadcast_to(x, shape),
    vjp=lambda ct, y, x, shape: (_sum_stretched(ct, x),),
    examples=(((np.arange(3.0).reshape(3, 1),), {"shape": (2, 3, 4)}), ((np.array(1.5),), {"shape": (2, 1)}),
              ((np.ones((1, 2)),), {"shape": (0, 2)})))


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """x stretched to `shape` as NumPy does; a symbolic size is never stretched, even when it happens to be 1."""
    source = as_tensor(x)
    new = as_shape("broadcast_to", shape, [source])
    if new == source.shape:
        return source
    return broadcast_op(source.inputs[0] if source.op is broadcast_op and not source.guards else source, shape=new)


# slice

def _infer_slice(context: Inference, x: TensorType, *, starts: Shape, steps: tuple[int, ...],
                 shape: Shape) -> TensorType:
    if not len(starts) == len(steps) == len(shape) == x.ndim or 0 in steps:
        raise context.shape_error("needs a start, a step that is not 0, and a size for each axis")
    for axis, (old, start, step, size) in enumerate(zip(x.shape, starts, steps, shape, strict=True)):
        if not isinstance(size, int):
            continue  # the formula of the size is the bound's
        if size < 0:
            raise context.shape_error(f"size {size} of axis {axis} is negative")
        last = start + (size - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        for room in (low, old - high - 1) if size else ():
            if sign_of(room) != 1:
                context.same_size(minimum_size(room, 0), 0, f"axis {axis}, of size {old}, is too short")
    return TensorType(x.dtype, tuple(shape), x.weak)


def _slice_meaning(x: Array, starts: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Array:
    # An index that walks below zero would wrap around, hence the None.
    ends = [start + size * step for start, step, size in zip(starts, steps, shape)]
    return x[tuple(builtins.slice(0, 0) if size == 0 else builtins.slice(start, None if end < 0 else end, step)
                   for start, end, step, size in zip(starts, ends, steps, shape))]


def _slice_vjp(ct: Tensor, y: Tensor, x: Tensor, starts: Shape, steps: tuple[int, ...],
               shape: Shape) -> tuple[Tensor]:
    """Zeros with the cotangent put back: flipped where the step is negative, spread out where it is not 1."""
    ct = flip_axes(ct, [axis for axis, step in enumerate(steps) if step < 0])
    widths: list[Width] = []
    for axis, (old, start, step, size) in enumerate(zip(x.shape, starts, steps, shape, strict=True)):
        first = start if step > 0 else start + (size - 1) * step
        if abs(step) > 1:
            ct = _spread(ct, axis, abs(step))
            widths.append((first, old - first))  # longer than x by the zeros spread; cut below
        else:
            widths.append((first, old - first - size))
    padded = pad(ct, widths)
    return (slice_axes(padded, (0,) * x.ndim, (1,) * x.ndim, x.shape),)


def _spread(x: Tensor, axis: int, step: int) -> Tensor:
    """x with step - 1 zeros after each element along an axis."""
    apart = expand_dims(x, axis + 1)
    apart = pad(apart, [(0, step - 1) if number == axis + 1 else (0, 0) for number in range(apart.ndim)])
    return reshape(apart, (*x.shape[:axis], x.shape[axis] * step, *x.shape[axis + 1:]))


slice_op = primitive(
    "slice", kind="view", doc="Along each axis: out[i] = x[start + i * step], for `shape` elements.",
    infer=_infer_slice, ref=_slice_meaning, vjp=_slice_vjp,
    examples=(((np.arange(20.0).reshape(4, 5),), {"starts": (1, 0), "steps": (1, 2), "shape": (2, 3)}),
              ((np.arange(7.0),), {"starts": (5,), "steps": (-3,), "shape": (2,)}),
              ((np.arange(4.0),), {"starts": (3,), "steps": (-1,), "shape": (4,)}),
              ((np.arange(4.0),), {"starts": (2,), "steps": (1,), "shape": (0,)}),
              ((np.ones((1, 3)),), {"starts": (0, 2), "steps": (1, 1), "shape": (1, 1)})))


def slice_axes(x: Tensor, starts: Sequence[Size], steps: Sequence[int], shape: Sequence[Size]) -> Tensor:
    """``out[i] = x[start + i * step]`` along every axis; x itself where that is everything; a slice in x is merged."""
    begin, strides, sizes = list(starts), list(steps), tuple(shape)
    for axis, size in enumerate(sizes):
        if isinstance(size, int) and size <= 1:
            strides[axis] = 1  # the step of at most one element means nothing: one spelling for each slice
            begin[axis] = begin[axis] if size else 0
    if x.op is slice_op and not x.guards:
        inner = list(zip(x.attrs["starts"], x.attrs["steps"], strict=True))
        begin = [first + start * step for (first, step), start in zip(inner, begin, strict=True)]
        strides = [outer * step for (_, step), outer in zip(inner, strides, strict=True)]
        return slice_axes(x.inputs[0], begin, strides, sizes)
    if sizes == x.shape and all(start == 0 for start in begin) and all(step == 1 for step in strides):
        return x
    return slice_op(x, starts=tuple(begin), steps=tuple(strides), shape=sizes)


def slice_axis(x: Tensor, axis: int, start: Size, size: Size) -> Tensor:
    """`size` consecutive elements of one axis, from `start` on."""
    starts = [start if number == axis else 0 for number in range(x.ndim)]
    shape = [size if number == axis else old for number, old in enumerate(x.shape)]
    return slice_axes(x, starts, (1,) * x.ndim, shape)


def flip_axes(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The elements along the given axes in reverse order."""
    starts = [size - 1 if axis in axes else 0 for axis, size in enumerate(x.shape)]
    return slice_axes(x, starts, [-1 if axis in axes else 1 for axis in range(x.ndim)], x.shape)


# concat

def _infer_concat(context: Inference, *types: TensorType, axis: int) -> TensorType:
    first = types[0]
    if any(each.ndim != first.ndim for each in types) or not 0 <= axis < first.ndim:
        raise context.shape_error("needs tensors of the same number of dimensions, at least 1")
    if any(each.dtype != first.dtype for each in types):
        raise context.dtype_error("needs tensors of one dtype")
    sizes = list(first.shape)
    for each in types[1:]:
        for number, size in enumerate(each.shape):
            sizes[number] = (sizes[number] + size if number == axis else
                             context.same_size(sizes[number], size, f"sizes of axis {number} differ"))
    return TensorType(first.dtype, tuple(sizes), all(each.weak for each in types))


def _concat_vjp(ct: Tensor, y: Tensor, *xs: Tensor, axis: int) -> tuple[Tensor, ...]:
    pieces, start = [], 0
    for x in xs:
        pieces.append(slice_axis(ct, axis, start, x.shape[axis]))
        start = start + x.shape[axis]
    return tuple(pieces)


concat_op = primitive(
    "concat", kind="concat", doc="The operands one after the other along an axis.", operands="promote",
    infer=_infer_concat, ref=lambda *xs, axis: np.concatenate(xs, axis), vjp=_concat_vjp,
    examples=(((np.arange(6.0).reshape(2, 3), np.ones((1, 3)), np.zeros((0, 3))), {"axis": 0}),
              ((np.ones((2, 1)), np.arange(4.0).reshape(2, 2)), {"axis": 1})))


def joined(function: str, arrays: Iterable[Any]) -> list[Tensor]:
    """At least one array as tensors of one dtype."""
    if not isinstance(arrays, Iterable) or isinstance(arrays, str):
        raise ArgumentError(f"{function}: needs a list of tensors, got {arrays!r} of type {type(arrays).__name__}")
    given = list(arrays)
    if not given:
        raise ArgumentError(f"{function}: needs at least one tensor")
    return promote_operands(concat_op, given)


def concat(arrays: Iterable[Any], axis: int | None = 0) -> Tensor:
    """The tensors one after the other along an existing axis; with axis=None all are flattened first."""
    tensors = joined("concat", arrays)
    if axis is None:
        tensors, axis = [reshape(tensor, (-1,)) for tensor in tensors], 0
    if any(tensor.ndim == 0 for tensor in tensors):
        raise ShapeError(operands_message("concat: tensors without axes cannot be joined", tensors, "use sg.stack"))
    number = normalise_axis("concat", tensors[0], axis)
    return tensors[0] if len(tensors) == 1 else concat_op(*tensors, axis=number)


# pad

def _infer_pad(context: Inference, x: TensorType, *, widths: tuple[Width, ...], value: Any) -> TensorType:
    if len(widths) != x.ndim:
        raise context.shape_error(f"needs a pair of widths for each of {x.ndim} axes, got {len(widths)}")
    for axis, (low, high) in enumerate(widths):
        if any(isinstance(width, int) and width < 0 for width in (low, high)):
            raise context.shape_error(f"widths of axis {axis} are negative", f"got ({low}, {high})")
    return TensorType(x.dtype, tuple(low + size + high for size, (low, high) in zip(x.shape, widths, strict=True)))


def _pad_meaning(x: Array, widths: Sequence[tuple[int, int]], value: Any) -> Array:
    padded = np.full([low + size + high for size, (low, high) in zip(x.shape, widths)], value, x.dtype)
    if x.size:
        padded[tuple(builtins.slice(low, low + size) for size, (low, _) in zip(x.shape, widths))] = x
    return padded


pad_op = primitive(
    "pad", kind="pad", doc="x with a margin of one value around it: widths before and after, for each axis.",
    infer=_infer_pad, ref=_pad_meaning,
    vjp=lambda ct, y, x, widths, value: (
        slice_axes(ct, [low for low, _ in widths], (1,) * x.ndim, x.shape),),
    examples=(((np.arange(6.0).reshape(2, 3),), {"widths": ((1, 0), (0, 2)), "value": 1.5}),
              ((np.zeros((0,)),), {"widths": ((1, 2),), "value": 0.0})))


def pad(x: Any, widths: Any, constant_values: Any = 0) -> Tensor:
    """x with a margin of `constant_values`; `widths` as NumPy spells them.

    An int is for both ends of all axes, ``(low, high)`` for all axes, ``((low, high), …)`` one pair for each axis.
    Widths may be symbolic sizes.
    """
    tensor = as_tensor(x)
    pairs = _pad_widths(tensor, widths)
    value = _pad_value(tensor, constant_values)
    if all(isinstance(width, int) and width == 0 for pair in pairs for width in pair):
        return tensor
    return pad_op(tensor, widths=pairs, value=value)


def _pad_widths(x: Tensor, widths: Any) -> tuple[Width, ...]:
    items = list(widths) if isinstance(widths, Iterable) else [widths]
    nested = [isinstance(item, Iterable) for item in items]
    if not any(nested) and len(items) <= 2:
        pairs = [tuple(items)]
    else:
        pairs = [tuple(item) if many else (item,) for item, many in zip(items, nested)]
    if (any(nested) and not all(nested)) or any(len(pair) not in (1, 2) for pair in pairs):
        raise ArgumentError(operands_message(f"pad: {widths!r} are not widths", [x],
                                             "needed an int, (low, high), or ((low, high), ...) with a pair an axis"))
    if len(pairs) not in (1, x.ndim):
        raise ShapeError(operands_message(f"pad: {len(pairs)} pairs of widths for {x.ndim} axes", [x]))
    sized = [tuple(as_size("pad", width, [x]) for width in pair) for pair in pairs]
    full = [(pair[0], pair[-1]) for pair in sized]
    return tuple(full * x.ndim if len(full) == 1 else full)


def _pad_value(x: Tensor, value: Any) -> bool | int | float:
    array = as_array(value)
    rank = {"b": 0, "i": 1, "u": 1, "f": 2}
    bit = x.dtype.kind == "b" and isinstance(value, int) and value in (0, 1)     # the default is 0
    if array.ndim or (rank[array.dtype.kind] > rank[x.dtype.kind] and not bit):
        raise DTypeError(operands_message(f"pad: {value!r} is not a value of {x.dtype}", [x]))
    cast: bool | int | float = as_array(array.item(), x.dtype).item()
    return cast
