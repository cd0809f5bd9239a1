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


def scale_down(x: Value, n: Value) -> Value:
    """x * 2**n for an x of about 1 and a signed integer n of at most about 0, down to where the result vanishes: one
    factor of two is a constant."""
    extra = BIAS[x.bits] // 2
    return x * power_of_two(n + extra) * 2.0**-extra


def exp_of_negative(x: Value) -> Value:
    """e**x for x <= 0"""
    low = EXP_RANGE[x.bits][1]
    n, p = exp_parts(select(x < low, low, x), clamped=True)
    return scale_down(p + 1.0, n)


def clamp(x: Value, low: float, high: float) -> Value:
    """x kept within [low, high]; nan stays."""
    x = select(x > high, high, x)
    return select(x < low, low, x)


def exp_parts(x: Value, clamped: bool = False) -> tuple[Value, Value]:
    """(n, p) with e**x = 2**n * (1 + p), n a signed integer, |p| < 0.42; `clamped` says that x is within EXP_RANGE."""
    n, p, _ = exp_parts_and_rest(x if clamped else clamp(x, *reversed(EXP_RANGE[x.bits])))
    return n, p


def exp_parts_and_rest(x: Value) -> tuple[Value, Value, Value]:
    """(n, p, rest) with e**x = 2**n * (1 + p) * (1 + rest) for x within EXP_RANGE; the rest is below p's last place."""
    whole, n = nearest_integer(x, LOG2_E)
    ln2, ln2_rest = LN2[x.bits]
    exact = fma(whole, -ln2, x)
    r = fma(whole, -ln2_rest, exact)
    return n, fma(polynomial(r, EXP[x.bits]) * r, r, r), fma(whole, -ln2_rest, exact - r)


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


def split(x: Value, normal: bool = False) -> tuple[Value, Value]:
    """A positive x as m * 2**e with m in [sqrt(1/2), sqrt(2)); subnormals are scaled up first, unless x is `normal`."""
    shift = MANTISSA_BITS[x.bits]
    small = x < SMALLEST_NORMAL[x.bits]
    bits = to_bits(x if normal else select(small, x * 2.0 ** (shift + 1), x))
    exponent = (bits - SQRT_HALF_BITS[x.bits]) >> shift
    mantissa = from_bits(bits - (exponent << shift))
    e = to_float(exponent)
    return mantissa, e if normal else select(small, e - float(shift + 1), e)


# (log(1+f) - f) / f**2 on [sqrt(1/2)-1, sqrt(2)-1], minimax: log to 2**-27; and so for the other bases.
LOG_32 = (-7.643305e-02, 1.2767424e-01, -1.3159741e-01, 1.4200954e-01, -1.6623321e-01, 2.000126e-01, -2.5000823e-01,
          3.333333e-01, -0.5)
LOG2_32 = (-1.017334e-01, 1.8298157e-01, -1.9274653e-01, 2.0519881e-01, -2.394989e-01, 2.8853384e-01, -3.606998e-01,
           4.8089877e-01, -7.2134733e-01)
LOG10_32 = (-2.2829635e-02, 5.0872676e-02, -5.9140176e-02, 6.251508e-02, -7.205159e-02, 8.681687e-02, -1.0858187e-01,
            1.4476559e-01, -2.1714719e-01)
# (log((1+s)/(1-s)) - 2*s) / s in powers of s*s: fdlibm e_log.c.
LOG_64 = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
          2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)


def log_rest(f: Value) -> Value:
    """f - log(1 + f) of a float64, for 1 + f in [sqrt(1/2), sqrt(2)); as in fdlibm, a product with s = f / (f + 2)."""
    s = f / (f + 2.0)
    z = s * s
    return s * fma(-z, polynomial(z, LOG_64), f)


def _log_sum(e: Value, infinite: Value, f: Value) -> Value:
    """e * log(2) + log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)); `infinite` is e, but infinite if the argument is."""
    ln2, ln2_rest = LN2[f.bits]
    small = e * ln2_rest
    tail = fma(f * f, polynomial(f, LOG_32), small) if f.bits == 32 else small - log_rest(f)
    return fma(infinite, ln2, f + tail)


