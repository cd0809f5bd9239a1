"""Leaves: where values come from.

Placeholders and variables are themselves (never merged); constants, index ramps and run-time sizes are merged like any
other node. A filled array of any size is a broadcast scalar constant, so that it costs nothing and rules can see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..op import Inference, as_array, as_tensor, broadcast, primitive, registry
from ..shapes import as_shape
from ..tensor import Tensor, VariableState, build
from ..types import Dim, Shape, Size, TensorType, as_dtype, floor_divide, maximum_size

__all__ = ["arange", "asarray", "constant", "e", "empty", "empty_like", "eye", "full", "full_like", "inf", "linspace",
           "nan", "newaxis", "ones", "ones_like", "pi", "placeholder", "variable", "zeros", "zeros_like"]

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None


def _declared(context: Inference, *, shape: Shape, dtype: np.dtype[Any]) -> TensorType:
    return TensorType(dtype, shape)


def _unfed(**attrs: Any) -> Any:
    raise ArgumentError("a placeholder or variable has no value of its own")  # the interpreter looks values up


def _iota_ref(shape: tuple[int, ...], axis: int | None, dtype: np.dtype[Any]) -> Any:
    if axis is None:
        return np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    ramp = np.arange(shape[axis]).reshape([-1 if each == axis else 1 for each in range(len(shape))])
    return np.broadcast_to(ramp, shape).astype(dtype)


placeholder_op = primitive("placeholder", kind="leaf", doc="An input of the graph.", infer=_declared, ref=_unfed,
                           interned=False)
variable_op = primitive("variable", kind="leaf", doc="State that persists between calls.", infer=_declared, ref=_unfed,
                        interned=False)
constant_op = primitive(
    "constant", kind="leaf", doc="A fixed array.",
    infer=lambda context, value, weak=False: TensorType(value.dtype, value.shape, weak),
    ref=lambda value, weak=False: value)
iota = primitive(
    "iota", kind="leaf", doc="The index along one axis, or (axis None) the number of each element in row-major order.",
    infer=lambda context, shape, axis, dtype: TensorType(dtype, shape), ref=_iota_ref)
size_of = primitive(
    "size_of", kind="leaf", doc="A symbolic size as a weak integer.",
    infer=lambda context, size: TensorType(np.dtype(np.int64), (), weak=True), ref=lambda size: np.int64(size))


def placeholder(name: str, shape: Sequence[int | str | Dim | None], dtype: Any = "float32") -> Tensor:
    """An input that is fed at each call. Sizes: an int, a name (equal names are equal sizes), or None (any size).

    >>> x = sg.placeholder("x", shape=("batch", 64), dtype="float32")
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"placeholder: the name must be a non-empty string, got {name!r}")
    if not isinstance(shape, tuple | list):
        raise ArgumentError(f"placeholder '{name}': shape must be a tuple such as (\"batch\", 64), got {shape!r}")
    sizes = tuple(_declared_size(name, size) for size in shape)
    node = build(placeholder_op, (), {"shape": sizes, "dtype": as_dtype(dtype)})
    node._label = name
    return node


def _declared_size(name: str, size: Any) -> Size:
    if size is None:
        return Dim.anonymous()
    if isinstance(size, str):
        if not size.isidentifier():
            raise ShapeError(f"placeholder '{name}': a size's name must be an identifier, got {size!r}")
        return Dim.symbol(size)
    return _sizes(f"placeholder '{name}'", size)[0]


def _sizes(function: str, shape: Any) -> Shape:
    """A shape of non-negative ints and Dims from one size or several."""
    sizes = as_shape(function, shape)
    for size in sizes:
        if isinstance(size, int) and size < 0:
            raise ShapeError(f"{function}: a size cannot be negative, got {size}")
    return sizes


def variable(value: Any, name: str | None = None) -> Tensor:
    """Persistent state with an initial value; updates of a compiled step write it, ``.value`` reads and assigns it."""
    if isinstance(value, Tensor):
        raise ArgumentError("variable: needs an array, not a symbolic tensor; evaluate it first")
    array = np.array(as_array(value), copy=True)
    node = build(variable_op, (), {"shape": array.shape, "dtype": array.dtype})
    node._state = VariableState(array)
    node._label = name
    return node


def constant(value: Any, dtype: Any = None) -> Tensor:
    """A fixed array in the graph; numbers and lists take NumPy's dtype unless one is given."""
    if isinstance(value, Tensor):
        raise ArgumentError("constant: needs an array, not a symbolic tensor; use sg.astype to cast one")
    return as_tensor(value, dtype)


