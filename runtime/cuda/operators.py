"""Operators whose formula on the CPU has no counterpart in NVVM: other instructions, the same results.

Extremes: NVVM's LLVM is older than llvm.maximum and llvm.smax. Remainders: there is no fmod, so it is a long division
of the mantissas as integers, which is exact. Casts of floats to integers: what does not fit saturates on a GPU, where a
CPU gives its one invalid result, the smallest integer; here it is that result too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core.errors import TypingError
from numba.cuda import types

from ..mathematics.emit import (
    Value,
    absolute,
    copysign,
    from_bits,
    function,
    is_float,
    is_integral,
    is_scalar,
    leaf,
    select,
    to_bits,
)
from ..mathematics.integer_math import DIVISIONS, division

INF = float("inf")
NAN = float("nan")

WIDE = ir.IntType(64)
MANTISSA_BITS = {32: 23, 64: 52}


def extreme(name: str) -> Callable[[Value, Value], Value]:
    """nan wins, and -0 < +0, on floats; or/and on bools."""
    operator = ">" if name == "maximum" else "<"

    def body(x: Value, y: Value) -> Value:
        if x.bits == 1:
            return x | y if name == "maximum" else x & y
        if not x.is_float:
            return select(x.compare(operator, y), x, y)
        if x.bits == 32:
            return _assembly(x, f"{name[:3]}.NaN.f32 $0, $1, $2;", y)
        unordered = Value(x.builder, x.builder.fcmp_unordered("uno", x.raw, y.raw))
        return select(unordered, x + y, _assembly(x, f"{name[:3]}.f64 $0, $1, $2;", y))

    return body


def _assembly(x: Value, text: str, y: Value) -> Value:
    """One PTX instruction of two operands."""
    letter = "f" if x.bits == 32 else "d"
    kind = ir.FunctionType(x.raw.type, [x.raw.type] * 2)
    return x.of(x.builder.asm(kind, text, f"={letter},{letter},{letter}", [x.raw, y.raw], side_effect=False))


def _mantissa_and_exponent(size: Value) -> tuple[Value, Value]:
    """A float's size as an integer times 2**exponent, both 64 bits wide; the exponent counts from the subnormals."""
    builder, shift = size.builder, MANTISSA_BITS[size.bits]
    bits = to_bits(size).raw
    wide = Value(builder, bits if size.bits == 64 else builder.zext(bits, WIDE), unsigned=True)
    exponent, fraction = wide >> shift, wide & (1 << shift) - 1
    subnormal = exponent.equals(0)
    return select(subnormal, fraction, fraction | 1 << shift), select(subnormal, 0, exponent - 1)


def _long_division(rest: Value, exponent: Value, divisor: Value, step: int) -> Value:
    """rest * 2**exponent modulo the divisor, `step` bits at a time. The exponent is signed; below 1, rest stays."""
    builder = rest.builder
    start = builder.block
    loop, done = builder.append_basic_block("remainder"), builder.append_basic_block("remainder.done")
    builder.cbranch((exponent > 0).raw, loop, done)
    builder.position_at_end(loop)
    left, current = (value.of(builder.phi(WIDE)) for value in (exponent, rest))
    count = select(left < step, left, step)
    product = current << count
    following = product.of(builder.urem(product.raw, divisor.raw))
    remaining = left - count
    builder.cbranch((remaining > 0).raw, loop, done)
    for phi, first, then in ((left, exponent, remaining), (current, rest, following)):
        phi.raw.add_incoming(first.raw, start)
        phi.raw.add_incoming(then.raw, loop)
    builder.position_at_end(done)
    result = builder.phi(WIDE)
    result.add_incoming(rest.raw, start)
    result.add_incoming(following.raw, loop)
    return rest.of(result)


