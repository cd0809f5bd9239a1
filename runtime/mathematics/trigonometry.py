"""sin, cos, tan and their inverses, for arguments of every size, without float64 in float32.

Arguments below NEAR, by subtraction (Cody and Waite): n * pi/2 for tan, n * pi for sin and (n + 1/2) * pi for cos are
taken away in three parts, of which fma makes the first step exact; sin and cos then need one polynomial. What is left
keeps its digits where x lies as close to such a multiple as a float below NEAR can.

Above, which is `rarely` computed: n * pi/2 + r + rest, where r + rest keeps more than the working precision even where
x lies as close to a multiple of pi/2 as a float can (2**-30 for float32, 2**-62 for float64).

  float32  x is an integer of 24 bits times 2**e; a 96-bit window of 2/pi that starts where e says, times that integer,
           modulo 2**64, is n in its top two bits and the fraction below (Payne and Hanek).
  float64  x = s * 2**(64*q); the product of s with 2/pi * 2**(64*q) modulo 2**14 in five parts, of which every partial
           product gives up its whole number. The parts are chosen by comparisons: a table would be a gather, which LLVM
           refuses on some machines, and with it the whole loop.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

from llvmlite import ir

from .emit import (
    Value,
    absolute,
    copysign,
    fma,
    from_bits,
    function,
    nearest,
    polynomial,
    rarely,
    select,
    square_root,
    to_bits,
    to_integer,
)
from .vector_math import BIAS, INF, MANTISSA_BITS, NAN, nearest_integer

# floor(2/pi * 2**1216): 1216 bits serve the largest exponent, 1023, three parts of 53 and the spare bits between them.
TWO_OVER_PI_BITS = 1216
TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab", 16)

# sin(r) = r + r**3 * S(r*r) and cos(r) = 1 - r*r/2 + r**4 * C(r*r) on [-pi/4, pi/4], minimax: 2**-27 and 2**-56 (sin),
# 2**-30 and 2**-60 (cos).
SIN = {
    32: (2.7163153e-06, -1.9839122e-04, 8.333329e-03, -1.6666667e-01),
    64: (1.5888173100866342e-10, -2.5050610633005048e-08, 2.755731276124535e-06, -0.000198412698271685,
         0.008333333333319187, -0.16666666666666619),
}
COS = {
    32: (2.441908e-05, -1.3887201e-03, 4.166664e-02),
    64: (-1.1353746692619548e-11, 2.087561040166478e-09, -2.7557313532784454e-07, 2.4801587286694216e-05,
         -0.0013888888888869762, 0.041666666666666574),
}

HALF_PI = {32: (1.5707963705062866, -4.371138828673793e-08), 64: (1.5707963267948966, 6.123233995736766e-17)}


# pi in three parts, each the nearest float to what is left.
PI_PARTS = {32: (3.1415927410125732, -8.742277657347586e-08, -3.4302490200117637e-15),
            64: (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33)}

NEAR = {32: 2.0**15, 64: 2.0**40}
"""Arguments below are reduced by subtraction."""

# (sin(r) - r) / r**3 in powers of r*r on [-pi/2, pi/2] and 2**-10 beyond, minimax: 2**-27 and 2**-61.
HALF_TURN = {
    32: (2.6060748e-06, -1.9809772e-04, 8.333069e-03, -1.666666e-01),
    64: (2.7213601914266858e-15, -7.643014460233382e-13, 1.605894084456624e-10, -2.505210690197697e-08,
         2.755731921155129e-06, -0.00019841269841212427, 0.008333333333333207, -0.16666666666666666),
}


Angle = tuple[Value, Value, Value]
"""(n, r, rest): n as an integer, of which the last two bits count."""


def _two_sum(x: Value, y: Value) -> tuple[Value, Value]:
    """x + y and what the rounding lost (Knuth)."""
    total = x + y
    gained = total - x
    return total, (x - (total - gained)) + (y - gained)


def _radians(turn: Value, turn_rest: Value) -> tuple[Value, Value]:
    """Quarter turns as an angle: (r, rest) with rest below the last place of r."""
    half_pi, half_pi_rest = HALF_PI[turn.bits]
    product = turn * half_pi
    product_rest = fma(turn, half_pi, -product) + fma(turn, half_pi_rest, turn_rest * half_pi)
    r = product + product_rest
    return r, product_rest - (r - product)


def _window_word(position: int) -> int:
    """64 bits of 2/pi: floor(2/pi * 2**position) modulo 2**64."""
    return (TWO_OVER_PI >> TWO_OVER_PI_BITS - position) & (1 << 64) - 1


def _window(size: Value) -> tuple[Value, Value, Value]:
    """(integer, high, low) for a float32 size >= 1/2: its mantissa as an integer, and the window of 2/pi to multiply it
    with: 64 bits, of which the product's first two count quarter turns, and the 32 bits after them."""
    builder, wide = size.builder, size.shaped(ir.IntType(64))
    bits = to_bits(size)
    position = (bits >> 23) - 126
    mantissa = (bits & 0x7FFFFF) | 0x800000
    last = position > 127  # the largest exponent: one step less and twice the mantissa
    position, mantissa = select(last, 127, position), select(last, mantissa + mantissa, mantissa)
    integer, place = (Value(builder, builder.zext(each.raw, wide), unsigned=True) for each in (mantissa, position))
    words = [place.constant(_window_word(38 + 64 * word)) for word in range(4)]
    beyond = place >= 64
    first, second, third = (select(beyond, new, old) for new, old in zip(words[1:], words))
    left = place & 63
    right = 63 - left
    high = (first << left) | (second >> 1 >> right)
    return integer, high, ((second << left) | (third >> 1 >> right)) >> 32


