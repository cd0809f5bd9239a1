"""x**y and hypot for floats: a logarithm in two parts, so that even x**y near the end of the range keeps its digits."""

from __future__ import annotations

from .emit import Value, absolute, copysign, fma, function, is_nan, nearest, polynomial, select, square_root
from .vector_math import BIAS, INF, NAN, exp2_sum, split

# (atanh(s) - s - s**3/3) / s**5 in powers of s*s for s up to 3 - 2*sqrt(2), minimax: 2**-36 and 2**-65.
ATANH = {
    32: (1.1711875e-01, 1.4273472e-01, 2.0000076e-01),
    64: (0.06598346695019745, 0.06628439365362629, 0.07693374798610142, 0.09090892335155241, 0.11111111257254576,
         0.1428571428507216, 0.2000000000000106),
}
THIRD = {32: (0.3333333432674408, -9.934107758624577e-09), 64: (0.3333333333333333, 1.850371707708594e-17)}
TWICE_LOG2_E = {32: (2.885390043258667, 3.851926067000022e-08), 64: (2.8853900817779268, 4.0710547481862066e-17)}

Pair = tuple[Value, Value]


def times(x: Value, y: Value | float, rest: Value) -> Pair:
    """x * y + rest as a rounded value and what the rounding lost; rest is small."""
    product = x * y
    return product, fma(x, y, -product) + rest


def plus(x: Value, y: Value, rest: Value) -> Pair:
    """x + y + rest as a rounded value and what the rounding lost; |x| >= |y| or x = 0."""
    total = x + y
    return total, (y - (total - x)) + rest


def log2_pair(x: Value) -> Pair:
    """log2(x) of a positive x, to about 10 bits more than the working precision.

    log(m) = 2 * atanh(s) with s = (m - 1) / (m + 1); s and s**2 / 3 are kept in two parts, the rest in one.
    """
    width = x.bits
    m, e = split(x)
    f, g = m - 1.0, m + 1.0
    s = f / g
    s_rest = (fma(-s, g, f) - s * (m - (g - 1.0))) / g
    z, z_rest = times(s, s, s * s_rest * 2.0)
    third, third_rest = THIRD[width]
    tail, tail_rest = times(z, third, fma(z, third_rest, z_rest * third) + z * z * polynomial(z, ATANH[width]))
    cube, cube_rest = times(s, tail, fma(s, tail_rest, s_rest * tail))
    half, half_rest = plus(s, cube, cube_rest + s_rest)
    factor, factor_rest = TWICE_LOG2_E[width]
    mantissa, mantissa_rest = times(half, factor, fma(half, factor_rest, half_rest * factor))
    return plus(e, mantissa, mantissa_rest)


def _magnitude(size: Value, y: Value) -> Value:
    """size**y for a positive finite size."""
    logarithm, rest = log2_pair(size)
    limit = 2.0 * BIAS[size.bits]
    exponent, lost = times(logarithm, y, y * rest)
    inside = absolute(exponent) < limit
    exponent = select(exponent > limit, limit, select(exponent < -limit, -limit, exponent))
    return exp2_sum(exponent, select(inside, lost, 0.0))


def power(x: Value, y: Value) -> Value:
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


def hypot(x: Value, y: Value) -> Value:
    """sqrt(x*x + y*y) without overflow; infinite if either side is, even beside nan."""
    wide, tall = absolute(x), absolute(y)
    larger = select(wide > tall, wide, tall)
    middle = (BIAS[x.bits] + 1) // 2
    shrink = select(larger > 2.0**middle, x.constant(2.0**-middle), 1.0)
    grow = 2.0 ** (middle + 16)
    factor = select(larger < 2.0 ** -(middle - 20), grow, shrink)
    undo = select(larger > 2.0**middle, x.constant(2.0**middle), 1.0)
    undo = select(larger < 2.0 ** -(middle - 20), 1.0 / grow, undo)
    a, b = wide * factor, tall * factor
    result = square_root(fma(a, a, b * b)) * undo
    return select(wide.equals(INF) | tall.equals(INF), INF, result)


FUNCTIONS = {"hypot": function("hypot", hypot, 2)}
