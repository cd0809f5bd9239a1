"""Exponentials, logarithms and hyperbolic functions as straight-line formulas that vectorise.

Each body is written once over `Value` and emitted for float32 or float64; coefficient tables are keyed by the width.
Errors are about 2 units in the last place at most; zeros, subnormals, infinities and nan come out as IEEE 754 says.
Coefficients called minimax were computed for this package by Remez exchange in 50 digits and then rounded (the comment
gives the relative error of what they serve); the others are cited.
"""

from __future__ import annotations

import math

from .emit import (
    INTEGER_SHIFT,
    INTEGER_SHIFT_BITS,
    Value,
    absolute,
    copysign,
    fma,
    from_bits,
    function,
    is_nan,
    polynomial,
    select,
    square_root,
    to_bits,
    to_float,
)

INF = math.inf
NAN = math.nan
LOG2_E = math.log2(math.e)

MANTISSA_BITS = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}
SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
SQRT_HALF_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}

# ln 2 in two parts, the first short enough that n * LN2[0] is exact for every exponent n
# (Cephes expf.c; fdlibm e_exp.c).
LN2 = {32: (0.693359375, -2.12194440e-4), 64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}

# e**x overflows well below the first and is zero below the second.
EXP_RANGE = {32: (92.0, -104.0), 64: (713.0, -746.0)}

# e**x is infinite here, and its exponent not more than one too large.
OVERFLOW = {32: 89.0, 64: 710.0}

# (e**r - 1 - r) / r**2 on [-ln2/2, ln2/2], minimax: e**r - 1 to 2**-28 and 2**-60.
EXP = {
    32: (1.991435e-04, 1.3941068e-03, 8.333272e-03, 4.1666355e-02, 1.6666667e-01, 0.5),
    64: (2.0924535765596412e-09, 2.510912530700088e-08, 2.7557242463488796e-07, 2.7557243979798524e-06,
         2.4801587360899042e-05, 0.00019841269886327365, 0.0013888888888866668, 0.008333333333321563,
         0.0416666666666667, 0.16666666666666677, 0.5),
}

# (2**r - 1) / r on [-1/2, 1/2], minimax: 2**r - 1 to 2**-29 and 2**-55.
EXP2 = {
    32: (1.5315334e-05, 1.5467327e-04, 1.333343e-03, 9.618036e-03, 5.550411e-02, 2.402265e-01, 6.931472e-01),
    64: (4.457434721762721e-10, 7.073930853069917e-09, 1.0178046142096024e-07, 1.321543443355912e-06,
         1.5252733868318364e-05, 0.00015403530458783603, 0.0013333558146378217, 0.009618129107592835,
         0.05550410866482174, 0.24022650695910133, 0.6931471805599453),
}


def power_of_two(n: Value) -> Value:
    """2**n for a signed integer n in the range of normal exponents."""
    return from_bits((n + BIAS[n.bits]) << MANTISSA_BITS[n.bits])


def scale(x: Value, n: Value) -> Value:
    """x * 2**n for a signed integer n; two steps, so that subnormal results and n beyond the largest exponent work."""
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


def nearest_integer(x: Value, factor: float) -> tuple[Value, Value]:
    """The nearest integer to x * factor, ties to even, as a float and as a signed integer of its width; it is below
    2**(mantissa bits - 1). Adding the shift rounds and leaves the integer in the low bits: one step for both."""
    shifted = fma(x, factor, INTEGER_SHIFT[x.bits])
    return shifted - INTEGER_SHIFT[x.bits], to_bits(shifted) - INTEGER_SHIFT_BITS[x.bits]


def clamp(x: Value, low: float, high: float) -> Value:
    """x kept within [low, high]; nan stays."""
    x = select(x > high, high, x)
    return select(x < low, low, x)


def exp_parts(x: Value) -> tuple[Value, Value]:
    """(n, p) with e**x = 2**n * (1 + p), n a signed integer, |p| < 0.42."""
    high, low = EXP_RANGE[x.bits]
    clamped = clamp(x, low, high)
    whole, n = nearest_integer(clamped, LOG2_E)
    ln2, ln2_rest = LN2[x.bits]
    r = fma(whole, -ln2_rest, fma(whole, -ln2, clamped))
    return n, fma(polynomial(r, EXP[x.bits]) * r, r, r)


