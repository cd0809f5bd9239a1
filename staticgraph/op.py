"""Op: one declaration an operation, and the registry.

An op's name, meaning in NumPy (`ref`), shape and dtype rule (`infer`), gradient (`vjp`), scalar formula (`scalar`) and
documentation stand in one place. Two constructors:

* `primitive(...)` - the small verified set that kernels are made of. `kind` tells the compiler what to do with it:
  "leaf", "elementwise", "reduction", "view", "gather", "scatter", "concat", "pad", "fold", "scan", "sort",
  "contraction", "windowed".
* `composite(...)` - named formulas such as softmax; they stay whole until the compiler decomposes them by `expand`.

An elementwise op converts its operands first: `operands` says to what ("promote": their common dtype, "float": the
same but integers and bools become float64, "number": the same but bools become int8, "integer" and "integer number":
the same for integers only, "bool", "choice": a bool and the rest promoted, "keep"); weak Python numbers and Dims
follow, and shapes are broadcast by explicit `broadcast_to` nodes; so every primitive sees operands of equal shape, and
no gradient needs to undo a broadcast.

Signatures: ``ref(*arrays, **attrs) -> array`` with sizes resolved to ints; ``infer(context, *types, **attrs) ->
TensorType``; ``vjp(ct, y, *inputs, **attrs) -> one Tensor or None per input``; ``expand(*inputs, **attrs) -> Tensor``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError, ShapeError, message
from .tensor import Guard, Tensor, build, operand_row
from .types import Dim, Shape, Size, TensorType, as_dtype, provably_different

Infer = Callable[..., TensorType]
KINDS = ("leaf", "elementwise", "reduction", "view", "gather", "scatter", "concat", "pad", "fold", "scan", "sort",
         "contraction", "windowed", "composite")


class Inference:
    """Handed to shape rules: raises errors that name the operands, and collects guards for what is undecidable."""

    def __init__(self, op: Op, inputs: Sequence[Tensor]) -> None:
        self.op = op
        self.inputs = inputs
        self.guards: list[Guard] = []

    def same_size(self, a: Size, b: Size, what: str) -> Size:
        """The common size of two that must agree (the static one if there is one); ShapeError or a guard if not. The
        text may have the field ``{left}`` for the value of the first; both are told where it has not."""
        if a == b:
            return a
        if provably_different(a, b):
            raise self.shape_error(what, f"got {a} and {b}")
        self.guards.append((a, b, what))
        return a if isinstance(a, int) or isinstance(b, Dim) else b

    def shape_error(self, what: str, *notes: str) -> ShapeError:
        return ShapeError(self._message(what, notes))

    def dtype_error(self, what: str, *notes: str) -> DTypeError:
        return DTypeError(self._message(what, notes))

    def _message(self, what: str, notes: Sequence[str]) -> str:
        return operands_message(f"{self.op.name}: {what}", self.inputs, *notes)


def operands_message(headline: str, operands: Sequence[Tensor], *notes: str) -> str:
    """An error text with one row per operand, labelled a, b, c …"""
    labels = "abcdefghijklmnopqrstuvwxyz"
    rows = [operand_row(labels[number % 26], tensor) for number, tensor in enumerate(operands)]
    return message(headline, rows, *notes)


@dataclass(eq=False)
class Op:
    """See the module docstring. Calling an op builds a node from tensors, arrays, numbers and Dims."""

    name: str
    kind: str
    doc: str
    infer: Infer
    ref: Callable[..., Any] | None = None
    vjp: Callable[..., Sequence[Tensor | None]] | None = None
    scalar: str | None = None
    expand: Callable[..., Tensor] | None = None
    operands: str = "keep"
    interned: bool = True
    connected: bool = True
    examples: tuple[Any, ...] = field(default=())

    def __post_init__(self) -> None:
        self.__doc__ = self.doc
        self.__name__ = self.name

    def __repr__(self) -> str:
        return f"<{self.kind} op {self.name}>"

    def __call__(self, *args: Any, **attrs: Any) -> Tensor:
        if self.kind == "elementwise":
            self._check_arguments(len(args), attrs)
            inputs = convert_operands(self, args)
        else:
            inputs = [as_tensor(arg) for arg in args]
        return build(self, inputs, attrs)

    def _check_arguments(self, count: int, attrs: Mapping[str, Any]) -> None:
        if self.scalar is not None:
            needed = 1 + max((int(digits) for digits in re.findall(r"{(\d+)}", self.scalar)), default=-1)
            if count != needed:
                raise ArgumentError(f"{self.name}: takes {needed} operand{'s' * (needed != 1)}, got {count}")
        if attrs and self.infer in (elementwise, predicate, floating):
            raise ArgumentError(f"{self.name}: has no argument called '{next(iter(attrs))}'")


registry: dict[str, Op] = {}
"""Every op by name."""


def primitive(name: str, *, doc: str, infer: Infer, ref: Callable[..., Any], kind: str = "elementwise",
              vjp: Callable[..., Sequence[Tensor | None]] | None = None, scalar: str | None = None,
              operands: str = "keep", interned: bool = True, examples: tuple[Any, ...] = ()) -> Op:
    """Declare and register a primitive op. Without `vjp` the op disconnects its inputs from any gradient.

    `scalar` is the formula of one element in the kernel language (``"exp({0})"``); elementwise ops need one to be
    compiled. `doc` is the help text. Raises ArgumentError if the name is taken by an op of the library.
    """
    return _register(Op(name, kind, doc, infer, ref, vjp, scalar, None, operands, interned, vjp is not None, examples))


def composite(name: str, *, doc: str, infer: Infer, expand: Callable[..., Tensor],
              ref: Callable[..., Any] | None = None, vjp: Callable[..., Sequence[Tensor | None]] | None = None,
              operands: str = "keep", connected: bool = True, examples: tuple[Any, ...] = ()) -> Op:
    """Declare and register a composite op: `expand` builds it from primitives. Without `vjp` its gradient is that of
    the expansion; without `ref` its meaning is that of the expansion."""
    return _register(Op(name, "composite", doc, infer, ref, vjp, None, expand, operands, True, connected, examples))


def _register(op: Op) -> Op:
    if op.kind not in KINDS:
        raise ArgumentError(f"op '{op.name}': kind '{op.kind}' is none of {', '.join(KINDS)}")
    if not isinstance(op.name, str) or not op.name.isidentifier():
        raise ArgumentError(f"an op's name is an identifier, got {op.name!r}")
    if op.name in registry:
        raise ArgumentError(f"an op called '{op.name}' exists already")
    registry[op.name] = op
    return op


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """A tensor as it is; a number, list or array as a constant; a Dim as its (weak) integer value.

    DTypeError for anything that is neither a number nor an array of a supported dtype.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Dim):
        return build(registry["size_of"], (), {"size": value})
    return build(registry["constant"], (), {"value": as_array(value, dtype)})


