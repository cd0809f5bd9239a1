"""Exponentials, logarithms and what follows from them, as straight-line formulas that vectorise.

Each body is written once over `Value` and emitted for float32 or float64; coefficient tables are keyed by the width.
Errors are at most 2 units in the last place unless a comment says otherwise; zeros, subnormals, infinities and nan come
out as IEEE 754 says. Coefficients called minimax were computed for this file with Remez' exchange algorithm and then
rounded one by one, refitting the rest; the others are cited.
"""

from __future__ import annotations

import math

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
    select,
    square_root,
    to_bits,
    to_float,
    to_integer,
)

INF = math.inf
NAN = math.nan
LOG2_E = math.log2(math.e)

# ln 2 split so that n * LN2[0] is exact for every exponent n (Cephes expf.c; fdlibm e_exp.c).
LN2 = {32: (0.693359375, -2.12194440e-4), 64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}

MANTISSA_BITS = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}
SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
SQRT_HALF_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}

# exp(x) overflows above the first and is zero below the second.
EXP_RANGE = {32: (89.0, -104.0), 64: (710.0, -746.0)}

# (exp(r) - 1 - r) / r**2 on [-ln2/2, ln2/2]. float32: Cephes expf.c; float64: the Taylor series.
EXP = {
    32: (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    64: tuple(1 / math.factorial(power) for power in range(13, 1, -1)),
}


def power_of_two(n: Value) -> Value:
    """2**n for an integral float n in the range of normal exponents."""
    width = n.bits
    return from_bits((to_integer(n) + BIAS[width]) << MANTISSA_BITS[width])


def scale(x: Value, n: Value) -> Value:
    """x * 2**n for an integral float n; two steps, so that subnormal results and n beyond the largest exponent work."""
    half = nearest(n * 0.5)
    return x * power_of_two(half) * power_of_two(n - half)


def clamp(x: Value, low: float, high: float) -> Value:
    """x kept within [low, high]; nan stays."""
    x = select(x > high, high, x)
    return select(x < low, low, x)


def exp(x: Value) -> Value:
    """e**x"""
    high, low = EXP_RANGE[x.bits]
    clamped = clamp(x, low, high)
    n = nearest(clamped * LOG2_E)
    ln2, ln2_rest = LN2[x.bits]
    r = fma(n, -ln2_rest, fma(n, -ln2, clamped))
    p = fma(polynomial(r, EXP[x.bits]) * r, r, r) + 1.0
    return scale(p, n)


def split(x: Value) -> tuple[Value, Value]:
    """A positive x as m * 2**e with m in [sqrt(1/2), sqrt(2)); subnormals are scaled up first."""
    width = x.bits
    shift = MANTISSA_BITS[width]
    small = x < SMALLEST_NORMAL[width]
    bits = to_bits(select(small, x * 2.0 ** (shift + 1), x))
    exponent = (bits - SQRT_HALF_BITS[width]) >> shift
    mantissa = from_bits(bits - (exponent << shift))
    e = to_float(exponent)
    return mantissa, select(small, e - float(shift + 1), e)


# (log(1+f) - f + f*f/2) / f**3 on [sqrt(1/2)-1, sqrt(2)-1]: Cephes logf.c.
LOG_32 = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
          2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
# (log((1+s)/(1-s)) - 2*s) / s in powers of s*s: fdlibm e_log.c.
LOG_64 = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
          2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)


def log_special(x: Value, result: Value) -> Value:
    """What every logarithm does at 0, below it, at infinity and at nan."""
    result = select(x.equals(INF), x, result)
    result = select(x.equals(0.0), -INF, result)
    result = select(x < 0.0, NAN, result)
    return select(is_nan(x), x, result)


def log(x: Value) -> Value:
    """The natural logarithm."""
    m, e = split(x)
    f = m - 1.0
    ln2, ln2_rest = LN2[x.bits]
    if x.bits == 32:
        z = f * f
        y = polynomial(f, LOG_32) * f * z
        y = fma(z, -0.5, fma(e, ln2_rest, y))
        result = fma(e, ln2, f + y)
    else:
        s = f / (f + 2.0)
        z = s * s
        rest = polynomial(z, LOG_64) * z
        half = f * f * 0.5
        result = e * ln2 - ((half - (s * (half + rest) + e * ln2_rest)) - f)
    return log_special(x, result)


# tanh(x) = x + x**3 * P(x*x) / Q(x*x) below 0.625: Cephes tanhf.c, tanh.c.
TANH_32 = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
TANH_64_P = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
TANH_64_Q = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)


def tanh(x: Value) -> Value:
    """The hyperbolic tangent."""
    size = absolute(x)
    z = x * x
    quotient = polynomial(z, TANH_32) if x.bits == 32 else polynomial(z, TANH_64_P) / polynomial(z, TANH_64_Q)
    small = fma(quotient * z, x, x)
    large = copysign(1.0 - 2.0 / (exp(size + size) + 1.0), x)
    return select(size < 0.625, small, select(is_nan(x), x, large))


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))"""
    t = exp(-absolute(x))
    return select(x < 0.0, t, 1.0) / (t + 1.0)


def sqrt(x: Value) -> Value:
    """The square root, correctly rounded."""
    return square_root(x)


FUNCTIONS = {body.__name__: function(body.__name__, body, 1) for body in (exp, log, tanh, sigmoid, sqrt)}
