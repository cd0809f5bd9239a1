"""Single instructions against Python's integers, exact fractions and the definitions of the instruction set."""

import math
import operator
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from . import Approximate, Undefined, Unsupported
from .snippets import Array, evaluate, run

COUNT = 600


def integers(kind: str, seed: int = 0) -> Array:
    """Random numbers of random lengths, with the ends of the range and small ones first."""
    bits, signed = int(kind[1:]), kind[0] == "s"
    random = np.random.default_rng(seed)
    values = random.integers(0, 2**63, COUNT, np.uint64) * 2 + random.integers(0, 2, COUNT, np.uint64)
    values >>= random.integers(0, 64, COUNT).astype(np.uint64)
    values = np.where(random.random(COUNT) < 0.3, ~values, values)
    special = [0, 1, 2, 31, 32, 63, 64, 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1]
    values[: len(special) ** 2] = np.repeat(np.array(special, np.uint64), len(special))
    if seed % 2:
        values[: len(special) ** 2] = np.tile(np.array(special, np.uint64), len(special))
    return values.astype(f"u{bits // 8}").view(f"{'i' if signed else 'u'}{bits // 8}")


SPECIAL32 = np.array([0, 1 << 31, 1, 0x807FFFFF, 0x00800000, 0x3F800000, 0xBF800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000,
                      0xFF800000, 0x7FC00000, 0xFFC12345, 0x3F000000, 0x3FC00000, 0x40200000, 0x4F000000, 0xCF000000,
                      0x4F800000, 0x5F000000], np.uint32).view(np.float32)


def floats(kind: str, seed: int = 0) -> Array:
    """Random bit patterns, numbers near 1, and pairs of special values."""
    random = np.random.default_rng(seed + 100)
    special = SPECIAL32.astype(np.float64) if kind == "f64" else SPECIAL32
    count = len(special) ** 2 + COUNT
    width = {"f32": np.uint32, "f64": np.uint64}[kind]
    values = random.integers(0, np.iinfo(width).max, count, width, endpoint=True).view(special.dtype)
    values[::2] = random.standard_normal(len(values[::2])).astype(special.dtype)
    pairs = np.tile(special, len(special)) if seed % 2 else np.repeat(special, len(special))
    values[: len(pairs)] = pairs
    return values


def wrap(value: int, kind: str) -> int:
    bits = int(kind[1:])
    value %= 1 << bits
    return value - (1 << bits) if kind[0] == "s" and value >> (bits - 1) else value


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def bit_field(value: int, start: int, length: int, kind: str) -> int:
    bits, start, length = int(kind[1:]), start & 255, length & 255
    if length == 0:
        return 0
    sign = value >> min(start + length - 1, bits - 1) & 1 if kind[0] == "s" else 0
    return sum((((value >> start + k) & 1) if start + k < bits else sign) << k for k in range(min(length, bits))) | (
        -sign << min(length, bits))


def inserted(field: int, value: int, start: int, length: int, bits: int) -> int:
    start, length = start & 255, length & 255
    for k in range(length):
        if start + k < bits:
            value = value & ~(1 << start + k) | (field >> k & 1) << start + k
    return value


def permuted(a: int, b: int, selector: int) -> int:
    result, joined = 0, b << 32 | a
    for k in range(4):
        choice = selector >> 4 * k & 15
        byte = joined >> 8 * (choice & 7) & 255
        result |= ((255 if byte >> 7 else 0) if choice & 8 else byte) << 8 * k
    return result