def as_array(value: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """A read-only contiguous array of a supported dtype; DTypeError names what was given."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise DTypeError(f"a ragged list is not an array: {_short(value)}") from None
    if array.dtype.kind not in "biuf" or array.dtype.newbyteorder("=") == np.float16:
        given = f"{type(value).__name__} {_short(value)}"
        if isinstance(value, np.ndarray):
            given = f"an array of {array.dtype}"
        raise DTypeError(f"{given} is not a number or an array of numbers")
    target = as_dtype(array.dtype if dtype is None else dtype)
    if dtype is not None and not isinstance(value, np.ndarray | np.generic):
        try:
            array = np.asarray(value, dtype=target)
        except (OverflowError, ValueError):  # too large, or nan
            raise DTypeError(f"{_short(value)} does not fit into {target}") from None
    array = np.array(array, dtype=target, order="C", copy=True)
    array.flags.writeable = False
    return array


def fitting_array(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The value as an array of a dtype that can hold it; DTypeError says what would be lost.

    Lossless and same-kind widening is accepted, float64 for float32 is not; Python numbers and lists are weak.
    """
    weak = not isinstance(value, np.ndarray | np.generic)
    try:
        array = np.asarray(value)
    except ValueError:
        raise DTypeError("a ragged list is not an array") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"got {type(value).__name__} of {array.dtype}")
    loose = weak and "biuf".index(array.dtype.kind) <= "biuf".index(dtype.kind.replace("i", "u"))
    if not (loose or np.can_cast(array.dtype, dtype, "safe")):
        raise DTypeError(f"got {array.dtype}, which would lose information; use astype")
    try:
        with np.errstate(over="raise"):
            return np.asarray(value, dtype=dtype) if weak else array.astype(dtype, copy=False)
    except (OverflowError, FloatingPointError):
        raise DTypeError(f"{_short(value)} does not fit into {dtype}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def convert_operands(op: Op, args: Sequence[Any]) -> list[Tensor]:
    """Operands of an elementwise op: one dtype as `op.operands` asks for, one shape by explicit broadcasts."""
    tensors = promote_operands(op, args)
    shape = broadcast_shapes(op.name, tensors)
    return [broadcast(tensor, shape) for tensor in tensors]


def promote_operands(op: Op, args: Sequence[Any]) -> list[Tensor]:
    """Arguments as tensors of the dtype that `op.operands` asks for."""
    if op.operands == "keep":
        return [as_tensor(arg) for arg in args]
    if op.operands == "choice":
        condition = _as_operand(args[0], np.dtype(bool), False)
        return [condition, *_as_operands(args[1:], common_dtype(args[1:]))]
    target = np.dtype(bool) if op.operands == "bool" else common_dtype(args)
    if op.infer is predicate and op.operands == "promote" and target.kind in "iu":
        beyond = [_beyond(arg, target) for arg in args]
        if any(beyond):  # NumPy 2 compares with any Python integer; one that no element reaches is as good as infinite
            target, args = np.dtype(np.float64), [sign or arg for sign, arg in zip(beyond, args, strict=True)]
    if op.operands == "float" and target.kind != "f":
        target = np.dtype(np.float64)
    if op.operands in ("number", "integer number") and target.kind == "b":
        target = np.dtype(np.int8)
    if op.operands.startswith("integer") and target.kind not in "biu":
        raise DTypeError(operands_message(f"{op.name}: needs integers or bools", [as_tensor(arg) for arg in args]))
    return _as_operands(args, target)


def _beyond(arg: Any, dtype: np.dtype[Any]) -> float | None:
    """The infinity on the side of a Python integer that the integer dtype cannot hold; None for all else."""
    if not isinstance(arg, int) or np.iinfo(dtype).min <= arg <= np.iinfo(dtype).max:
        return None
    return math.copysign(math.inf, arg)


def _as_operands(args: Sequence[Any], target: np.dtype[Any]) -> list[Tensor]:
    # What is made of Dims and Python numbers only stays weak, so that `(1.0 / batch) * x` keeps the dtype of x.
    weak = all(_is_weak(arg) for arg in args) and any(isinstance(arg, Tensor | Dim) for arg in args)
    return [_as_operand(arg, target, weak) for arg in args]


def _is_weak(arg: Any) -> bool:
    if isinstance(arg, Tensor):
        return arg.type.weak
    return isinstance(arg, Dim) or (isinstance(arg, bool | int | float) and not isinstance(arg, np.generic))


def _as_operand(arg: Any, target: np.dtype[Any], weak: bool) -> Tensor:
    mark = {"weak": True} if weak else {}
    if not isinstance(arg, Tensor | Dim | np.ndarray | np.generic) and target != np.dtype(bool):
        return build(registry["constant"], (), {"value": as_array(arg, target), **mark})
    tensor = as_tensor(arg)
    return tensor if tensor.dtype == target else build(registry["astype"], (tensor,), {"dtype": target, **mark})


def common_dtype(args: Sequence[Any]) -> np.dtype[Any]:
    """NumPy 2's result type: arrays and strong tensors promote, Python numbers, Dims and weak tensors follow."""
    parts: list[Any] = []
    for arg in args:
        if isinstance(arg, Tensor):
            parts.append(_weak_example(arg.dtype) if arg.type.weak else arg.dtype)
        elif isinstance(arg, Dim):
            parts.append(0)
        elif isinstance(arg, bool | int | float) and not isinstance(arg, np.generic):
            parts.append(type(arg)(0))
        else:
            parts.append(as_array(arg).dtype)
    return as_dtype(np.result_type(*parts))


def _weak_example(dtype: np.dtype[Any]) -> bool | int | float:
    return {"b": False, "i": 0, "u": 0}.get(dtype.kind, 0.0)


def broadcast_shapes(function: str, tensors: Sequence[Tensor]) -> Shape:
    """NumPy broadcasting of the operands' shapes. A static 1 stretches; a symbolic size never does."""
    shapes = [tensor.shape for tensor in tensors]
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max(len(shape) for shape in shapes)
    result: list[Size] = []
    for axis in range(-rank, 0):
        size: Size = 1
        for shape in shapes:
            other = shape[axis] if -axis <= len(shape) else 1
            if isinstance(other, int) and other == 1:
                continue
            if isinstance(size, int) and size == 1:
                size = other
            elif provably_different(size, other):
                raise ShapeError(operands_message(f"{function}: shapes do not broadcast", tensors,
                                                  f"sizes of axis {axis} are {size} and {other}"))
            elif isinstance(other, int):
                size = other
        result.append(size)
    return tuple(result)


def broadcast(tensor: Tensor, shape: Shape) -> Tensor:
    """The tensor stretched to `shape` by an explicit node; itself where nothing has to be stretched."""
    if tensor.shape == shape:
        return tensor
    if tensor.ndim == len(shape) and not any(
        isinstance(old, int) and old == 1 and old != new for old, new in zip(tensor.shape, shape, strict=True)
    ):
        return tensor  # sizes that may differ only at the call: the op's own rule guards them
    return build(registry["broadcast_to"], (tensor,), {"shape": shape})


# Shape and dtype rules of elementwise ops.

def elementwise(context: Inference, *types: TensorType, **attrs: Any) -> TensorType:
    """Operands of one dtype and shape; the result has both."""
    shape: Shape = types[0].shape
    for other in types[1:]:
        shape = tuple(context.same_size(a, b, "sizes of the operands differ")
                      for a, b in zip(shape, other.shape, strict=True))
    return TensorType(types[0].dtype, shape, all(each.weak for each in types))


def predicate(context: Inference, *types: TensorType, **attrs: Any) -> TensorType:
    """As `elementwise`, with a bool result."""
    return TensorType(np.dtype(bool), elementwise(context, *types).shape)


def floating(context: Inference, *types: TensorType, **attrs: Any) -> TensorType:
    """As `elementwise`, for ops that are declared with operands="float"."""
    result = elementwise(context, *types)
    if result.dtype.kind != "f":
        raise context.dtype_error("needs floating-point operands")
    return result
