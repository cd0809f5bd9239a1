"""Types of tensors: dtypes, and shapes whose sizes may be symbolic (see `sizes` and `size_equations`, which this module
hands on: whoever needs types needs them)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import DTypeError
from .size_equations import learn_sizes, learnable_symbols, open_symbol, solve_size
from .sizes import (
    Atom,
    Dim,
    Monomial,
    Shape,
    Size,
    divide_exactly,
    evaluate_size,
    floor_divide,
    maximum_size,
    minimum_size,
    modulo,
    product,
    provably_different,
    sign_of,
    simplify_terms,
    size_symbols,
    terms_of,
)

__all__ = [
    "Atom", "Dim", "Monomial", "SUPPORTED", "Shape", "Size", "TensorType", "as_dtype", "divide_exactly",
    "evaluate_size", "floor_divide", "is_anonymous", "learn_sizes", "learnable_symbols", "maximum_size",
    "minimum_size", "modulo", "open_symbol", "product", "promote", "provably_different", "sign_of",
    "simplify_terms", "size_symbols", "solve_size", "terms_of",
]

SUPPORTED = tuple(np.dtype(name) for name in (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"))


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """A supported NumPy dtype in native byte order; DTypeError otherwise."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"{dtype!r} is not a dtype") from None
    if result.newbyteorder("=") not in SUPPORTED:
        names = ", ".join(str(each) for each in SUPPORTED)
        raise DTypeError(f"dtype {result} is not supported; supported are {names}")
    native: np.dtype[Any] = result.newbyteorder("=")
    return native


@dataclass(frozen=True)
class TensorType:
    """dtype and shape of a tensor. `weak` marks values made of Dims and Python numbers only: they take the dtype of
    whatever they meet, as Python scalars do in NumPy 2."""

    dtype: np.dtype[Any]
    shape: Shape
    weak: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if is_anonymous(size) else str(size) for size in self.shape)}]"


def is_anonymous(size: Size) -> bool:
    """True for a bare anonymous symbol."""
    return isinstance(size, Dim) and str(size).startswith("?") and str(size)[1:].isdigit()


def promote(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The common dtype of strong operands, by NumPy 2's rules."""
    return as_dtype(np.result_type(*dtypes))