def _float_of(mantissa: Value, exponent: Value, like: Value) -> Value:
    """An integer below 2**(mantissa bits + 1) times 2**exponent as a float; exact."""
    builder, shift = like.builder, MANTISSA_BITS[like.bits]
    zeros = Value(builder, builder.ctlz(mantissa.raw, ir.Constant(ir.IntType(1), 0)))
    spare = zeros - (63 - shift)     # how far the first bit is below that of a normal number
    by = select(spare > exponent, exponent, spare)
    left = mantissa << by
    normal = (left >> shift).equals(1)
    bits = select(normal, left + ((exponent - by) << shift), left)
    raw = bits.raw if like.bits == 64 else builder.trunc(bits.raw, ir.IntType(32))
    return from_bits(Value(builder, raw))


def fmod(x: Value, y: Value) -> Value:
    """C's fmod: the exact rest of the division, of the sign of x."""
    size, divisor = absolute(x), absolute(y)
    invalid = divisor.equals(0.0) | size.equals(INF) | x.differs(x) | y.differs(y)
    top, high = _mantissa_and_exponent(size)
    bottom, low = _mantissa_and_exponent(divisor)
    bottom = select(bottom.equals(0), 1, bottom)
    apart = Value(x.builder, (high - low).raw)     # signed
    step = 64 - (MANTISSA_BITS[x.bits] + 1)
    first = top.of(x.builder.urem(top.raw, bottom.raw))
    rest = _long_division(first, select(invalid, 0, apart), bottom, step)
    result = select(size < divisor, size, _float_of(rest, low, x))
    return select(invalid, NAN, copysign(result, x))


def _to_signed(builder: Any, value: Any, bits: int) -> Any:
    """A float as a signed integer without its fraction; the smallest one where it does not fit."""
    kind, limit = ir.IntType(bits), 2.0 ** (bits - 1)
    inside = builder.and_(builder.fcmp_ordered(">=", value, ir.Constant(value.type, -limit)),
                          builder.fcmp_ordered("<", value, ir.Constant(value.type, limit)))
    return builder.select(inside, builder.fptosi(value, kind), ir.Constant(kind, -(1 << bits - 1)))


def _cast(kind: Any) -> Any:
    """A cast to an integer; of a float by way of a wider signed integer, as in NumPy, so that negative ones wrap."""

    def resolve(x: Any) -> Any:
        source = types.unliteral(x)
        if not is_scalar(source):
            raise TypingError(f"{kind}: no kernel code for {x}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (value,) = arguments
            if not is_float(source):
                return context.cast(builder, value, source, kind)
            wide = 64 if kind.bitwidth == 64 or kind == types.uint32 else 32
            wrapped = _to_signed(builder, value, wide)
            if kind.bitwidth < wide:
                return builder.trunc(wrapped, ir.IntType(kind.bitwidth))
            if kind.signed:
                return wrapped
            huge = builder.fcmp_ordered(">=", value, ir.Constant(value.type, 2.0**63))
            return builder.select(huge, builder.fptoui(value, WIDE), wrapped)

        return kind(source), generate

    return leaf(str(kind), resolve, 1, f"x as {kind}, wrapped around.")


def quotient_of(x: Value, y: Value) -> Value:
    """x // y of integers that are not negative: for indices"""
    return x.of(x.builder.udiv(x.raw, y.raw))


def remainder_of(x: Value, y: Value) -> Value:
    """x % y of integers that are not negative: for indices"""
    return x.of(x.builder.urem(x.raw, y.raw))


INTEGERS = [getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]

FUNCTIONS = {
    **{name: function(name, extreme(name), 2, accepts=is_scalar, doc=f"The {name} of two; nan if either is nan.")
       for name in ("maximum", "minimum")},
    **{name: division(name, fmod) for name in DIVISIONS},
    **{body.__name__: function(body.__name__, body, 2, accepts=is_integral) for body in (quotient_of, remainder_of)},
    **{str(kind): _cast(kind) for kind in INTEGERS},
}