def _reduce_by_window(size: Value) -> Angle:
    """float32, |x| >= 1/2."""
    builder, narrow = size.builder, size.shaped(ir.IntType(32))
    integer, high, low = _window(size)
    product = integer * high + (integer * low >> 32)
    upper, lower = (Value(builder, builder.trunc(half.raw, narrow), unsigned=True) for half in (product >> 32, product))
    n = (upper + (1 << 29)) >> 30
    # below n, as a signed number of 64 bits: how far beyond n * pi/2; split into 24 bits, rounded, and 32 after them
    fraction = Value(builder, ((upper << 2) | (lower >> 30)).raw)
    half = fraction >> 1
    top = (half + 64) & -128
    tail = ((half - top) << 24) | ((fraction & 1) << 23) | (Value(builder, (lower << 2).raw, unsigned=True) >> 9)
    turn, turn_rest = (size.of(builder.sitofp(each.raw, size.raw.type)) for each in (top, tail))
    r, rest = _radians(turn * 2.0**-31, turn_rest * 2.0**-55)
    return Value(builder, n.raw), r, rest


STEP = 64
"""Bits of argument that one entry of the float64 parts serves."""
LARGE = 2.0**40
"""Where the float64 ways part; the last bit of a larger argument is worth at least 2**-12."""
MODULUS = 2**14
PARTS = 5
ENTRIES = 16


@cache
def reduction_parts(q: int) -> tuple[float, ...]:
    """2/pi * 2**(STEP*q) modulo MODULUS as a sum of float64, each but the last with a full mantissa."""
    rest = Fraction(TWO_OVER_PI << STEP * q, 1 << TWO_OVER_PI_BITS) % MODULUS
    parts = []
    for _ in range(PARTS):
        parts.append(float(rest))
        rest -= Fraction(parts[-1])
    return tuple(parts)


def _large_parts(size: Value) -> tuple[Value, list[Value]]:
    """(s, parts) of a float64 size of at least LARGE."""
    parts = [size.constant(part) for part in reduction_parts(0)]
    for q in range(1, ENTRIES):
        beyond = size >= LARGE * 2.0 ** (STEP * q)
        parts = [select(beyond, new, old) for new, old in zip(reduction_parts(q), parts)]
    bits = to_bits(size)
    above = (bits >> MANTISSA_BITS[64]) - (BIAS[64] + 40)
    steps = (above >> STEP.bit_length() - 1) << STEP.bit_length() - 1
    return from_bits(bits - (steps << MANTISSA_BITS[64])), parts


def _reduce_by_parts(size: Value) -> Angle:
    """float64, |x| >= LARGE."""
    scaled, parts = _large_parts(size)
    products = [scaled * part for part in parts]
    losses = [fma(scaled, part, -product) for part, product in zip(parts, products)]
    n, total, rests = size.constant(0.0), size.constant(0.0), losses[3] + products[4]
    for term in (products[0], losses[0], products[1], losses[1], products[2]):  # these are above 1
        whole = nearest(term)
        n = n + (whole - nearest(whole * 0.25) * 4.0)
        total, rest = _two_sum(total, term - whole)
        rests = rests + rest
    whole = nearest(total)
    small, small_rest = _two_sum(losses[2], products[3])
    turn, rest = _two_sum(total - whole, small)
    return (to_integer(n + whole), *_radians(turn, rests + rest + small_rest))


