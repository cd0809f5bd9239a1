"""Division, remainder, powers and shifts with NumPy's results, to the bit, on integers and floats.

Integers: division by zero gives 0, the smallest integer divided by -1 stays itself, shifts by at least the width (or by
a negative count) shift everything out, products wrap around. Floats: np.floor_divide and np.remainder with their signed
zeros, nan and infinities.

Integer powers are a loop. The float remainder is exact, so it cannot be a formula of fixed length either: each
device has its own way to C's fmod, and `division` makes the two functions of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from .emit import Value, copysign, function, is_number, recorded, select
from .power import power as float_power


def _is_integer(kind: Any) -> bool:
    return isinstance(kind, types.Integer)


def _integer_division(x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient and remainder rounded towards minus infinity; both 0 for y = 0."""
    zero = y.equals(0)
    divisor = select(zero, 1, y)
    builder = x.builder
    if x.unsigned:
        quotient = x.of(builder.udiv(x.raw, divisor.raw))
        rest = x - quotient * divisor
    else:
        overflow = divisor.equals(-1) & x.equals(-(1 << (x.bits - 1)))
        quotient = x.of(builder.sdiv(x.raw, select(overflow, 1, divisor).raw))
        rest = select(overflow, 0, x - quotient * divisor)
        wrong = rest.differs(0) & ((rest ^ divisor) < 0)
        quotient, rest = select(wrong, quotient - 1, quotient), select(wrong, rest + divisor, rest)
    return select(zero, 0, quotient), select(zero, 0, rest)


def _float_division(x: Value, y: Value, rest: Value) -> tuple[Value, Value]:
    """npy_divmod of NumPy, branch-free around fmod(x, y), which is `rest`."""
    quotient = (x - rest) / y
    exact = rest.equals(0.0)
    wrong = ~exact & ((y < 0.0) ^ (rest < 0.0))
    modulus = select(exact, copysign(x.constant(0.0), y), select(wrong, rest + y, rest))
    quotient = select(wrong, quotient - 1.0, quotient)
    whole = quotient.call("llvm.floor")
    whole = select(quotient - whole > 0.5, whole + 1.0, whole)
    whole = select(quotient.equals(0.0), copysign(x.constant(0.0), x / y), whole)
    zero = y.equals(0.0)
    return select(zero, x / y, whole), select(zero, rest, modulus)


DIVISIONS = ("floor_divide", "remainder")


@recorded
def division(name: str, fmod: Callable[[Value, Value], Value]) -> Any:
    """np.floor_divide or np.remainder on a device, given its way to C's fmod."""
    part = DIVISIONS.index(name)

    def body(x: Value, y: Value) -> Value:
        return (_float_division(x, y, fmod(x, y)) if x.is_float else _integer_division(x, y))[part]

    return function(name, body, 2, accepts=is_number, doc=f"np.{name}")


def _integer_power(x: Value, y: Value) -> Value:
    """By repeated squaring, a loop over the bits of y. A negative exponent, which NumPy refuses, gives the integer part
    of the real result: 0 unless x is 1 or -1 (and 0 for 0)."""
    builder = x.builder
    start, loop, done = builder.block, builder.append_basic_block("power"), builder.append_basic_block("power.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    kind = x.raw.type
    exponent, base, result = (Value(builder, builder.phi(kind), x.unsigned) for _ in range(3))
    bits = Value(builder, exponent.raw, unsigned=True)
    product = select((bits & 1).equals(0), result, result * base)
    squared, rest = base * base, bits >> 1
    for phi, first, following in ((exponent, y, rest), (base, x, squared), (result, x.constant(1), product)):
        phi.raw.add_incoming(first.raw, start)
        phi.raw.add_incoming(following.raw, loop)
    builder.cbranch(rest.equals(0).raw, done, loop)
    builder.position_at_end(done)
    if x.unsigned:
        return product
    unit = select((y & 1).equals(0), x * x, x)
    return select(y < 0, select(x.equals(1) | x.equals(-1), unit, 0), product)


def power(x: Value, y: Value) -> Value:
    """np.power"""
    return (float_power if x.is_float else _integer_power)(x, y)


def _excess(x: Value, count: Value) -> Value:
    """Whether the count shifts everything out; negative counts do."""
    return Value(count.builder, count.raw, unsigned=True) >= x.bits


def shift_left(x: Value, count: Value) -> Value:
    """np.left_shift"""
    excess = _excess(x, count)
    return select(excess, 0, x << select(excess, 0, count))


def shift_right(x: Value, count: Value) -> Value:
    """np.right_shift"""
    excess = _excess(x, count)
    if x.unsigned:
        return select(excess, 0, x >> select(excess, 0, count))
    return x >> select(excess, x.bits - 1, count)


def wrapping_add(x: Value, y: Value) -> Value:
    """x + y, modulo 2**64 on int64, where Numba's own + leaves an overflow undefined"""
    return x + y


def wrapping_subtract(x: Value, y: Value) -> Value:
    """x - y, wrapping around like wrapping_add"""
    return x - y


def wrapping_multiply(x: Value, y: Value) -> Value:
    """x * y, wrapping around like wrapping_add"""
    return x * y


FUNCTIONS = {
    **{body.__name__: function(body.__name__, body, 2, accepts=is_number)
       for body in (power, wrapping_add, wrapping_subtract, wrapping_multiply)},
    **{body.__name__: function(body.__name__, body, 2, accepts=_is_integer) for body in (shift_left, shift_right)},
}