Reference = Callable[..., int]
ROWS: list[tuple[str, list[str], str, Reference]] = []
for KIND in "s16 u16 s32 u32 s64 u64".split():
    BITS = int(KIND[1:])
    ROWS += [(f"add.{KIND}", [KIND] * 2, KIND, operator.add), (f"sub.{KIND}", [KIND] * 2, KIND, operator.sub),
             (f"mul.lo.{KIND}", [KIND] * 2, KIND, operator.mul),
             (f"mul.hi.{KIND}", [KIND] * 2, KIND, lambda a, b, bits=BITS: a * b >> bits),
             (f"mad.lo.{KIND}", [KIND] * 3, KIND, lambda a, b, c: a * b + c),
             (f"mad.hi.{KIND}", [KIND] * 3, KIND, lambda a, b, c, bits=BITS: (a * b >> bits) + c),
             (f"min.{KIND}", [KIND] * 2, KIND, min), (f"max.{KIND}", [KIND] * 2, KIND, max),
             (f"sad.{KIND}", [KIND] * 3, KIND, lambda a, b, c: abs(a - b) + c),
             (f"shr.{KIND}", [KIND, "u32"], KIND, lambda a, n: a >> min(n, 64))]
    if KIND[0] == "s":
        ROWS += [(f"neg.{KIND}", [KIND], KIND, operator.neg), (f"abs.{KIND}", [KIND], KIND, abs)]
    if BITS < 64:
        WIDE = f"{KIND[0]}{2 * BITS}"
        ROWS += [(f"mul.wide.{KIND}", [KIND] * 2, WIDE, operator.mul),
                 (f"mad.wide.{KIND}", [KIND, KIND, WIDE], WIDE, lambda a, b, c: a * b + c)]
    if BITS > 16:
        ROWS.append((f"bfe.{KIND}", [KIND, "u32", "u32"], KIND,
                     lambda a, start, length, kind=KIND: bit_field(a, start, length, kind)))
for BITS in (16, 32, 64):
    KIND = f"b{BITS}"
    ROWS += [(f"and.{KIND}", [KIND] * 2, KIND, operator.and_), (f"or.{KIND}", [KIND] * 2, KIND, operator.or_),
             (f"xor.{KIND}", [KIND] * 2, KIND, operator.xor), (f"not.{KIND}", [KIND], KIND, operator.invert),
             (f"cnot.{KIND}", [KIND], KIND, lambda a: int(a == 0)),
             (f"shl.{KIND}", [KIND, "u32"], KIND, lambda a, n: a << min(n, 64))]
    if BITS > 16:
        ROWS += [(f"popc.{KIND}", [KIND], "u32", lambda a: a.bit_count()),
                 (f"clz.{KIND}", [KIND], "u32", lambda a, bits=BITS: bits - a.bit_length()),
                 (f"brev.{KIND}", [KIND], KIND, lambda a, bits=BITS: int(f"{a:0{bits}b}"[::-1], 2)),
                 (f"bfi.{KIND}", [KIND, KIND, "u32", "u32"], KIND,
                  lambda f, a, s, n, bits=BITS: inserted(f, a, s, n, bits))]
ROWS += [("prmt.b32", ["b32", "b32", "u32"], "b32", permuted),
         ("shf.l.wrap.b32", ["b32", "b32", "u32"], "b32", lambda a, b, n: (b << 32 | a) << (n & 31) >> 32),
         ("shf.r.wrap.b32", ["b32", "b32", "u32"], "b32", lambda a, b, n: (b << 32 | a) >> (n & 31)),
         ("shf.l.clamp.b32", ["b32", "b32", "u32"], "b32", lambda a, b, n: (b << 32 | a) << min(n, 32) >> 32),
         ("shf.r.clamp.b32", ["b32", "b32", "u32"], "b32", lambda a, b, n: (b << 32 | a) >> min(n, 32))]


@pytest.mark.parametrize(("opcode", "kinds", "result", "reference"), ROWS, ids=[row[0] for row in ROWS])
def test_integers(opcode: str, kinds: list[str], result: str, reference: Reference) -> None:
    operands = [integers(kind, seed) for seed, kind in enumerate(kinds)]
    if kinds[-1] == "u32" and len(kinds) > 1 and not opcode.startswith(("mul", "m", "add", "sub", "sad", "prmt")):
        for position in range(1 if opcode[:3] != "bfi" else 2, len(kinds)):     # counts and positions: mostly small
            operand = operands[position]
            operands[position] = np.where(np.arange(COUNT) % 5 != 0, operand % np.uint32(70), operand)
    got = evaluate(opcode, kinds, result, *operands)
    expected = [wrap(reference(*values), result) for values in zip(*(operand.tolist() for operand in operands))]
    assert got.tolist() == expected


@pytest.mark.parametrize("kind", "s16 u16 s32 u32 s64 u64".split())
def test_division(kind: str) -> None:
    a, b = integers(kind, 0), integers(kind, 1)
    b[b == 0] = 3
    quotients = [wrap(truncated(x, y), kind) for x, y in zip(a.tolist(), b.tolist())]
    assert evaluate(f"div.{kind}", [kind] * 2, kind, a, b).tolist() == quotients
    remainders = [x - truncated(x, y) * y for x, y in zip(a.tolist(), b.tolist())]
    assert evaluate(f"rem.{kind}", [kind] * 2, kind, a, b).tolist() == remainders
    b[17] = 0
    for opcode in ("div", "rem"):
        with pytest.raises(Undefined, match="division by zero"):
            evaluate(f"{opcode}.{kind}", [kind] * 2, kind, a, b)