def _reduce_far(size: Value) -> Angle:
    """For arguments of at least NEAR."""
    return _reduce_by_window(size) if size.bits == 32 else _reduce_by_parts(size)


def _subtract(size: Value, whole: Value) -> Value:
    """size - whole * pi, |whole| below NEAR. The first step is exact, the last is a correction: one rounding."""
    for part in PI_PARTS[size.bits]:
        size = fma(whole, -part, size)
    return size


def _reduce_near(size: Value) -> Angle:
    """For arguments below NEAR, by quarter turns."""
    whole, n = nearest_integer(size, 2.0 / math.pi)
    first, second, third = (part * 0.5 for part in PI_PARTS[size.bits])
    exact = fma(whole, -first, size)
    r = fma(whole, -second, exact)
    # what r was rounded by, where the difference is exact; nearer to the multiple, its own last place is far smaller
    lost = select(absolute(r) > whole * (4.0 * abs(second)), fma(whole, -second, exact - r), 0.0)
    return n, r, fma(whole, -third, lost)


def sine_and_cosine(r: Value, rest: Value) -> tuple[Value, Value]:
    """sin(r + rest) and cos(r + rest) for |r| <= pi/4 and a correction below its last place."""
    (sine, tail), (cosine, cosine_tail) = _sine_and_cosine_parts(r, rest)
    return sine + tail, cosine + cosine_tail


Parts = tuple[Value, Value]


def _sine_and_cosine_parts(r: Value, rest: Value) -> tuple[Parts, Parts]:
    """As `sine_and_cosine`, each as a sum that is still to be rounded (fdlibm k_sin.c, k_cos.c)."""
    z = r * r
    half = z * 0.5
    whole = 1.0 - half
    return ((r, fma(polynomial(z, SIN[r.bits]) * z, r, rest)),
            (whole, fma(polynomial(z, COS[r.bits]) * z, z, ((1.0 - whole) - half) - r * rest)))


def _finite_or_nan(x: Value, result: Value) -> Value:
    return select(absolute(x) < INF, result, NAN)


def _sine(r: Value) -> Value:
    """sin(r) for |r| <= pi/2"""
    z = r * r
    return fma(polynomial(z, HALF_TURN[r.bits]) * z, r, r)


def _flip(x: Value, n: Value) -> Value:
    """x, of the other sign where n is odd"""
    return from_bits(to_bits(x) ^ (n << x.bits - 1))


def _is_far(size: Value) -> Value:
    """Also infinities and nan."""
    return ~(size < NEAR[size.bits])


def sin(x: Value) -> Value:
    """The sine."""
    size = absolute(x)

    def far() -> list[Value]:
        n, r, rest = _reduce_far(size)
        sine, cosine = sine_and_cosine(r, rest)
        result = select((n & 1).equals(0), sine, cosine)
        return [_finite_or_nan(x, _flip(result, n >> 1))]

    whole, n = nearest_integer(size, 1.0 / math.pi)
    near = _flip(_sine(_subtract(size, whole)), n)
    (result,) = rarely(_is_far(size), far, [near])
    return from_bits(to_bits(result) ^ (to_bits(x) & 1 << x.bits - 1))


def cos(x: Value) -> Value:
    """The cosine."""
    size = absolute(x)

    def far() -> list[Value]:
        n, r, rest = _reduce_far(size)
        sine, cosine = sine_and_cosine(r, rest)
        result = select((n & 1).equals(0), cosine, sine)
        return [_finite_or_nan(x, _flip(result, n + 1 >> 1))]

    # the nearest odd multiple of pi/2: twice the whole number below, and one
    whole = nearest(fma(size, 1.0 / math.pi, -0.5))
    near = _flip(-_sine(_subtract(size, whole + 0.5)), to_integer(whole))
    (result,) = rarely(_is_far(size), far, [near])
    return result


def tan(x: Value) -> Value:
    """The tangent: a quotient, corrected by what its operands and itself were rounded by."""
    size = absolute(x)
    n, r, rest = rarely(_is_far(size), lambda: _reduce_far(size), _reduce_near(size))
    odd = (n & 1).differs(0)
    sine, cosine = _sine_and_cosine_parts(r, rest)
    top, top_tail = (select(odd, -new, old) for new, old in zip(cosine, sine))
    bottom, bottom_tail = (select(odd, new, old) for new, old in zip(sine, cosine))
    above, below = top + top_tail, bottom + bottom_tail
    inverse = 1.0 / below
    result = above * inverse
    lost = fma(-result, below, above) + ((top - above) + top_tail)
    lost = fma(-result, (bottom - below) + bottom_tail, lost)
    result = _finite_or_nan(x, fma(lost, inverse, result))
    return from_bits(to_bits(result) ^ (to_bits(x) & 1 << x.bits - 1))