def exp(x: Value) -> Value:
    """e**x"""
    n, p = exp_parts(x)
    return scale(p + 1.0, n)


def exp2_sum(x: Value, rest: Value | float) -> Value:
    """2**(x + rest) for a small correction `rest`, |x| at most about the range of exponents."""
    whole, n = nearest_integer(x, 1.0)
    r = (x - whole) + rest
    return scale(fma(polynomial(r, EXP2[x.bits]), r, 1.0), n)


def exp2(x: Value) -> Value:
    """2**x"""
    limit = 2.0 * BIAS[x.bits]
    return exp2_sum(clamp(x, -limit, limit), 0.0)


def expm1(x: Value) -> Value:
    """e**x - 1, accurate near 0"""
    n, p = exp_parts(clamp(x, -2.0 * MANTISSA_BITS[x.bits], OVERFLOW[x.bits]))
    half = power_of_two(n - 1)  # half the result first: the largest finite results have n one beyond the exponents
    result = fma(p, half, half - 0.5) * 2.0
    return select(x.equals(0.0), x, result)


def split(x: Value) -> tuple[Value, Value]:
    """A positive x as m * 2**e with m in [sqrt(1/2), sqrt(2)); subnormals are scaled up first."""
    shift = MANTISSA_BITS[x.bits]
    small = x < SMALLEST_NORMAL[x.bits]
    bits = to_bits(select(small, x * 2.0 ** (shift + 1), x))
    exponent = (bits - SQRT_HALF_BITS[x.bits]) >> shift
    mantissa = from_bits(bits - (exponent << shift))
    e = to_float(exponent)
    return mantissa, select(small, e - float(shift + 1), e)


# (log(1+f) - f + f*f/2) / f**3 on [sqrt(1/2)-1, sqrt(2)-1]: Cephes logf.c.
LOG_32 = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
          2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
# (log((1+s)/(1-s)) - 2*s) / s in powers of s*s: fdlibm e_log.c.
LOG_64 = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
          2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)


def log_rest(f: Value) -> Value:
    """log(1 + f) - f for 1 + f in [sqrt(1/2), sqrt(2))."""
    if f.bits == 32:
        square = f * f
        return fma(square, -0.5, polynomial(f, LOG_32) * f * square)
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return s * fma(polynomial(z, LOG_64), z, half) - half


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
    return log_special(x, fma(e, ln2, f + fma(e, ln2_rest, log_rest(f))))


def log1p(x: Value) -> Value:
    """log(1 + x), accurate near 0"""
    u = x + 1.0
    gained = u - 1.0
    lost = (x - gained) + (1.0 - (u - gained))  # exactly what rounding 1 + x dropped (Knuth)
    m, e = split(u)
    f = m - 1.0
    ln2, ln2_rest = LN2[x.bits]
    result = fma(e, ln2, f + (fma(e, ln2_rest, log_rest(f)) + lost / u))
    return select(x.equals(0.0), x, log_special(u, result))


