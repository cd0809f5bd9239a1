"""Arithmetic on arrays, bit for bit as the PTX instruction set defines it. Pure functions; no machine here.

Where NumPy rounds once, it is NumPy. A fused multiply-add rounds once too, though its product does not fit: its sum is
taken with the error that rounding leaves, and only values next to a tie need that error (`fma32`, `fma64`).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

F32, F64, U32, U64, I64 = (np.dtype(name) for name in ("float32", "float64", "uint32", "uint64", "int64"))
count_nonzero = np.count_nonzero
BELOW_FLOAT, HALF_A_FLOAT = np.uint64(0x1FFFFFFF), np.uint64(0x10000000)
"""Of a float64: the bits that float32 has no place for, and their value in the middle between two floats."""
SMALLEST = np.float64(2.0**-126)
"""The smallest normal float32."""
NAN32 = np.array([0x7FFFFFFF], np.uint32).view(F32)[0]
"""The NaN that single-precision instructions return."""


def canonical(value: Array) -> Array:
    """A float32 result with NaNs as the hardware writes them."""
    nan = value != value
    if count_nonzero(nan):
        value[nan] = NAN32
    return value


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b = sum + error, exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def to_odd(value: Array, error: Array) -> Array:
    """value + error, rounded to odd: inexact results end in a 1 bit, so that a later rounding to fewer bits is right.
    `value` is the sum rounded to nearest; its last bit is set towards `error`."""
    bits = value.view(U64)
    inexact = (error != 0) & (bits & np.uint64(1) == 0) & np.isfinite(value)
    if not inexact.any():
        return value
    outward = (error > 0) == (value > 0)     # the exact sum is larger in magnitude
    bits = np.where(inexact, np.where(outward, bits + np.uint64(1), bits - np.uint64(1)), bits)
    return bits.view(F64)


def round32(value: Array, mode: str) -> Array:
    """float64 values that are exact, or rounded to odd, as float32."""
    result = value.astype(F32)
    if mode == "rn":
        return result
    wide = result.astype(F64)
    if mode == "rm" or mode == "rz":
        down = (wide > value) & ((value > 0) | (mode == "rm"))
        result = np.where(down, np.nextafter(result, F32.type(-np.inf)), result)
    if mode == "rp" or mode == "rz":
        up = (wide < value) & ((value < 0) | (mode == "rp"))
        result = np.where(up, np.nextafter(result, F32.type(np.inf)), result)
    return result


def fma32(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """a * b + c, rounded once. The product is exact in float64; its sum is a rounded one, and to round again is wrong
    only where it is a tie of float32 values or below their normal range, or in directed modes."""
    product = a.astype(F64) * b.astype(F64)
    wide = c.astype(F64)
    total = product + wide
    tie = (total.view(U64) & BELOW_FLOAT) == HALF_A_FLOAT
    least = np.minimum.reduce(np.abs(total))     # NaN if there is one
    if mode == "rn" and least >= SMALLEST and not count_nonzero(tie):
        return total.astype(F32)
    if mode != "rn" or count_nonzero(tie) or count_nonzero((np.abs(total) < SMALLEST) & (total != 0)):
        product, wide = np.broadcast_arrays(product, wide)
        total = to_odd(*two_sum(product, wide))
    result = round32(total, mode)
    if mode == "rm":     # an exact zero of opposite terms is -0 here
        zero = (total == 0) & (np.signbit(product) != np.signbit(wide))
        result = np.where(zero, F32.type(-0.0), result)
    return canonical(result)


SPLIT = 134217729.0


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b = product + error, exactly, away from the ends of the exponent range."""
    product = a * b
    t = SPLIT * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = SPLIT * b
    b_high = t - (t - b)
    b_low = b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once (Boldo and Melquiond: the two small parts are added to odd, the large one last). Rational
    arithmetic takes over near the ends of the exponent range."""
    a, b, c = np.broadcast_arrays(a, b, c)
    high, low = two_product(a, b)
    carry, carry_low = two_sum(c, low)
    total, total_low = two_sum(high, carry)
    result = total + to_odd(*two_sum(carry_low, total_low))
    plain = high + c
    size = np.maximum(np.abs(high), np.abs(c))
    special = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)) | (a == 0) | (b == 0)
    sure = (np.abs(a) < 2.0**990) & (np.abs(b) < 2.0**990) & (size < 2.0**1000) & (np.abs(high) > 2.0**-900)
    result = np.where(special, plain, result)
    for at in np.flatnonzero(~special & ~sure):
        result[at] = _fma_exactly(float(a[at]), float(b[at]), float(c[at]))
    return result


def _fma_exactly(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        rounded = abs(exact.numerator) / exact.denominator
    except OverflowError:
        rounded = np.inf
    return float(-rounded if exact < 0 else rounded)


def exact32(operation: str, a: Array, b: Array, mode: str) -> Array:
    """float32 sum, difference or product in a directed rounding mode."""
    wide_a, wide_b = a.astype(F64), b.astype(F64)
    if operation == "mul":
        return canonical(round32(wide_a * wide_b, mode))
    wide_b = wide_b if operation == "add" else -wide_b
    return fma32(a, np.ones_like(a), wide_b.astype(F32), mode)


def minimum(a: Array, b: Array, propagate: bool) -> Array:
    return _extreme(a, b, np.minimum if propagate else np.fmin, np.signbit(a), propagate)


def maximum(a: Array, b: Array, propagate: bool) -> Array:
    return _extreme(a, b, np.maximum if propagate else np.fmax, ~np.signbit(a), propagate)


def _extreme(a: Array, b: Array, function: Any, first: Array, propagate: bool) -> Array:
    """-0 is less than +0; a NaN gives way to a number, or, with `propagate`, wins over it."""
    result = function(a, b)
    zeros = (a == 0) & (b == 0)
    if zeros.any():
        result = np.where(zeros, np.where(first, a, b), result)
    return canonical(result) if result.dtype == F32 else result


ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def float_to_int(value: Array, target: Any, mode: str) -> Array:
    """Out of range is the nearest end; a NaN is 0 between types of 32 bits and less, else the top bit alone."""
    target = np.dtype(target)
    limits = np.iinfo(target)
    nan = np.isnan(value)
    whole = ROUND[mode](value).astype(F64)
    upper = 2.0 ** (limits.bits - (limits.min < 0))
    above, below = whole >= upper, whole < float(limits.min)
    result = np.where(above | below | nan, 0.0, whole).astype(target)
    result[above], result[below] = limits.max, limits.min
    if nan.any():
        wide = value.dtype == F64 or limits.bits == 64
        result[nan] = (np.array([1 << (limits.bits - 1)], f"u{target.itemsize}").view(target)[0] if wide else 0)
    return result


def saturate(value: Array) -> Array:
    """Into [0, 1]; a NaN is 0 and so is -0."""
    one, zero = value.dtype.type(1), value.dtype.type(0)
    return np.where(value >= one, one, np.where(value > zero, value, zero))


def flush(value: Array) -> Array:
    """Subnormal numbers as zeros of their sign."""
    tiny = np.finfo(value.dtype).tiny
    return np.where(np.abs(value) < tiny, np.copysign(value.dtype.type(0), value), value)


def divide(a: Array, b: Array) -> Array:
    """Integers, towards zero; b is not 0."""
    if a.dtype.kind == "u":
        return a // b
    quotient = a // b
    return quotient + ((quotient * b != a) & ((a < 0) != (b < 0)))


def multiply_high(a: Array, b: Array) -> Array:
    """The upper half of the product."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(bits)).astype(a.dtype)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y = a.view(U64), b.view(U64)
    low = (x & mask) * (y & mask)
    middle = (x >> half) * (y & mask) + (low >> half)
    other = (x & mask) * (y >> half) + (middle & mask)
    high = (x >> half) * (y >> half) + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def shift_left(value: Array, count: Array) -> Array:
    bits = 8 * value.dtype.itemsize
    kept = value << np.minimum(count, bits - 1).astype(value.dtype)
    return np.where(count >= bits, value.dtype.type(0), kept)