def test_lop3_is_a_table() -> None:
    a, b, c = (integers("u32", seed) for seed in range(3))
    for table in (0, 0x80, 0xFE, 0x96, 0xCA, 0xE8, 0x1B, 255):
        expected = [sum((table >> ((x >> k & 1) << 2 | (y >> k & 1) << 1 | (z >> k & 1)) & 1) << k for k in range(32))
                    for x, y, z in zip(a[:50].tolist(), b[:50].tolist(), c[:50].tolist())]
        got = evaluate("lop3.b32", ["b32", "b32", "b32", "u32"], "b32", a[:50], b[:50], c[:50], table)
        assert got.tolist() == expected


# -- floats -----------------------------------------------------------------------------------------------------------

def rounded(value: Fraction, kind: str, mode: str = "rn") -> float:
    """By integer arithmetic alone; "rn" is to nearest, ties to even. The sign of a zero is the caller's business."""
    precision, lowest, largest = {"f32": (24, -149, 128), "f64": (53, -1074, 1024)}[kind]
    if value == 0:
        return 0.0
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - precision + 1, lowest)
    whole, rest = divmod(size, unit)
    outward = mode == ("rm" if value < 0 else "rp")
    if mode == "rn":
        whole += rest * 2 > unit or (rest * 2 == unit and whole % 2 == 1)
    elif outward:
        whole += rest > 0
    size = whole * unit
    if size >= Fraction(2) ** largest:
        size = Fraction(2) ** largest - Fraction(2) ** (largest - precision)
        result = math.inf if mode == "rn" or outward else float(size)
    else:
        result = float(size)
    return -result if value < 0 else result


def same(got: Array, expected: Array) -> None:
    """The same bits, except that any NaN is as good as another."""
    nan = np.isnan(expected)
    assert (np.isnan(got) == nan).all()
    width = f"u{got.dtype.itemsize}"
    different = np.flatnonzero(~nan & (got.view(width) != expected.view(width)))
    assert not len(different), [(int(k), got[k], expected[k]) for k in different[:5]]


def exactly(function: Callable[..., Fraction], kind: str, *operands: Array) -> Array:
    """A function of fractions where all operands are finite; elsewhere, and for zeros, NumPy's float64 has to do."""
    result = []
    for values in zip(*(operand.tolist() for operand in operands)):
        with np.errstate(all="ignore"):
            plain = float(function(*map(np.float64, values)))
        if all(map(math.isfinite, values)):
            try:
                exact = function(*map(Fraction, values))
            except ZeroDivisionError:
                exact = Fraction(0)
            plain = rounded(exact, kind) if exact else plain
            plain = math.copysign(plain, 1 if exact > 0 else -1) if exact else plain
        result.append(plain)
    with np.errstate(over="ignore"):
        return np.array(result, np.float64).astype(np.float32 if kind == "f32" else np.float64)


FLOAT_ROWS: list[tuple[str, int, Callable[..., Any]]] = [
    ("add.rn", 2, operator.add), ("sub.rn", 2, operator.sub), ("mul.rn", 2, operator.mul), ("add", 2, operator.add),
    ("div.rn", 2, operator.truediv), ("rcp.rn", 1, lambda a: a.__class__(1) / a)]


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize(("opcode", "count", "function"), FLOAT_ROWS, ids=[row[0] for row in FLOAT_ROWS])
def test_floats_are_rounded_once(opcode: str, count: int, function: Callable[..., Any], kind: str) -> None:
    operands = [floats(kind, seed) for seed in range(count)]
    same(evaluate(f"{opcode}.{kind}", [kind] * count, kind, *operands), exactly(function, kind, *operands))


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_square_roots_are_rounded_once(kind: str) -> None:
    a = floats(kind)
    got = evaluate(f"sqrt.rn.{kind}", [kind], kind, a)
    for value, root in zip(a.tolist(), got.tolist()):
        if value > 0 and math.isfinite(value):
            middles = [(Fraction(root) + Fraction(float(np.nextafter(got.dtype.type(root), got.dtype.type(end))))) / 2
                       for end in (0, np.inf)]
            assert middles[0] ** 2 <= Fraction(value) <= middles[1] ** 2
    with np.errstate(invalid="ignore"):
        same(got[~(a > 0)], np.sqrt(a)[~(a > 0)])