def _log_domain(x: Value, result: Value) -> Value:
    """What every logarithm is at 0 and below; nan there too."""
    return select(x > 0.0, result, select(x.equals(0.0), x.constant(-INF), NAN))


def _split_for_log(x: Value) -> tuple[Value, Value, Value]:
    """(e, e or the infinite x, m - 1), see `split`."""
    m, e = split(x)
    return e, select(x < INF, e, x), m - 1.0


def log(x: Value) -> Value:
    """The natural logarithm."""
    return _log_domain(x, _log_sum(*_split_for_log(x)))


def log1p(x: Value) -> Value:
    """log(1 + x), accurate near 0"""
    u = x + 1.0
    gained = u - 1.0
    lost = (x - gained) + (1.0 - (u - gained))  # exactly what rounding 1 + x dropped (Knuth)
    shift = MANTISSA_BITS[x.bits]
    bits = to_bits(u)
    exponent = (bits - SQRT_HALF_BITS[x.bits]) >> shift
    above = exponent << shift
    f = from_bits(bits - above) - 1.0
    # lost * 2**-exponent; of no account, and its factor no number, where u is large
    f = select(u < 2.0 ** (2 * shift), fma(lost, from_bits((BIAS[x.bits] << shift) - above), f), f)
    e = to_float(exponent)
    return copysign(_log_domain(u, _log_sum(e, select(u < INF, e, u), f)), x)