def shift_right(value: Array, count: Array) -> Array:
    bits = 8 * value.dtype.itemsize
    kept = value >> np.minimum(count, bits - 1).astype(value.dtype)
    return kept if value.dtype.kind == "i" else np.where(count >= bits, value.dtype.type(0), kept)


def funnel(low: Array, high: Array, count: Array, left: bool, clamp: bool) -> Array:
    """The 64 bits high:low, shifted; the upper word after a shift to the left, else the lower."""
    count = np.minimum(count, 32) if clamp else count & np.uint32(31)
    joined = (high.astype(U64) << np.uint64(32)) | low
    count = count.astype(U64)
    return (((joined << count) >> np.uint64(32)) if left else joined >> count).astype(U32)


def extract(value: Array, start: Array, length: Array) -> Array:
    """bfe: `length` bits from bit `start`, extended with the sign of the field if the type has one."""
    bits = 8 * value.dtype.itemsize
    unsigned = np.dtype(f"u{value.dtype.itemsize}")
    start, length = (start & np.uint32(255)).astype(I64), (length & np.uint32(255)).astype(I64)
    field = shift_right(value.view(unsigned), start)
    mask = np.where(length >= bits, ~unsigned.type(0), shift_left(np.ones_like(field), length) - unsigned.type(1))
    field = field & mask
    if value.dtype.kind == "u":
        return field
    top = np.minimum(start + length - 1, bits - 1)
    sign = (shift_right(value.view(unsigned), np.maximum(top, 0)) & unsigned.type(1)).astype(bool) & (length > 0)
    covered = np.minimum(length, np.maximum(bits - start, 0))     # bits beyond the top are copies of the sign
    fill = np.where(covered >= bits, unsigned.type(0), shift_left(np.full_like(field, ~unsigned.type(0)), covered))
    return np.where(sign, field | fill, field).view(value.dtype)


