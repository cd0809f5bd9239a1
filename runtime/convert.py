"""What the caller gives, as the arrays that kernels read.

Comes in: anything. Goes out: a contiguous, aligned array of the input's dtype, the caller's own where that is possible.
The rule is that nothing is lost in silence. An array is strong: its dtype must widen into the input's ("safe" in
NumPy's sense). Python numbers, and lists that hold nothing else, are weak: an int may become any float, and any
integer type that holds it; a float never becomes an integer. Shapes are not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from staticgraph.compiler.program import InputSpec
from staticgraph.errors import DTypeError, message
from staticgraph.types import TensorType

Array = np.ndarray[Any, Any]

WEAK = (bool, int, float)
"""Python's numbers, each of which may become what is right of it."""

ACCEPTED_WEAK = {"b": 1, "i": 2, "u": 2, "f": 3}
"""How many of `WEAK` a dtype of this kind accepts."""


def describe_input(spec: InputSpec) -> tuple[str, str, str, str]:
    """The input as an operand row of an error message."""
    return spec.name, str(TensorType(np.dtype(spec.dtype), spec.shape)), "", spec.location


def as_input(value: object, spec: InputSpec) -> Array:
    """The value as a contiguous, aligned array of the input's dtype; DTypeError where that would lose something."""
    if isinstance(value, np.ndarray | np.generic):
        return _from_array(value, spec)
    if type(value) in WEAK:
        return _from_numbers(value, spec)
    if isinstance(value, list | tuple):
        kinds = {type(leaf) for leaf in _leaves(value)}
        return _from_numbers(value, spec) if kinds <= set(WEAK) else _from_array(_gather(value, spec), spec)
    if type(value).__module__.split(".")[0] == "staticgraph":
        kind = type(value).__name__
        raise _refusal(spec, f"is a symbolic {kind}", "needed numbers; a variable's are in its .value")
    return _from_array(_gather(value, spec), spec)


def _leaves(value: list[Any] | tuple[Any, ...]) -> Iterator[object]:
    """All that is in nested lists. Not recursive: a list may be nested deeply, or in itself."""
    pending: list[Iterator[Any]] = [iter(value)]
    while pending and len(pending) <= 64:
        for leaf in pending[-1]:
            if isinstance(leaf, list | tuple):
                pending.append(iter(leaf))
                break
            yield leaf
        else:
            pending.pop()


def _gather(value: object, spec: InputSpec) -> Array:
    """An array of a list with arrays in it, or of an object that offers one."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise _refusal(spec, "cannot be made an array", f"NumPy says: {error}") from None


def _from_numbers(value: object, spec: InputSpec) -> Array:
    """Python numbers: weak, so the input's dtype decides, as far as it can hold them."""
    dtype = np.dtype(spec.dtype)
    leaves = _leaves(value) if isinstance(value, list | tuple) else iter((value,))
    weakest = max((WEAK.index(type(leaf)) for leaf in leaves), default=0)
    if weakest >= ACCEPTED_WEAK[dtype.kind]:
        raise _refusal(spec, f"holds a Python {WEAK[weakest].__name__}", f"needed values that {dtype} can hold exactly")
    try:
        return np.array(value, dtype=dtype, order="C")
    except OverflowError:
        raise _refusal(spec, f"holds an integer out of {dtype}'s range", _range(dtype)) from None
    except ValueError as error:
        raise _refusal(spec, "is not rectangular", f"NumPy says: {error}") from None


def _range(dtype: np.dtype[Any]) -> str:
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return f"needed {limits.min} to {limits.max}"


def _from_array(value: Array | np.generic[Any], spec: InputSpec) -> Array:
    """An array: strong, so its dtype must widen into the input's."""
    dtype = np.dtype(spec.dtype)
    if isinstance(value, np.ma.MaskedArray):
        raise _refusal(spec, "is a masked array", "needed plain numbers: use .filled()")
    if value.dtype.kind not in "biuf":
        raise _refusal(spec, f"is {value.dtype}, not numbers", f"got {_printed(value)}")
    if not np.can_cast(value.dtype, dtype, "safe"):
        raise _refusal(spec, f"is {value.dtype.newbyteorder('=')}, which {dtype} cannot hold without loss",
                       f"got {_printed(value)}; convert it with .astype({str(dtype)!r}) where that is meant")
    array = np.array(value, dtype=dtype, order="C", copy=None)
    return array if array.flags.aligned else array.copy()


def _printed(value: Array | np.generic[Any]) -> str:
    return str(TensorType(value.dtype.newbyteorder("="), value.shape))


def _refusal(spec: InputSpec, what: str, note: str) -> DTypeError:
    return DTypeError(message(f"input '{spec.name}' {what}", [describe_input(spec)], note))
