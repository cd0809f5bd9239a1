"""Arithmetic and logic; see forms.py for what a form is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import arithmetic as exact
from .faults import Undefined
from .forms import BITS, FLOATS, INTEGERS, Form, canonical, flushing, form, only, take
from .memory import Array
from .operands import DTYPES

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
            function = canonical(function)
        function = flushing(function, flushes)
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
    function = flushing(function, flushes)
    plain = function
    return Form((lambda a, b, c: exact.saturate(plain(a, b, c))) if saturates else function, (kind,) * 3, kind)


@form("rcp", "sqrt")
def _root(name: str, modifiers: list[str]) -> Form:
    mode, flushes = take(modifiers, "rn"), take(modifiers, "ftz")
    kind = only(modifiers, FLOATS)
    if not mode:
        raise ValueError(name)
    function = np.sqrt if name == "sqrt" else np.reciprocal
    return Form(flushing(canonical(function) if kind == "f32" else function, flushes), (kind,), kind)


@form("min", "max")
def _extreme(name: str, modifiers: list[str]) -> Form:
    flushes, propagates = take(modifiers, "ftz"), take(modifiers, "NaN")
    kind = only(modifiers, INTEGERS | FLOATS)
    if kind in FLOATS:
        function = exact.minimum if name == "min" else exact.maximum
        return Form(flushing(lambda a, b: function(a, b, bool(propagates)), flushes), (kind, kind), kind)
    if flushes or propagates:
        raise ValueError(kind)
    return Form(np.minimum if name == "min" else np.maximum, (kind, kind), kind)


@form("neg", "abs")
def _sign(name: str, modifiers: list[str]) -> Form:
    flushes = take(modifiers, "ftz")
    kind = only(modifiers, FLOATS | {"s16", "s32", "s64"})
    function = np.negative if name == "neg" else np.abs
    return Form(flushing(function, flushes), (kind,), kind)


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