def insert(field: Array, value: Array, start: Array, length: Array) -> Array:
    """bfi: the low `length` bits of `field` into `value` at bit `start`."""
    bits, unsigned = 8 * value.dtype.itemsize, value.dtype
    start, length = (start & np.uint32(255)).astype(I64), (length & np.uint32(255)).astype(I64)
    ones = np.where(length >= bits, ~unsigned.type(0),
                    shift_left(np.ones(np.broadcast(start, length, value).shape, unsigned), length) - unsigned.type(1))
    mask = shift_left(ones, start)
    return (value & ~mask) | (shift_left(field + np.zeros_like(ones), start) & mask)


def permute(a: Array, b: Array, selector: Array) -> Array:
    """prmt: four bytes chosen from b:a; bit 3 of a choice copies the sign bit of the byte over all of it."""
    joined = (b.astype(U64) << np.uint64(32)) | a
    result = np.zeros(joined.shape, U64) + np.uint64(0)
    for k in range(4):
        choice = (selector >> np.uint32(4 * k)).astype(U64)
        byte = (joined >> ((choice & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        byte = np.where(choice & np.uint64(8), (byte >> np.uint64(7)) * np.uint64(255), byte)
        result = result | (byte << np.uint64(8 * k))
    return result.astype(U32)


def leading_zeros(value: Array) -> Array:
    bits = 8 * value.dtype.itemsize
    count = np.full(value.shape, bits, U32)
    rest = value.copy()
    for step in (32, 16, 8, 4, 2, 1):
        if step < bits:
            upper = rest >> value.dtype.type(step)
            found = upper != 0
            count = np.where(found, count - np.uint32(step), count)
            rest = np.where(found, upper, rest)
    return count - (rest != 0).astype(U32)


def reverse_bits(value: Array) -> Array:
    flat = np.unpackbits(np.ascontiguousarray(value).view(np.uint8).reshape(len(value), -1), axis=1, bitorder="little")
    return np.packbits(flat[:, ::-1], axis=1, bitorder="little").view(value.dtype).ravel()


def logic3(a: Array, b: Array, c: Array, table: int) -> Array:
    """lop3: bit (a << 2 | b << 1 | c) of the table, for each bit."""
    result = np.zeros(np.broadcast(a, b, c).shape, a.dtype)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    return result


def kind_of_float(value: Array, what: str) -> Array:
    tiny = np.finfo(value.dtype).tiny
    if what == "subnormal":
        return (np.abs(value) < tiny) & (value != 0)
    if what == "normal":
        return np.isfinite(value) & (np.abs(value) >= tiny)
    if what == "number":
        return ~np.isnan(value)
    return {"finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan}[what](value)
