"""The kernel language: every name that the text of a CPU kernel may import.

A kernel is readable Python over a table of int64 slots that Numba compiles as ``void(args, start, stop)``, and so does
our own front end (front_end.py), which is faster at it:

    from staticgraph.runtime.cpu.language import accumulate, exp, extent, float32, pointer_float32

    def row_exp_sum(args, start, stop):
        x = pointer_float32(args, 0)
        y = pointer_float32(args, 1)
        n = extent(args, 2)
        for row in range(start, stop):
            total = float32(0.0)
            for j in range(n):
                total = accumulate(total, exp(x[row * n + j]))
            y[row] = total

Memory (pointers.py): `pointer_<dtype>(args, slot)`, `local_<dtype>(size)`, `extent`, `address`, `shift`, `fail`,
`opaque` (a literal that loops are not unrolled by), `prefetch`.
Operators (operators.py, and those that all devices share): what Python's lack or do differently from NumPy.
Mathematics, and random bits (the package `mathematics`): straight-line code that vectorises, for both float widths,
without float64 in float32 code; the exceptions are listed in operators.SCALAR_LIBM. What has rare cases is a call of a
function over vectors (outlined.py).
Matrices (gemm.py): `multiply_rows`. Convolutions (conv.py): `fill_windows`, `multiply_windows`, `gather_windows`.
Literals and casts: `float32(0.5)`, `int64(x)`, ... are NumPy's scalar types, which Numba knows; but those of the other
integers (operators.py) are functions that treat floats which do not fit as NumPy does.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

from numpy import bool_, float32, float64, int32, int64

from ..mathematics import library
from . import conv, gemm, operators, outlined, pointers
from .pointers import address, extent, fail, opaque, prefetch, shift

NAMES: dict[str, Any] = {
    **{f"pointer_{dtype}": function for dtype, function in pointers.POINTERS.items()},
    **{f"local_{dtype}": function for dtype, function in pointers.LOCALS.items()},
    "extent": extent, "address": address, "shift": shift, "fail": fail,
    "opaque": opaque, "prefetch": prefetch,
    **{scalar.__name__: scalar for scalar in (float32, float64, int32, int64)},
    "bool_": bool_, "inf": inf, "nan": nan,
    **library.FUNCTIONS, **outlined.FUNCTIONS, **operators.FUNCTIONS, **gemm.FUNCTIONS, **conv.FUNCTIONS,
}
"""Everything a kernel may import, by name."""

globals().update(NAMES)

__all__ = sorted(NAMES)