# (asin(x) - x) / x**3 in powers of x*x on [0, 1/2], minimax: 2**-30 and 2**-59.
ASIN = {
    32: (3.756856e-02, 1.4401533e-02, 3.1817473e-02, 4.45158e-02, 7.50051e-02, 1.666666e-01),
    64: (0.032679594079601845, -0.021078896685299324, 0.02176253849455069, 0.0036843845781459493, 0.010785893867842499,
         0.01139794581047167, 0.013980932732853422, 0.017351603271279905, 0.02237221543030268, 0.03038194269415421,
         0.04464285717483527, 0.07499999999970662, 0.1666666666666676),
}


def _asin_core(size: Value) -> tuple[Value, Value, Value]:
    """(inner, root, tail): where size < 1/2 inner holds and asin(size) = root + tail; elsewhere it is
    pi/2 - 2 * (root + tail), root being the root of (1 - size) / 2 and its rounding error in the tail."""
    inner = size < 0.5
    square = select(inner, size * size, (1.0 - size) * 0.5)
    root = select(inner, size, square_root(square))
    tail = polynomial(square, ASIN[size.bits]) * square * root
    lost = fma(-root, root, square) / (root + root)
    return inner, root, select(inner | root.equals(0.0), tail, tail + lost)


def asin(x: Value) -> Value:
    """The inverse sine; nan beyond [-1, 1]."""
    inner, root, tail = _asin_core(absolute(x))
    half_pi, rest = HALF_PI[x.bits]
    outer = (half_pi - root * 2.0) - (tail * 2.0 - rest)
    return copysign(select(inner, root + tail, outer), x)


def acos(x: Value) -> Value:
    """The inverse cosine; nan beyond [-1, 1]."""
    inner, root, tail = _asin_core(absolute(x))
    half_pi, rest = HALF_PI[x.bits]
    near_zero = half_pi - (copysign(root + tail, x) - rest)
    twice = (root + tail) * 2.0
    outer = select(x < 0.0, 2.0 * half_pi - (twice - 2.0 * rest), twice)
    return select(inner, near_zero, outer)


# (atan(x) - x) / x**3 in powers of x*x on [0, 1], minimax: 2**-25.5 and 2**-54.7.
ATAN = {
    32: (2.914192e-03, -1.6351214e-02, 4.3196518e-02, -7.5515725e-02, 1.06658325e-01, -1.4211008e-01, 1.9993767e-01,
         -3.3333153e-01),
    64: (-1.9986964164000746e-05, 0.0002206564923090526, -0.0011546638194229694, 0.0038333715520718426,
         -0.009147959090841339, 0.016935859985457918, -0.025791204250861028, 0.03404552158865203, -0.04091600645572237,
         0.046735937895080834, -0.05239145023722325, 0.05877292704311349, -0.0666585870628208, 0.07692212832396315,
         -0.09090901234204112, 0.11111110678908305, -0.14285714271341948, 0.1999999999975519, -0.3333333333333186),
}


def _atan_to_one(t: Value) -> Value:
    """atan(t) for 0 <= t <= 1"""
    z = t * t
    return fma(polynomial(z, ATAN[t.bits]) * z, t, t)


def _quarter_less(angle: Value) -> Value:
    """pi/2 - angle"""
    half_pi, rest = HALF_PI[angle.bits]
    return half_pi - (angle - rest)


def atan(x: Value) -> Value:
    """The inverse tangent."""
    size = absolute(x)
    outer = size > 1.0
    angle = _atan_to_one(select(outer, 1.0, size) / select(outer, size, 1.0))
    return copysign(select(outer, _quarter_less(angle), angle), x)


def atan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), of y's sign."""
    tall, wide = absolute(y), absolute(x)
    outer = tall > wide
    smaller, larger = select(outer, wide, tall), select(outer, tall, wide)
    t = select(smaller.equals(larger), 1.0, smaller / larger)     # also two infinities
    angle = _atan_to_one(select(larger.equals(0.0), smaller, t))     # 0 or nan
    angle = select(outer, _quarter_less(angle), angle)
    half_pi, rest = HALF_PI[x.bits]
    angle = select(to_bits(x) < 0, 2.0 * half_pi - (angle - 2.0 * rest), angle)
    return copysign(angle, y)


FUNCTIONS = {
    **{body.__name__: function(body.__name__, body, 1) for body in (sin, cos, tan, asin, acos, atan)},
    "atan2": function("atan2", atan2, 2),
}
