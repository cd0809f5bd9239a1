"""Arithmetic, logic, comparisons and conversions: for each opcode a `Form`, a function of arrays with its types.

A builder takes the opcode's parts behind the name and returns the form, or refuses a modifier it does not know: a
modifier that is skipped would be a different instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from . import arithmetic as exact
from .faults import Approximate, PtxError, Unsupported
from .memory import Array
from .operands import DTYPES

INTEGERS = frozenset("u16 s16 u32 s32 u64 s64".split())
FLOATS = frozenset("f32 f64".split())
BITS = frozenset("pred b16 b32 b64".split())


class Undefined(PtxError):
    """An operation without a defined result, such as a division of integers by zero."""


@dataclass(frozen=True)
class Form:
    function: Callable[..., Array]
    sources: tuple[str, ...]
    result: str


BUILDERS: dict[str, Callable[..., Form]] = {}


def form(*names: str) -> Callable[[Callable[..., Form]], Callable[..., Form]]:
    def register(builder: Callable[..., Form]) -> Callable[..., Form]:
        BUILDERS.update((name, builder) for name in names)
        return builder

    return register


@cache
def build(parts: tuple[str, ...], approximate: bool = False) -> Form:
    """The form of an opcode; `approximate` lets approximations pass as correctly rounded results."""
    name, *modifiers = parts
    if ("approx" in modifiers or "full" in modifiers):
        if not approximate:
            raise Approximate(f"approximate instruction {'.'.join(parts)}")
        return _approximation(name, modifiers)
    if name not in BUILDERS:
        raise Unsupported(f"unknown instruction {'.'.join(parts)}")
    try:
        return BUILDERS[name](name, modifiers)
    except (KeyError, ValueError, IndexError) as error:
        raise Unsupported(f"unknown instruction {'.'.join(parts)}") from error


def take(modifiers: list[str], *known: str) -> str:
    """Remove the modifier that is one of `known`, and return it, or nothing."""
    found = [part for part in modifiers if part in known]
    if len(found) > 1:
        raise ValueError(found)
    if found:
        modifiers.remove(found[0])
    return found[0] if found else ""


def only(modifiers: list[str], kinds: frozenset[str]) -> str:
    """The type, which is all that is left."""
    kind, = modifiers
    if kind not in kinds:
        raise ValueError(kind)
    return kind


def _flushing(function: Callable[..., Array], flushes: str) -> Callable[..., Array]:
    if not flushes:
        return function
    return lambda *values: exact.flush(function(*(exact.flush(value) for value in values)))


def _canonical(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda *values: exact.canonical(function(*values))


# -- sums, products ---------------------------------------------------------------------------------------------------

PLAIN: dict[str, Callable[..., Array]] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


@form("add", "sub", "mul", "div")
def _arithmetic(name: str, modifiers: list[str]) -> Form:
    kind = modifiers[-1]
    if kind in FLOATS:
        mode, flushes = take(modifiers, "rn", "rz", "rm", "rp"), take(modifiers, "ftz")
        saturates = take(modifiers, "sat")
        only(modifiers, FLOATS)
        function = PLAIN[name]
        if mode not in ("", "rn"):
            if kind == "f64" or name == "div":
                raise ValueError(mode)
            function = lambda a, b: exact.exact32(name, a, b, mode)
        elif kind == "f32":
            function = _canonical(function)
        function = _flushing(function, flushes)
        plain = function
        return Form((lambda a, b: exact.saturate(plain(a, b))) if saturates else function, (kind, kind), kind)
    if name == "mul":
        return _product(modifiers, PLAIN["mul"])
    only(modifiers, INTEGERS)
    return Form(_quotient if name == "div" else PLAIN[name], (kind, kind), kind)


def _quotient(a: Array, b: Array) -> Array:
    _refuse_zero(b)
    return exact.divide(a, b)


def _remainder(a: Array, b: Array) -> Array:
    _refuse_zero(b)
    return np.fmod(a, b)


def _refuse_zero(b: Array) -> None:
    if (b == 0).any():
        raise Undefined("integer division by zero")


@form("rem")
def _rem(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, INTEGERS)
    return Form(_remainder, (kind, kind), kind)


def _product(modifiers: list[str], low: Callable[..., Array]) -> Form:
    part = take(modifiers, "lo", "hi", "wide")
    kind = only(modifiers, INTEGERS)
    if part == "wide":
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        target = DTYPES[wide]
        return Form(lambda a, b: a.astype(target) * b.astype(target), (kind, kind), wide)
    return Form({"lo": low, "hi": exact.multiply_high}[part], (kind, kind), kind)


@form("mad", "fma")
def _multiply_add(name: str, modifiers: list[str]) -> Form:
    kind = modifiers[-1]
    if kind not in FLOATS:
        if name == "fma":
            raise ValueError(kind)
        product = _product(modifiers, PLAIN["mul"])
        return Form(lambda a, b, c: product.function(a, b) + c, (kind, kind, product.result), product.result)
    mode, flushes = take(modifiers, "rn", "rz", "rm", "rp"), take(modifiers, "ftz")
    saturates = take(modifiers, "sat")
    only(modifiers, FLOATS)
    if not mode or (kind == "f64" and mode != "rn"):
        raise ValueError(mode)
    function = exact.fma64 if kind == "f64" else lambda a, b, c: exact.fma32(a, b, c, mode)
    function = _flushing(function, flushes)
    plain = function
    return Form((lambda a, b, c: exact.saturate(plain(a, b, c))) if saturates else function, (kind,) * 3, kind)


@form("rcp", "sqrt")
def _root(name: str, modifiers: list[str]) -> Form:
    mode, flushes = take(modifiers, "rn"), take(modifiers, "ftz")
    kind = only(modifiers, FLOATS)
    if not mode:
        raise ValueError(name)
    function = np.sqrt if name == "sqrt" else np.reciprocal
    return Form(_flushing(_canonical(function) if kind == "f32" else function, flushes), (kind,), kind)


@form("min", "max")
def _extreme(name: str, modifiers: list[str]) -> Form:
    flushes, propagates = take(modifiers, "ftz"), take(modifiers, "NaN")
    kind = only(modifiers, INTEGERS | FLOATS)
    if kind in FLOATS:
        function = exact.minimum if name == "min" else exact.maximum
        return Form(_flushing(lambda a, b: function(a, b, bool(propagates)), flushes), (kind, kind), kind)
    if flushes or propagates:
        raise ValueError(kind)
    return Form(np.minimum if name == "min" else np.maximum, (kind, kind), kind)


@form("neg", "abs")
def _sign(name: str, modifiers: list[str]) -> Form:
    flushes = take(modifiers, "ftz")
    kind = only(modifiers, FLOATS | {"s16", "s32", "s64"})
    function = np.negative if name == "neg" else np.abs
    return Form(_flushing(function, flushes), (kind,), kind)


@form("copysign")
def _copysign(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, FLOATS)
    return Form(lambda sign, value: np.copysign(value, sign), (kind, kind), kind)


@form("testp")
def _test(name: str, modifiers: list[str]) -> Form:
    what, kind = modifiers
    only([kind], FLOATS)
    if what not in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
        raise ValueError(what)
    return Form(lambda a: exact.kind_of_float(a, what), (kind,), "pred")


@form("sad")
def _sad(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, INTEGERS)
    return Form(lambda a, b, c: c + (np.maximum(a, b) - np.minimum(a, b)), (kind,) * 3, kind)


# -- bits -------------------------------------------------------------------------------------------------------------

LOGIC: dict[str, Callable[..., Array]] = {
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert}


@form("and", "or", "xor", "not")
def _logic(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, BITS)
    return Form(LOGIC[name], (kind,) if name == "not" else (kind, kind), kind)


@form("cnot")
def _is_zero(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, BITS - {"pred"})
    return Form(lambda a: (a == 0).astype(a.dtype), (kind,), kind)


@form("shl", "shr")
def _shift(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, (BITS - {"pred"}) | (INTEGERS if name == "shr" else frozenset()))
    return Form(exact.shift_left if name == "shl" else exact.shift_right, (kind, "u32"), kind)


@form("shf")
def _funnel(name: str, modifiers: list[str]) -> Form:
    side, mode, kind = modifiers
    if side not in ("l", "r") or mode not in ("wrap", "clamp") or kind != "b32":
        raise ValueError(modifiers)
    return Form(lambda low, high, count: exact.funnel(low, high, count, side == "l", mode == "clamp"),
                ("b32", "b32", "u32"), "b32")


@form("bfe")
def _extract(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, frozenset("u32 s32 u64 s64".split()))
    return Form(exact.extract, (kind, "u32", "u32"), kind)


@form("bfi")
def _insert(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, frozenset("b32 b64".split()))
    return Form(exact.insert, (kind, kind, "u32", "u32"), kind)


@form("prmt")
def _permute(name: str, modifiers: list[str]) -> Form:
    only(modifiers, frozenset(["b32"]))
    return Form(exact.permute, ("b32", "b32", "u32"), "b32")


@form("popc", "clz")
def _count(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, frozenset("b32 b64".split()))
    function = exact.leading_zeros if name == "clz" else lambda a: np.bitwise_count(a).astype(np.uint32)
    return Form(function, (kind,), "u32")


@form("brev")
def _reverse(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, frozenset("b32 b64".split()))
    return Form(exact.reverse_bits, (kind,), kind)


@form("lop3")
def _logic3(name: str, modifiers: list[str]) -> Form:
    only(modifiers, frozenset(["b32"]))
    return Form(lambda a, b, c, table: exact.logic3(a, b, c, int(table[0])), ("b32", "b32", "b32", "u32"), "b32")


# -- comparisons and choices ------------------------------------------------------------------------------------------

ORDERED: dict[str, Callable[..., Array]] = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
                                            "gt": np.greater, "ge": np.greater_equal}
COMPARISONS = frozenset("eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan".split())


def comparison(name: str, kind: str) -> Callable[[Array, Array], Array]:
    """An ordered comparison with a NaN is false, an unordered one (equ, neu, ...) is true."""
    if kind[0] != "f":
        return ORDERED[{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(name, name)]
    if name in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) ^ (name == "num")
    if name == "ne":
        return lambda a, b: (a < b) | (a > b)
    if name in ORDERED:
        return ORDERED[name]
    opposite = {"equ": lambda a, b: (a < b) | (a > b), "neu": np.equal, "ltu": np.greater_equal, "leu": np.greater,
                "gtu": np.less_equal, "geu": np.less}[name]
    return lambda a, b: ~opposite(a, b)


@form("setp", "set")
def _compare(name: str, modifiers: list[str]) -> Form:
    test, combine, flushes = take(modifiers, *COMPARISONS), take(modifiers, "and", "or", "xor"), take(modifiers, "ftz")
    kind = modifiers.pop()
    compare = _with_flush(comparison(test, kind), flushes)
    sources = (kind, kind, *(("pred",) if combine else ()))
    truth = (lambda a, b, c: LOGIC[combine](compare(a, b), c)) if combine else compare
    if name == "setp":
        if modifiers:
            raise ValueError(modifiers)
        return Form(truth, sources, "pred")
    result = only(modifiers, frozenset("u32 s32 f32".split()))
    one = np.float32(1) if result == "f32" else np.array([-1], np.int32).view(DTYPES[result])[0]
    return Form(lambda *values: np.where(truth(*values), one, one.dtype.type(0)), sources, result)


def _with_flush(compare: Callable[[Array, Array], Array], flushes: str) -> Callable[[Array, Array], Array]:
    return (lambda a, b: compare(exact.flush(a), exact.flush(b))) if flushes else compare


@form("selp")
def _select(name: str, modifiers: list[str]) -> Form:
    kind = only(modifiers, INTEGERS | FLOATS | (BITS - {"pred"}))
    return Form(lambda a, b, condition: np.where(condition, a, b), (kind, kind, "pred"), kind)


@form("slct")
def _select_by_sign(name: str, modifiers: list[str]) -> Form:
    flushes = take(modifiers, "ftz")
    kind, sign = modifiers
    if sign not in ("s32", "f32") or flushes:
        raise ValueError(sign)
    return Form(lambda a, b, c: np.where(c >= 0, a, b), (kind, kind, sign), kind)


# -- conversions ------------------------------------------------------------------------------------------------------

@form("cvt")
def _convert(name: str, modifiers: list[str]) -> Form:
    mode = take(modifiers, "rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi")
    flushes, saturates = take(modifiers, "ftz"), take(modifiers, "sat")
    result, source = modifiers
    target = DTYPES[result]
    floats = result[0] == "f", source[0] == "f"
    if floats == (False, True):
        if not mode.endswith("i"):
            raise ValueError(mode)
        function = lambda a: exact.float_to_int(a, target, mode)
    elif floats == (True, False):
        if mode != "rn":
            raise ValueError(mode)
        function = lambda a: a.astype(target)
    elif floats == (True, True):
        function = _float_to_float(target, DTYPES[source], mode)
    elif mode:
        raise ValueError(mode)
    elif saturates:
        limits = np.iinfo(target)
        return Form(lambda a: _clip(a, limits, target), (source,), result)
    else:
        function = lambda a: a.astype(target)
    if flushes:
        function = (_flushing if result == source == "f32" else _flush_side)(function, flushes)
    plain = function
    return Form((lambda a: exact.saturate(plain(a))) if saturates and floats[0] else function, (source,), result)


def _flush_side(function: Callable[..., Array], flushes: str) -> Callable[..., Array]:
    """Only float32 values are flushed."""
    def flushed(value: Array) -> Array:
        result = function(exact.flush(value) if value.dtype == np.float32 else value)
        return exact.flush(result) if result.dtype == np.float32 else result

    return flushed


def _clip(value: Array, limits: Any, target: Any) -> Array:
    low = max(int(limits.min), int(np.iinfo(value.dtype).min))
    high = min(int(limits.max), int(np.iinfo(value.dtype).max))
    return np.clip(value, value.dtype.type(low), value.dtype.type(high)).astype(target)


def _float_to_float(target: Any, source: Any, mode: str) -> Callable[[Array], Array]:
    if mode.endswith("i"):
        whole = exact.ROUND[mode]
        return lambda a: whole(a).astype(target)
    if target.itemsize < source.itemsize:
        if mode == "rn":
            return (lambda a: exact.canonical(a.astype(target))) if target == np.float32 else lambda a: a.astype(target)
        if target == np.float32 and mode in ("rz", "rm", "rp"):
            return lambda a: exact.canonical(exact.round32(a, mode))
        raise ValueError(mode)
    if mode:
        raise ValueError(mode)
    return lambda a: a.astype(target)


def _approximation(name: str, modifiers: list[str]) -> Form:
    """The exact function, rounded once: a stand-in, which says nothing about the error of the hardware."""
    for part in ("approx", "full", "ftz"):
        take(modifiers, part)
    kind = only(modifiers, FLOATS)
    functions: dict[str, Callable[..., Array]] = {
        "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "sqrt": np.sqrt,
        "rcp": lambda a: 1 / a, "rsqrt": lambda a: 1 / np.sqrt(a), "div": lambda a, b: a / b}
    function = functions[name]
    rounded = lambda *values: function(*(value.astype(np.float64) for value in values)).astype(DTYPES[kind])
    return Form(rounded, (kind, kind) if name == "div" else (kind,), kind)