def asarray(value: Any, dtype: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor as it is or cast; anything else as a constant. `copy` says nothing about tensors, which never change."""
    tensor = as_tensor(value, dtype)
    if dtype is None or tensor.dtype == as_dtype(dtype):
        return tensor
    return build(registry["astype"], (tensor,), {"dtype": as_dtype(dtype)})


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """An array of one value. Sizes may be Dims; the value may be a 0-d tensor."""
    value = as_tensor(fill_value) if isinstance(fill_value, Tensor | Dim) else as_tensor(fill_value, dtype)
    if value.ndim:
        raise ShapeError(f"full: the value must be a scalar, got {value.type}")
    if dtype is not None and value.dtype != as_dtype(dtype):
        value = build(registry["astype"], (value,), {"dtype": as_dtype(dtype)})
    return broadcast(value, _sizes("full", shape))


def zeros(shape: Any, dtype: Any = None) -> Tensor:
    """An array of zeros, of float64 unless a dtype is given."""
    return full(shape, 0, "float64" if dtype is None else dtype)


def ones(shape: Any, dtype: Any = None) -> Tensor:
    """An array of ones, of float64 unless a dtype is given."""
    return full(shape, 1, "float64" if dtype is None else dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """One value in the shape (and, unless given, the dtype) of x."""
    x = as_tensor(x)
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype)


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros in the shape and dtype of x."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones in the shape and dtype of x."""
    return full_like(x, 1, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """Evenly spaced values as `np.arange`; start and stop may be Dims, then step is an int."""
    if stop is None:
        start, stop = 0, start
    if not all(isinstance(each, Dim) or _is_finite_number(each) for each in (start, stop, step)):
        raise ArgumentError(f"arange: needs numbers or Dims, got {start!r}, {stop!r}, {step!r}")
    if isinstance(step, Dim) or step == 0:
        raise ArgumentError(f"arange: step must be a number other than zero, got {step!r}")
    floats = any(isinstance(each, float | np.floating) for each in (start, stop, step))
    target = as_dtype(dtype if dtype is not None else "float64" if floats else "int64")
    count: Size
    if isinstance(start, Dim) or isinstance(stop, Dim):
        if floats:
            raise ArgumentError(f"arange: a symbolic range needs integer ends and step, got {start}, {stop}, {step}")
        distance_, stride = (stop - start, int(step)) if step > 0 else (start - stop, -int(step))
        count = maximum_size(0, floor_divide(distance_ + stride - 1, stride))
    else:
        count = max(0, math.ceil((stop - start) / step))
    ramp: Tensor = iota(shape=(count,), axis=0, dtype=target)
    # NumPy's rule: the distance is that of the first two values, rounded to the dtype.
    if isinstance(start, Dim):
        return ramp * int(step) + start
    first = target.type(start)
    distance = target.type(target.type(start + step) - first)
    if distance != 1:
        ramp = ramp * distance
    return ramp + first if first != 0 else ramp


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) \
        and math.isfinite(value)


def linspace(start: float, stop: float, num: int, dtype: Any = None, endpoint: bool = True) -> Tensor:
    """`num` evenly spaced numbers from start to stop, which are numbers."""
    if not all(isinstance(each, int | float | np.integer | np.floating) for each in (start, stop, num)):
        raise ArgumentError(f"linspace: needs numbers, got {start!r}, {stop!r}, {num!r}")
    if not isinstance(num, int | np.integer) or num < 0:
        raise ArgumentError(f"linspace: num is how many numbers, an integer from 0 on, got {num!r}")
    return as_tensor(np.linspace(start, stop, num, endpoint=endpoint), "float64" if dtype is None else dtype)


def eye(rows: Size, columns: Size | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    shape = _sizes("eye", (rows, rows if columns is None else columns))
    row = iota(shape=shape, axis=0, dtype=np.dtype(np.int64))
    column = iota(shape=shape, axis=1, dtype=np.dtype(np.int64))
    return build(registry["astype"], (column - row == k,), {"dtype": as_dtype("float64" if dtype is None else dtype)})


empty, empty_like = zeros, zeros_like  # a graph has no memory to leave uninitialised


def constant_scalar(x: Tensor) -> Any:
    """The NumPy scalar that every element of x is known to be, seen through broadcasts; None if not known."""
    while x.op.name == "broadcast_to":
        x = x.inputs[0]
    if x.op is constant_op and x.attrs["value"].size == 1:
        return x.attrs["value"].reshape(())[()]
    return None


def _dim_to_tensor(dim: Dim) -> Tensor:
    return size_of(size=dim)


Dim.to_tensor = staticmethod(_dim_to_tensor)
