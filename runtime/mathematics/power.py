"""x**y and hypot for floats: a logarithm in two parts, so that even x**y near the end of the range keeps its digits."""

from __future__ import annotations

from .emit import (
    Value,
    absolute,
    copysign,
    fma,
    from_bits,
    function,
    is_nan,
    nearest,
    polynomial,
    rarely,
    select,
    square_root,
    to_bits,
)
from .vector_math import BIAS, EXP2, INF, MANTISSA_BITS, NAN, SMALLEST_NORMAL, exp2_sum, nearest_integer, split

# (log2((1+s)/(1-s)) - c*s) / s**3 in powers of s*s, c = 2*log2(e), on [0, 0.06] and [0, 0.0367], minimax: log2 to
# 2**-39 and 2**-68.
LOG2 = {
    32: (4.1529286e-01, 5.770692e-01, 9.617967e-01),
    64: (0.2633832296334898, 0.3205969839267358, 0.41219858464682696, 0.5770780163550501, 0.9617966939259757),
}
TWICE_LOG2_E = {32: (2.885390043258667, 3.851926067000022e-08), 64: (2.8853900817779268, 4.0710547481862066e-17)}

# The mantissas [sqrt(1/2), sqrt(2)) in 3 or 5 parts about equal in their logarithm: where each but the middle one ends
# towards 1, its centre in few bits, and the log2 of that in two floats, of which the first is short. Outermost first.
BELOW = {
    32: ((0.8909, 0.796875, -0.3275146484375, -6.000959183438681e-05),),
    64: ((0.8123, 0.7578125, -0.40008715781277715, -9.517021710768741e-14),
         (0.933, 0.8671875, -0.20558413364983608, -5.796061417703368e-14)),
}
ABOVE = {
    32: ((1.1225, 1.2578125, 0.3309326171875, -1.5739073205622844e-05),),
    64: ((1.2311, 1.3203125, 0.40087943628213907, 4.525302271206522e-14),
         (1.0718, 1.1484375, 0.1996723448364719, -1.0749702129807047e-13)),
}

Pair = tuple[Value, Value]


def times(x: Value, y: Value | float, rest: Value) -> Pair:
    """x * y + rest as a rounded value and what the rounding lost; rest is small."""
    product = x * y
    return product, fma(x, y, -product) + rest


def plus(x: Value, y: Value, rest: Value) -> Pair:
    """x + y + rest as a rounded value and what the rounding lost; |x| >= |y| or x = 0."""
    total = x + y
    return total, (y - (total - x)) + rest


def _centre(m: Value) -> tuple[Value, Value, Value]:
    """(c, log2(c), its rest) with the centre of the part that m lies in."""
    row = [m.constant(middle) for middle in (1.0, 0.0, 0.0)]
    for below, above in zip(reversed(BELOW[m.bits]), reversed(ABOVE[m.bits])):
        for outside, (_, *new) in ((m < below[0], below), (m > above[0], above)):
            row = [select(outside, value, old) for value, old in zip(new, row)]
    return row[0], row[1], row[2]


def log2_pair(x: Value, normal: bool = False) -> Pair:
    """log2(x) of a positive x, to about 9 bits more than the working precision; `normal` says that it is not subnormal.

    x = 2**e * c * (1 + s) / (1 - s) for that centre c which keeps s small: the first term of the series in s is kept in
    two parts, the rest in one.
    """
    width = x.bits
    m, e = split(x, normal)
    c, c_log, c_log_rest = _centre(m)
    f, g = m - c, m + c
    inverse = 1.0 / g
    s = f * inverse
    s_rest = (fma(-s, g, f) - s * (m - (g - c))) * inverse
    z = s * s
    factor, factor_rest = TWICE_LOG2_E[width]
    head, head_rest = times(s, factor, fma(s, factor_rest, s_rest * factor))
    tail = fma(polynomial(z, LOG2[width]) * z, s, head_rest + c_log_rest)
    total, rest = plus(e + c_log, head, tail)
    return plus(total, rest, x.constant(0.0))


def _magnitude(size: Value, y: Value) -> Value:
    """size**y for a positive finite size."""
    logarithm, rest = log2_pair(size)
    limit = 2.0 * BIAS[size.bits]
    exponent, lost = times(logarithm, y, y * rest)
    inside = absolute(exponent) < limit
    exponent = select(exponent > limit, limit, select(exponent < -limit, -limit, exponent))
    return exp2_sum(exponent, select(inside, lost, 0.0))


def _any_power(x: Value, y: Value) -> Value:
    """x**y with the special cases of IEEE 754's pow."""
    size = absolute(x)
    result = _magnitude(size, y)
    rises = y > 0.0
    result = select(size.equals(0.0), select(rises, y.constant(0.0), INF), result)
    result = select(size.equals(INF), select(rises, y.constant(INF), 0.0), result)
    half = y * 0.5
    whole = nearest(y).equals(y)
    odd = whole & nearest(half).differs(half)
    result = select(size.equals(1.0), 1.0, result)  # also for infinite y, where the product above is nan
    result = select(odd, copysign(result, x), result)
    result = select((x < 0.0) & ~whole & size.differs(INF), NAN, result)
    result = select(is_nan(x) | is_nan(y), NAN, result)
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


def power(x: Value, y: Value) -> Value:
    """x**y with the special cases of IEEE 754's pow; usually x is positive and neither it nor the result is extreme."""
    logarithm, rest = log2_pair(x, normal=True)
    exponent, lost = times(logarithm, y, y * rest)
    usual = (x >= SMALLEST_NORMAL[x.bits]) & (x < INF) & (absolute(exponent) < BIAS[x.bits] - 1.0)
    whole, n = nearest_integer(exponent, 1.0)
    r = (exponent - whole) + lost
    result = fma(polynomial(r, EXP2[x.bits]), r, 1.0)
    result = from_bits(to_bits(result) + (n << MANTISSA_BITS[x.bits]))
    (result,) = rarely(~usual, lambda: [_any_power(x, y)], [result])
    return result


def hypot(x: Value, y: Value) -> Value:
    """sqrt(x*x + y*y) without overflow; infinite if either side is, even beside nan."""
    wide, tall = absolute(x), absolute(y)
    larger = select(wide > tall, wide, tall)
    middle = (BIAS[x.bits] + 1) // 2
    shrink = select(larger > 2.0**middle, x.constant(2.0**-middle), 1.0)
    grow = 2.0 ** (middle * 5 // 4)     # the square of the smallest number must not vanish
    factor = select(larger < 2.0 ** -(middle - 20), grow, shrink)
    undo = select(larger > 2.0**middle, x.constant(2.0**middle), 1.0)
    undo = select(larger < 2.0 ** -(middle - 20), 1.0 / grow, undo)
    a, b = wide * factor, tall * factor
    result = square_root(fma(a, a, b * b)) * undo
    return select(wide.equals(INF) | tall.equals(INF), INF, result)


FUNCTIONS = {"hypot": function("hypot", hypot, 2)}