# log2(e), log10(e) and log10(2) in two parts; the first of log10(2) is short.
LOG2_E_PARTS = {32: (1.4426950216293335, 1.925963033500011e-08),
                64: (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E_PARTS = {32: (0.4342944920063019, -1.0103049952192578e-08),
                 64: (0.4342944819032518, 1.098319650216765e-17)}
LOG10_2_PARTS = {32: (0.301025390625, 4.605039066518657e-06), 64: (0.30102999566383914, 1.42050232272661e-13)}


def _log_in_base(f: Value, factor: tuple[float, float], table: tuple[float, ...], small: Value | float) -> Value:
    """small + log(1 + f) * factor for 1 + f in [sqrt(1/2), sqrt(2)), small being smaller than the last place of the
    result; `table` serves float32."""
    if f.bits == 32:
        rest = fma(f * f, polynomial(f, table), small)
    else:
        rest = fma(log_rest(f), -factor[0], small)
    return fma(f, factor[0], fma(f, factor[1], rest))


def log2(x: Value) -> Value:
    """The logarithm to base 2; exact at powers of two."""
    _, e, f = _split_for_log(x)
    return _log_domain(x, e + _log_in_base(f, LOG2_E_PARTS[x.bits], LOG2_32, 0.0))


def log10(x: Value) -> Value:
    """The logarithm to base 10."""
    e, infinite, f = _split_for_log(x)
    high, low = LOG10_2_PARTS[x.bits]
    return _log_domain(x, fma(infinite, high, _log_in_base(f, LOG10_E_PARTS[x.bits], LOG10_32, e * low)))


def tanh(x: Value) -> Value:
    """The hyperbolic tangent: t / (t + 2) with t = e**(2x) - 1, which keeps its digits near 0."""
    twice = absolute(x) * 2.0
    limit = 2.0 * MANTISSA_BITS[x.bits]     # tanh is 1 well before
    n, p = exp_parts(select(twice > limit, limit, twice), clamped=True)
    power = power_of_two(n)
    t = fma(p, power, power - 1.0)
    total = t + 2.0
    inverse = 1.0 / total
    result = t * inverse
    lost = fma(result, (total - 2.0) - t, fma(-result, total, t))     # what sum and quotient were rounded by
    return copysign(fma(lost, inverse, result), x)


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


# (log((2+s)/(2-s)) - s) / s**3 in powers of s*s for s up to 0.566, minimax: the logarithm to 2**-30 and 2**-59.
QUOTIENT = {
    32: (0.000512066879, 0.0022102592, 0.0125023741, 0.0833332539),
    64: (2.9113705721187694e-07, 8.320938878273845e-07, 4.094325010639119e-06, 1.8774232573556815e-05,
         8.877922655053023e-05, 0.00043402770863112657, 0.0022321428604446065, 0.01249999999992285,
         0.08333333333333395),
}

# Beyond this sqrt(x*x + 1) is x.
BIG = {32: 2.0**13, 64: 2.0**28}


def _log_of_quotient(above: Value, below: Value, apart: Value, total: Value, extra: Value | float = 0.0,
                     lost: Value | None = None) -> Value:
    """log(above / below) + extra * log(2); `apart` is twice above - below, and `total` above + below; `lost` is by what
    part the total is too large where it is all that counts.

    The quotient is 2**n * (2 + s) / (2 - s) for that n which keeps s small: one division, and a series that begins with
    s = apart / total where n is 0, so that small results keep the digits of `apart`."""
    shift = MANTISSA_BITS[above.bits]
    n = (to_bits(above) - to_bits(below) + (1 << shift - 2)) >> shift
    weight = (power_of_two(n) - 1.0) * below
    s = (apart - weight * 2.0) / (total + weight)
    z = s * s
    e = to_float(n) + extra
    ln2, ln2_rest = LN2[above.bits]
    series = fma(polynomial(z, QUOTIENT[above.bits]), z, lost) if lost else polynomial(z, QUOTIENT[above.bits]) * z
    return fma(e, ln2, fma(e, ln2_rest, fma(series, s, s)))


def asinh(x: Value) -> Value:
    """The inverse hyperbolic sine: log(x + root) with root = sqrt(x*x + 1), up to 2 as that of (d + x) / (d - x) with
    d = root + 1, beyond as that of (x + root) / 8, of which nothing overflows."""
    size = absolute(x)
    square = fma(size, size, 1.0)
    root = square_root(square)
    d = root + 1.0
    outer = size > 2.0
    # what rounding has added to d, which is about 2 where this matters, and to the square
    lost = select(outer, 0.0, fma(fma(-size, size, square - 1.0), 0.25, ((d - 1.0) - root) * 0.5))
    below = select(outer, 1.0, root + (1.0 - size))
    root = select(size > BIG[x.bits], size, root)
    eighth = fma(root, 0.125, size * 0.125)
    above = select(outer, eighth, 1.0 + (root + size))
    apart, total = select(outer, fma(eighth, 2.0, -2.0), size * 4.0), select(outer, eighth + 1.0, d + d)
    result = _log_of_quotient(above, below, apart, total, select(outer, x.constant(3.0), 0.0), lost)
    return copysign(select(size < INF, result, size), x)


# Beyond this acosh(x) is log(2 * x), and x * x may overflow.
HUGE = {32: 2.0**60, 64: 2.0**500}


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
    result = _log_of_quotient(size + 1.0, 1.0 - size, size * 4.0, size.constant(2.0)) * 0.5
    return copysign(select(size < 1.0, result, select(size.equals(1.0), x.constant(INF), NAN)), x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + e**-x)"""
    t = exp_of_negative(-absolute(x))
    sum_ = t + 1.0
    result = select(x < 0.0, t, 1.0) / sum_
    return fma(result, (sum_ - 1.0) - t, result)     # what the sum was rounded by, where it is about 1


def softplus(x: Value) -> Value:
    """log(1 + e**x), without overflow"""
    return select(x > 0.0, x, 0.0) + log1p(exp_of_negative(-absolute(x)))


def logaddexp(x: Value, y: Value) -> Value:
    """log(e**x + e**y), without overflow"""
    larger = select(x > y, x, y)
    apart = larger + log1p(exp_of_negative(-absolute(x - y)))
    result = select(x.equals(y), x + math.log(2.0), apart)  # also infinities of one sign, whose difference is nan
    return select(is_nan(x), x, select(is_nan(y), y, result))


FUNCTIONS = {
    **{body.__name__: function(body.__name__, body, 1) for body in (
        exp, exp2, expm1, log, log1p, log2, log10, tanh, sinh, cosh, asinh, acosh, atanh, sigmoid, softplus)},
    "logaddexp": function("logaddexp", logaddexp, 2),
}
