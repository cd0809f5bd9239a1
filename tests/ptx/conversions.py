"""Comparisons, choices and conversions; see forms.py for what a form is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import arithmetic as exact
from .forms import BITS, FLOATS, INTEGERS, Form, flushing, form, only, take
from .instructions import LOGIC
from .memory import Array
from .operands import DTYPES

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
        function = (flushing if result == source == "f32" else _flush_side)(function, flushes)
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