# log2(e), log10(e) and log10(2) in two parts; the first of log10(2) is short.
LOG2_E_PARTS = {32: (1.4426950216293335, 1.925963033500011e-08),
                64: (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E_PARTS = {32: (0.4342944920063019, -1.0103049952192578e-08),
                 64: (0.4342944819032518, 1.098319650216765e-17)}
LOG10_2_PARTS = {32: (0.301025390625, 4.605039066518657e-06), 64: (0.30102999566383914, 1.42050232272661e-13)}


def _log_in_base(x: Value, factor: tuple[float, float], base_of_two: tuple[float, float]) -> Value:
    """e * base_of_two + log(m) * factor with both products to more than working precision."""
    m, e = split(x)
    f = m - 1.0
    rest = log_rest(f)
    natural = f + rest
    tail = rest - (natural - f)
    scaled = fma(natural, factor[0], fma(natural, factor[1], tail * factor[0]))
    return log_special(x, fma(e, base_of_two[0], fma(e, base_of_two[1], scaled)))


def log2(x: Value) -> Value:
    """The logarithm to base 2; exact at powers of two."""
    return _log_in_base(x, LOG2_E_PARTS[x.bits], (1.0, 0.0))


def log10(x: Value) -> Value:
    """The logarithm to base 10."""
    return _log_in_base(x, LOG10_E_PARTS[x.bits], LOG10_2_PARTS[x.bits])


# tanh(x) = x + x**3 * P(x*x) / Q(x*x) below 0.625: Cephes tanhf.c, tanh.c.
TANH_32 = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
TANH_64_P = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
TANH_64_Q = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)


def tanh(x: Value) -> Value:
    """The hyperbolic tangent."""
    size = absolute(x)
    z = x * x
    quotient = polynomial(z, TANH_32) if x.bits == 32 else polynomial(z, TANH_64_P) / polynomial(z, TANH_64_Q)
    small = fma(quotient * z, size, size)
    large = 1.0 - 2.0 / (exp(size + size) + 1.0)
    return copysign(select(size < 0.625, small, large), x)


# (sinh(x) - x) / x**3 in powers of x*x on [0, 1], minimax: sinh to 2**-27 and 2**-56.
SINH = {
    32: (2.818062e-06, 1.9835962e-04, 8.333351e-03, 1.6666667e-01),
    64: (7.760423888072346e-13, 1.6057204641789862e-10, 2.505212384378736e-08, 2.755731915262659e-06,
         0.00019841269841445948, 0.008333333333333127, 0.16666666666666669),
}


def half_exp(x: Value) -> Value:
    """e**x / 2, finite wherever cosh(x) is."""
    n, p = exp_parts(x)
    return scale(p + 1.0, n - 1)


def sinh(x: Value) -> Value:
    """The hyperbolic sine."""
    size = absolute(x)
    z = x * x
    small = fma(polynomial(z, SINH[x.bits]) * z, size, size)
    half = half_exp(size)
    return copysign(select(size < 1.0, small, half - 0.25 / half), x)


def cosh(x: Value) -> Value:
    """The hyperbolic cosine."""
    half = half_exp(absolute(x))
    return half + 0.25 / half


# Beyond this asinh(x) and acosh(x) are log(2 * x), and x * x may overflow.
HUGE = {32: 2.0**60, 64: 2.0**500}


def asinh(x: Value) -> Value:
    """The inverse hyperbolic sine."""
    size = absolute(x)
    huge = size > HUGE[x.bits]
    square = size * size
    near = size + square / (square_root(square + 1.0) + 1.0)
    result = log1p(select(huge, size, near))
    return copysign(select(huge, result + math.log(2.0), result), x)


def acosh(x: Value) -> Value:
    """The inverse hyperbolic cosine; nan below 1."""
    huge = x > HUGE[x.bits]
    t = x - 1.0
    near = t + square_root(fma(t, t, t + t))
    result = log1p(select(huge, x, near))
    return select(x < 1.0, NAN, select(huge, result + math.log(2.0), result))


def atanh(x: Value) -> Value:
    """The inverse hyperbolic tangent; infinite at 1 and -1, nan beyond."""
    size = absolute(x)
    twice = size + size
    result = log1p(fma(twice, size / (1.0 - size), twice)) * 0.5
    return copysign(select(size > 1.0, NAN, result), x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + e**-x)"""
    t = exp(-absolute(x))
    return select(x < 0.0, t, 1.0) / (t + 1.0)


def softplus(x: Value) -> Value:
    """log(1 + e**x), without overflow"""
    return select(x > 0.0, x, 0.0) + log1p(exp(-absolute(x)))


def logaddexp(x: Value, y: Value) -> Value:
    """log(e**x + e**y), without overflow"""
    larger = select(x > y, x, y)
    apart = larger + log1p(exp(-absolute(x - y)))
    result = select(x.equals(y), x + math.log(2.0), apart)  # also infinities of one sign, whose difference is nan
    return select(is_nan(x), x, select(is_nan(y), y, result))


FUNCTIONS = {
    **{body.__name__: function(body.__name__, body, 1) for body in (
        exp, exp2, expm1, log, log1p, log2, log10, tanh, sinh, cosh, asinh, acosh, atanh, sigmoid, softplus)},
    "logaddexp": function("logaddexp", logaddexp, 2),
}
