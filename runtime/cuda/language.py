"""The CUDA kernel language: every name that the text of a CUDA kernel may import.

A kernel is readable Python over int64 parameters, addresses and sizes, that one thread runs:

    from staticgraph.runtime.cuda.language import block, exp, input_float32, load4, pointer_float32, store4, thread

    def chain(a0, a1, stop):
        x = input_float32(a0)
        y = pointer_float32(a1)
        i = (block() * 256 + thread()) * 4
        if i < stop:
            p, q, r, s = load4(x, i)
            store4(y, i, exp(p), exp(q), exp(r), exp(s))

Memory (pointers.py): `pointer_<dtype>(address)`, `input_<dtype>(address)`, `shared_<dtype>(size)`,
`load2` ... `load16`, `store2` ... `store16`.
Threads (block.py): `thread`, `block`, `blocks`, `barrier`, `shuffle_xor`, `shuffle_down`, `shuffle_up`,
`shuffle_index`, `team_sum` and its like, `fail`.
Loops (loops.py): one over ``range`` with literal bounds is unrolled, and what it loads of an input is loaded once.
Operators (operators.py) and mathematics (the package `mathematics`) are the formulas of the CPU's kernel language, so
results are the same bits on both devices. What makes that hold: nothing carries fast-math flags except the accumulator
functions, divisions and square roots are rounded correctly, subnormals are kept, and translate.py forbids NVVM and the
assembler to contract a multiplication and an addition into one step where the text does not ask for it.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

from numpy import bool_, float32, float64

from ..mathematics import library
from . import arrays, operators, pointers
from . import block as threads

NAMES: dict[str, Any] = {
    **pointers.FUNCTIONS, **threads.FUNCTIONS, **arrays.FUNCTIONS,
    "float32": float32, "float64": float64, "bool_": bool_, "inf": inf, "nan": nan,
    **library.FUNCTIONS, **operators.FUNCTIONS,
}
"""Everything a kernel may import, by name."""

globals().update(NAMES)

__all__ = sorted(NAMES)
