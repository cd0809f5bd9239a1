"""What the compiler's tests share: a graph compiled, run and held against its NumPy meaning.

`TOLERANCE` is the table of the suite: relative to the largest magnitude that took part, by dtype; sums and contractions
use it. Elementwise arithmetic is exact, signs of zeros included; functions are bounded in ulps (`ULPS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import staticgraph as sg
from staticgraph.tensor import Tensor

Array = np.ndarray[Any, Any]
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
FLOATS = ("float32", "float64")
DTYPES = ("bool", *INTEGERS, *FLOATS)
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
ANY_ZERO = 1e-9
"""A bound that forgives nothing but the sign of a zero."""


def specials(dtype: Any) -> Array:
    """The values at which things go wrong, and some ordinary ones."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind == "f":
        limits: Any = np.finfo(kind)
        return np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2, -2.5, 3, 0.1, -0.3, 7.25, -20, 90, -105, 700,
                         1e-9, -1e-30, 1e30, -1e30, np.inf, -np.inf, np.nan, limits.smallest_subnormal,
                         -limits.smallest_subnormal, limits.tiny, limits.max, -limits.max], kind)
    limits = np.iinfo(kind)
    values = [limits.min, limits.min + 1, *(value for value in (-7, -3, -2, -1) if limits.min < 0), 0, 1, 2, 3, 7, 31,
              64, limits.max - 1, limits.max]
    return np.array(values, kind)


def ordinary(dtype: Any, shape: Sequence[int], seed: int = 0) -> Array:
    """Random values of moderate size."""
    rng = np.random.default_rng([seed, *shape])
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (2 * rng.standard_normal(shape)).astype(kind)
    return rng.integers(0 if kind.kind == "u" else -6, 7, shape).astype(kind)


def pairs(dtype: Any) -> tuple[Array, Array]:
    """Every special value with every other."""
    values = specials(dtype)
    left, right = np.meshgrid(values, values)
    return left.ravel().copy(), right.ravel().copy()


def ulps(actual: Array, expected: Array, least: float = 0.0) -> Array:
    """Distance in units of the last place of what is expected, or of `least` if that is more; 0 for nan against nan,
    infinite where only one side is finite."""
    with np.errstate(all="ignore"):
        distance = np.abs(actual - expected) / np.spacing(np.maximum(np.abs(expected), expected.dtype.type(least)))
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    return np.where(same, 0.0, np.where(np.isfinite(actual) & np.isfinite(expected), distance, np.inf))


def agree(actual: Any, expected: Array, what: str = "", bound: float = 0, relative: bool = False) -> None:
    """Same dtype, shape and values: to the bit (any nan is any nan; with a bound of `ANY_ZERO` any zero is any zero),
    within `bound` ulps, or with `relative` within `TOLERANCE` of the largest finite magnitude."""
    assert isinstance(actual, np.ndarray) and actual.dtype == expected.dtype, (what, actual, expected.dtype)
    assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
    if expected.dtype.kind != "f":
        wrong = actual != expected
    elif relative:
        finite = np.isfinite(expected)
        scale = max(1.0, float(np.max(np.abs(expected), where=finite, initial=0.0)))
        with np.errstate(invalid="ignore"):
            near = np.abs(actual - expected) <= TOLERANCE[str(expected.dtype)] * scale
        wrong = ~np.where(finite, near, (actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    else:
        wrong = ulps(actual, expected) > bound
        if bound == 0:
            wrong |= (np.signbit(actual) != np.signbit(expected)) & ~np.isnan(expected)
    assert not wrong.any(), f"{what}: {int(wrong.sum())} of {wrong.size} differ, first at " \
        f"{[int(axis[0]) for axis in np.nonzero(wrong)]}: got {actual[wrong][0]!r}, wanted {expected[wrong][0]!r}"


def check(outputs: Mapping[str, Tensor], *feeds: Mapping[Tensor, Any], bounds: Mapping[str, float] | None = None,
          relative: bool = False, stabilise: bool = True) -> sg.Executable:
    """Compile all outputs as one program, and hold each call to the interpreter's answer for the stabilised graph."""
    inputs = list(feeds[0])
    compiled = sg.compile(inputs, dict(outputs), options={"stabilise": stabilise})
    meant = dict(zip(outputs, sg.stabilise(list(outputs.values())), strict=True)) if stabilise else dict(outputs)
    for feed in feeds:
        actual = compiled(*feed.values())
        expected = sg.evaluate(meant, feed)
        shapes = [np.shape(value) for value in feed.values()]
        for name, value in expected.items():
            agree(actual[name], value, f"{name} of {shapes}", (bounds or {}).get(name, 0), relative)
    return compiled
