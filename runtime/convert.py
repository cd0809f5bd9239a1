"""What the caller gives, as the arrays that kernels read.

Comes in: anything. Goes out: a contiguous, aligned array of the input's dtype, the caller's own where that is possible.
The rule is that nothing is lost in silence. An array is strong: its dtype must widen into the input's ("safe" in
NumPy's sense). Python numbers, alone or in lists, are weak: an int may become any float, and any integer type that
holds it; a float never becomes an integer. Shapes are not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
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

MAXIMUM_RANK = 64


def describe_input(spec: InputSpec) -> tuple[str, str, str, str]:
    """The input as an operand row of an error message."""
    return spec.name, str(TensorType(np.dtype(spec.dtype), spec.shape)), "", spec.location


def as_input(value: object, spec: InputSpec) -> Array:
    """The value as a contiguous, aligned array of the input's dtype; DTypeError where that would lose something."""
    if isinstance(value, np.ndarray | np.generic):
        return _from_array(value, spec)
    if type(value) in WEAK:
        return _from_leaves(value, {type(value)}, spec)
    if isinstance(value, list | tuple | range):
        kinds = {_kind(leaf) for leaf in _leaves(value)}
        return _from_array(_gather(value, spec), spec) if None in kinds else _from_leaves(value, kinds, spec)
    if hasattr(value, "__cuda_array_interface__"):
        raise _refusal(spec, "is on a GPU",
                       "needed an array of the host; copy it there first: .numpy(), .cpu() or .get()")
    if type(value).__module__.split(".")[0] == "staticgraph":
        kind = type(value).__name__
        raise _refusal(spec, f"is a symbolic {kind}", "needed numbers; those of a variable are its .value")
    return _from_array(_gather(value, spec), spec)


def _leaves(value: Sequence[Any]) -> Iterator[object]:
    """All that is in nested lists. Not recursive, and it gives up where NumPy does: a list may hold itself."""
    pending = [iter(value)]
    while pending and len(pending) <= MAXIMUM_RANK:
        for leaf in pending[-1]:
            if isinstance(leaf, list | tuple | range):
                pending.append(iter(leaf))
                break
            yield leaf
        else:
            pending.pop()


def _kind(leaf: object) -> Any:
    """The Python type of a weak number, the dtype of a strong one, None for all else."""
    if type(leaf) in WEAK:
        return type(leaf)
    return leaf.dtype if isinstance(leaf, np.ndarray | np.generic) else None


def _from_leaves(value: object, kinds: AbstractSet[Any], spec: InputSpec) -> Array:
    """Numbers, Python's or NumPy's, one or nested in lists: each kind of them must fit."""
    dtype = np.dtype(spec.dtype)
    for kind in sorted(kinds, key=str):
        if isinstance(kind, np.dtype):
            _check_strong(kind, spec, f"got a list with {kind} in it")
        elif WEAK.index(kind) >= ACCEPTED_WEAK[dtype.kind]:
            raise _refusal(spec, f"holds a Python {kind.__name__}, which {dtype} cannot hold without loss",
                           f"got {_brief(value)}")
    try:
        with np.errstate(over="raise"):
            return np.array(value, dtype=dtype, order="C")
    except (OverflowError, FloatingPointError):
        limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        raise _refusal(spec, f"holds a number out of {dtype}'s range", f"got {_brief(value)}",
                       f"needed {limits.min} to {limits.max}") from None
    except ValueError as error:
        raise _refusal(spec, "is not rectangular", f"NumPy says: {error}") from None


def _gather(value: object, spec: InputSpec) -> Array:
    """An array of an object that offers one, or of a list with such objects in it."""
    try:
        array = np.asarray(value)
    except Exception as error:     # whatever a foreign __array__ raises
        raise _refusal(spec, f"cannot be made from {_article(value)}", f"NumPy says: {error}") from None
    if array.dtype.kind in ACCEPTED_WEAK:
        return array
    raise _refusal(spec, f"cannot be made from {_article(value)}", f"got {_brief(value)}",
                   "needed a real number, a list of them, or an array")


def _from_array(value: Array | np.generic[Any], spec: InputSpec) -> Array:
    """An array: strong, so its dtype must widen into the input's."""
    if isinstance(value, np.ma.MaskedArray):
        raise _refusal(spec, "is a masked array", "needed plain numbers: use .filled()")
    _check_strong(value.dtype, spec, f"got {_printed(value)}")
    array = np.array(value, dtype=np.dtype(spec.dtype), order="C", copy=None)
    return array if array.flags.aligned else array.copy()


def _check_strong(given: np.dtype[Any], spec: InputSpec, got: str) -> None:
    dtype, native = np.dtype(spec.dtype), given.newbyteorder("=")
    if given.kind not in ACCEPTED_WEAK:
        raise _refusal(spec, f"is {native}, not real numbers", got)
    if not np.can_cast(given, dtype, "safe"):
        raise _refusal(spec, f"is {native}, which {dtype} cannot hold without loss", got,
                       f"where the loss is meant, convert it first: .astype({str(dtype)!r})")


def _article(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _printed(value: Array | np.generic[Any]) -> str:
    return str(TensorType(value.dtype.newbyteorder("="), value.shape))


def _refusal(spec: InputSpec, what: str, *notes: str) -> DTypeError:
    return DTypeError(message(f"input '{spec.name}' {what}", [describe_input(spec)], *notes))