def hard_products(kind: str) -> list[Array]:
    """Operands of fused multiply-adds whose sums lie next to ties, cancel, underflow or overflow."""
    random = np.random.default_rng(5)
    dtype = np.dtype(np.float32 if kind == "f32" else np.float64)
    bits, low = (24, -126) if kind == "f32" else (53, -1022)
    count = 400
    a = (1 + random.integers(0, 64, count) * 2.0 ** (1 - bits)).astype(dtype)
    b = (1 + random.integers(0, 64, count) * 2.0 ** (1 - bits)).astype(dtype)
    a[::3] = random.standard_normal(len(a[::3]))
    b[::3] = random.standard_normal(len(b[::3]))
    c = np.ldexp(random.choice([1.0, -1.0, 1.5, -0.75], count), random.integers(-2 * bits - 3, 3, count)).astype(dtype)
    c[::5] = -(a * b)[::5]
    c[1::7] = np.ldexp(random.choice([1.0, -1.0], len(c[1::7])), random.integers(bits - 3, bits + 3, len(c[1::7])))
    small = slice(100, 200)     # at the lower end of the exponents
    a[small] = np.ldexp(a[small], low // 2 - random.integers(0, 30, 100))
    b[small] = np.ldexp(b[small], low // 2 - random.integers(0, 30, 100))
    c[small] = np.ldexp(c[small], low + random.integers(-30, 30, 100))
    large = slice(200, 300)
    a[large] = np.ldexp(a[large], -low // 2 + 1)
    b[large] = np.ldexp(b[large], -low // 2)
    c[large] = np.ldexp(-1 - random.random(100), -low)
    c[large][::2] = -(a * b)[large][::2] / 2
    special = floats(kind)[: len(SPECIAL32) ** 2]
    others = special, floats(kind, 1)[: len(special)], np.roll(special, 7)
    return [np.concatenate([hard, other]) for hard, other in zip((a, b, c), others)]


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_fused_multiply_add_is_rounded_once(kind: str) -> None:
    for operands in (hard_products(kind), [floats(kind, seed) for seed in range(3)]):
        same(evaluate(f"fma.rn.{kind}", [kind] * 3, kind, *operands),
             exactly(lambda a, b, c: a * b + c, kind, *operands))


@pytest.mark.parametrize("mode", ["rm", "rp", "rz"])
def test_directed_rounding(mode: str) -> None:
    a, b, c = (operand[:400] for operand in hard_products("f32"))
    rows: list[tuple[str, list[Array], Callable[..., Fraction]]] = [
        ("fma", [a, b, c], lambda x, y, z: x * y + z), ("add", [a, c], operator.add), ("mul", [a, b], operator.mul)]
    for opcode, operands, function in rows:
        got = evaluate(f"{opcode}.{mode}.f32", ["f32"] * len(operands), "f32", *operands)
        expected = [rounded(function(*map(Fraction, values)), "f32", mode)
                    for values in zip(*(operand.tolist() for operand in operands))]
        assert got.tolist() == expected
    wide = floats("f64")[::7]
    wide = wide[np.isfinite(wide)]
    got = evaluate(f"cvt.{mode}.f32.f64", ["f64"], "f32", wide)
    assert got.tolist() == [rounded(Fraction(value), "f32", mode) for value in wide.tolist()]


def test_single_precision_nans_are_canonical() -> None:
    a, b = floats("f32", 0), floats("f32", 1)
    for opcode in ("add.rn.f32", "mul.rn.f32", "div.rn.f32", "min.f32", "max.NaN.f32"):
        got = evaluate(opcode, ["f32"] * 2, "f32", a, b)
        assert set(got[np.isnan(got)].view(np.uint32).tolist()) == {0x7FFFFFFF}


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_minimum_and_maximum(kind: str) -> None:
    a, b = floats(kind, 0), floats(kind, 1)

    def key(value: float) -> tuple[float, float]:
        return value, math.copysign(1, value)

    def chosen(pick: Callable[..., float], x: float, y: float, propagate: bool) -> float:
        if math.isnan(x) or math.isnan(y):
            return math.nan if propagate or (math.isnan(x) and math.isnan(y)) else y if math.isnan(x) else x
        return pick(x, y, key=key)     # type: ignore[call-overload]  # min and max

    for name, pick in (("min", min), ("max", max)):
        for suffix in ("", ".NaN"):
            expected = np.array([chosen(pick, x, y, bool(suffix)) for x, y in zip(a.tolist(), b.tolist())], a.dtype)
            same(evaluate(f"{name}{suffix}.{kind}", [kind] * 2, kind, a, b), expected)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_signs_are_bits(kind: str) -> None:
    a, b = floats(kind, 0), floats(kind, 1)
    width, top = (np.uint32, np.uint32(1 << 31)) if kind == "f32" else (np.uint64, np.uint64(1 << 63))
    assert (evaluate(f"neg.{kind}", [kind], kind, a).view(width) == a.view(width) ^ top).all()
    assert (evaluate(f"abs.{kind}", [kind], kind, a).view(width) == a.view(width) & ~top).all()
    expected = (b.view(width) & ~top) | (a.view(width) & top)
    assert (evaluate(f"copysign.{kind}", [kind] * 2, kind, a, b).view(width) == expected).all()


def test_flush_to_zero_flushes_operands_and_result() -> None:
    a = np.array([1e-40, -1e-40, 1e-30, 1.5], np.float32)
    got = evaluate("mul.rn.ftz.f32", ["f32"] * 2, "f32", a, np.array([1e30, 1e30, 1e-10, 2], np.float32))
    same(got, np.array([0, -0.0, 0, 3], np.float32))


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_comparisons_of_floats(kind: str) -> None:
    a, b = floats(kind, 0), floats(kind, 1)
    nan = np.isnan(a) | np.isnan(b)
    for name, function in COMPARISONS.items():
        truth = np.array([function(x, y) for x, y in zip(a.tolist(), b.tolist())])
        assert (evaluate(f"setp.{name}.{kind}", [kind] * 2, "pred", a, b) == truth & ~nan).all()
        assert (evaluate(f"setp.{name}u.{kind}", [kind] * 2, "pred", a, b) == truth | nan).all()
    assert (evaluate(f"setp.nan.{kind}", [kind] * 2, "pred", a, b) == nan).all()
    assert (evaluate(f"setp.num.{kind}", [kind] * 2, "pred", a, b) == ~nan).all()


@pytest.mark.parametrize("kind", "s16 u16 s32 u32 s64 u64".split())
def test_comparisons_of_integers(kind: str) -> None:
    a, b = integers(kind, 0), integers(kind, 1)
    third = np.arange(COUNT) % 3 == 0
    for name, function in COMPARISONS.items():
        truth = np.array([function(x, y) for x, y in zip(a.tolist(), b.tolist())])
        assert (evaluate(f"setp.{name}.{kind}", [kind] * 2, "pred", a, b) == truth).all()
        combined = evaluate(f"setp.{name}.and.{kind}", [kind, kind, "pred"], "pred", a, b, third)
        assert (combined == truth & third).all()
        if kind[0] == "u" and name[0] in "lg":
            other = {"lt": "lo", "le": "ls", "gt": "hi", "ge": "hs"}[name]
            assert (evaluate(f"setp.{other}.{kind}", [kind] * 2, "pred", a, b) == truth).all()
        assert (evaluate(f"set.{name}.u32.{kind}", [kind] * 2, "u32", a, b) == np.where(truth, 2**32 - 1, 0)).all()


def test_selection() -> None:
    a, b, condition = integers("u64", 0), integers("u64", 1), np.arange(COUNT) % 3 == 0
    assert (evaluate("selp.b64", ["b64", "b64", "pred"], "b64", a, b, condition) == np.where(condition, a, b)).all()
    assert (evaluate("and.pred", ["pred"] * 2, "pred", condition, ~condition) == False).all()     # noqa: E712
    assert (evaluate("not.pred", ["pred"], "pred", condition) == ~condition).all()


# -- conversions ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("target", "s8 u8 s16 u16 s32 u32 s64 u64".split())
def test_floats_to_integers_saturate(source: str, target: str) -> None:
    a = floats(source)
    bits = int(target[1:])
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if target[0] == "s" else (0, (1 << bits) - 1)
    nan = wrap(1 << bits - 1, target) if source == "f64" or bits == 64 else 0
    rounding: dict[str, Callable[[Fraction], int]] = {
        "rzi": math.trunc, "rni": round, "rmi": math.floor, "rpi": math.ceil}
    for mode, function in rounding.items():
        expected = [nan if math.isnan(x) else (low if x < 0 else high) if math.isinf(x) else
                    min(max(function(Fraction(x)), low), high) for x in a.tolist()]
        assert evaluate(f"cvt.{mode}.{target}.{source}", [source], target, a).tolist() == expected


@pytest.mark.parametrize("source", "s8 u8 s16 u16 s32 u32 s64 u64".split())
def test_integers_to_floats_are_rounded_once(source: str) -> None:
    a = integers(source)
    for target in ("f32", "f64"):
        expected = np.array([rounded(Fraction(x), target) for x in a.tolist()], f"f{int(target[1:]) // 8}")
        same(evaluate(f"cvt.rn.{target}.{source}", [source], target, a), expected)


@pytest.mark.parametrize("source", "s8 u8 s16 u16 s32 u32 s64 u64".split())
def test_integers_to_integers_extend_and_truncate(source: str) -> None:
    a = integers(source)
    for target in "s8 u8 s16 u16 s32 u32 s64 u64".split():
        assert evaluate(f"cvt.{target}.{source}", [source], target, a).tolist() == [wrap(x, target) for x in a.tolist()]


def test_floats_to_floats() -> None:
    narrow = floats("f32")
    with np.errstate(over="ignore", invalid="ignore"):
        wide = np.concatenate([floats("f64"), narrow.astype(np.float64) * (1 + 2.0**-25)])
        same(evaluate("cvt.rn.f32.f64", ["f64"], "f32", wide), wide.astype(np.float32))
        same(evaluate("cvt.f64.f32", ["f32"], "f64", narrow), narrow.astype(np.float64))
        for mode, function in (("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)):
            same(evaluate(f"cvt.{mode}.f32.f32", ["f32"], "f32", narrow), function(narrow))
    got = evaluate("cvt.sat.f32.f32", ["f32"], "f32", np.array([-1, -0.0, 0.25, 7, np.nan, np.inf], np.float32))
    same(got, np.array([0, 0, 0.25, 1, 0, 1], np.float32))


def test_bits_move_between_registers_unchanged() -> None:
    a = floats("f64")
    body = """
	mad.lo.s64 %q2, %q1, 8, %a0;
	ld.global.f64 %d1, [%q2];
	mov.b64 {%r4, %r5}, %d1;
	mov.b64 %q3, {%r5, %r4};
	st.global.u64 [%q2], %q3;
"""
    (got,), _ = run(body, [a[:512]], grid=2, block=256)
    expected = a[:512].view(np.uint32).reshape(-1, 2)[:, ::-1].ravel()
    assert (got.view(np.uint32) == expected).all()


def test_literals() -> None:
    number = struct.unpack("<I", struct.pack("<f", 2.5))[0]
    body = f"""
	mov.f32 %f1, 0f{number:08X};
	mov.u64 %q3, -2;
	mov.u32 %r4, 0x80000000;
	cvt.s64.s32 %q4, %r4;
	add.s64 %q3, %q3, %q4;
	cvt.rn.f32.s64 %f2, %q3;
	add.rn.f32 %f3, %f1, %f2;
	mad.lo.s64 %q2, %q1, 4, %a0;
	st.global.f32 [%q2], %f3;
"""
    (got,), _ = run(body, [np.zeros(32, np.float32)])
    assert (got == np.float32(2.5) + np.float32(-(2**31) - 2)).all()


# -- what is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", ["tanh.f32", "add.rn.bf16.f32", "mul.s32", "fma.f32", "cvt.f32.f64", "min.ftz.s32",
                                    "shl.s32", "frob.b32", "sqrt.f32", "div.rz.f32", "setp.foo.s32"])
def test_unknown_instructions_are_named(opcode: str) -> None:
    with pytest.raises(Unsupported, match=opcode.replace(".", r"\.")):
        run(f"\t{opcode} %f1, %f2, %f3;", [np.zeros(4)])


@pytest.mark.parametrize("opcode", ["ex2.approx.ftz.f32", "rcp.approx.ftz.f32", "div.full.f32", "sin.approx.f32"])
def test_approximations_are_errors(opcode: str) -> None:
    with pytest.raises(Approximate, match="approximate instruction"):
        run(f"\t{opcode} %f1, %f2;", [np.zeros(4)])
