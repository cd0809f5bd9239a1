"""Operators that a CPU has its own instructions for: extremes, casts of floats to small integers, float remainders."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from ..mathematics.emit import Value, function, is_float, is_scalar, leaf, recorded
from ..mathematics.integer_math import DIVISIONS, division

SCALAR_LIBM = {"remainder": ("fmodf", "fmod"), "floor_divide": ("fmodf", "fmod")}
"""Functions that call libm for each element, with the float32 and the float64 function. Everything else vectorises."""


@recorded
def _extreme(name: str) -> Any:
    """nan wins, and -0 < +0, on floats (llvm.maximum, which reductions know); or/and on bools."""
    short = name[:3]

    def body(x: Value, y: Value) -> Value:
        if x.is_float:
            return x.call(f"llvm.{name}", y)
        if x.bits == 1:
            return x | y if short == "max" else x & y
        return x.call(f"llvm.{'u' if x.unsigned else 's'}{short}", y)

    return function(name, body, 2, accepts=is_scalar, doc=f"The {name} of two numbers; nan if either is nan.")


@recorded
def _wrapping(kind: Any) -> Any:
    """A cast to an integer. NumPy takes a float there by way of a wider signed integer, so that negative ones wrap
    around; Numba's own cast of a float that does not fit is undefined, one thing in a vector and another outside."""

    def resolve(x: Any) -> Any:
        source = types.unliteral(x)
        if not is_scalar(source):
            raise TypingError(f"{kind}: no kernel code for {x}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (value,) = arguments
            if not is_float(source):
                return context.cast(builder, value, source, kind)
            wide = ir.IntType(64 if kind.bitwidth >= 32 else 32)
            wrapped = builder.fptosi(value, wide)
            if kind.bitwidth < wide.width:
                return builder.trunc(wrapped, ir.IntType(kind.bitwidth))
            negative = builder.fcmp_ordered("<", value, ir.Constant(value.type, 0.0))
            return builder.select(negative, wrapped, builder.fptoui(value, wide))

        return kind(source), generate

    return leaf(str(kind), resolve, 1, f"x as {kind}, wrapped around.")


def _fmod(x: Value, y: Value) -> Value:
    return x.of(x.builder.frem(x.raw, y.raw))


FUNCTIONS = {
    "maximum": _extreme("maximum"), "minimum": _extreme("minimum"),
    **{str(kind): _wrapping(kind) for kind in (types.int8, types.uint8, types.int16, types.uint16, types.uint32,
                                               types.uint64)},
    **{name: division(name, _fmod) for name in DIVISIONS},
}
