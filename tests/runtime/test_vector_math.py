"""The accuracy of vector mathematics against mpmath, its special values, and the machine code that it becomes."""

import math
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from staticgraph.runtime.cpu.operators import SCALAR_LIBM
from staticgraph.runtime.cpu.outlined import OUTLINED, lane_counts
from tests.kernel_harness import apply, elementwise_kernel

mpmath.mp.prec = 240
FLOATS = ["float32", "float64"]
INF, NAN = math.inf, math.nan

Reference = Callable[..., Any]

UNARY: dict[str, Reference] = {
    "exp": mpmath.exp, "exp2": lambda x: mpmath.power(2, x), "expm1": mpmath.expm1, "log": mpmath.log,
    "log1p": mpmath.log1p, "log2": lambda x: mpmath.log(x) / mpmath.log(2), "log10": mpmath.log10,
    "tanh": mpmath.tanh, "sinh": mpmath.sinh, "cosh": mpmath.cosh, "asinh": mpmath.asinh, "acosh": mpmath.acosh,
    "atanh": mpmath.atanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)), "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan,
    "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan, "erf": mpmath.erf, "erfc": mpmath.erfc,
}
BINARY: dict[str, Reference] = {
    "power": mpmath.power, "hypot": mpmath.hypot, "atan2": mpmath.atan2,
    "logaddexp": lambda x, y: max(x, y) + mpmath.log1p(mpmath.exp(-abs(x - y))),
}

LIMIT = 2.0
"""Units in the last place; docs/math.md has what is measured."""

# Where a function takes values worth looking at: (low, high) of float32 and float64.
EXPONENTS = {"float32": (-105.0, 90.0), "float64": (-750.0, 712.0)}


def arguments(name: str, dtype: str) -> np.ndarray:
    """Arguments of every size, more of them around 0 and 1, and within the range of exponents."""
    random = np.random.default_rng(len(name))
    bits = np.dtype(dtype).itemsize * 8
    anything = random.integers(0, np.iinfo(f"uint{bits}").max, 100, dtype=f"uint{bits}").view(dtype)
    values = [random.standard_normal(100) * 3, random.uniform(-1.1, 1.1, 100), random.uniform(0.4, 1.6, 60),
              random.uniform(*EXPONENTS[dtype], 100), 10.0 ** random.uniform(-12, 0, 60) * random.choice([-1, 1], 60),
              np.arange(1, 40) * np.pi / 2, np.array([0.625, 0.9, 0.5, 1.0, 2.0, 0.25])]
    x = np.concatenate([*(each.astype(dtype) for each in values), anything])
    size = np.abs(x)
    if name in ("exp", "exp2", "expm1", "sinh", "cosh", "softplus", "sigmoid", "tanh", "erf", "erfc"):
        size = np.where(size > 1500, INF, size)  # beyond, mpmath would build numbers of astronomical size
    return x[np.isfinite(size)]


def worst_error(got: np.ndarray, want: list[Any]) -> float:
    """The largest distance in units in the last place; infinite where one side is nan or infinite and the other not."""
    worst = 0.0
    kind = got.dtype.type
    for value, exact in zip(got, want):
        rounded = kind(NAN if exact is None else float(exact))
        if not np.isfinite(rounded) or not np.isfinite(value):
            worst = max(worst, 0.0 if np.array_equal(value, rounded, equal_nan=True) else INF)
        else:
            unit = mpmath.mpf(float(np.spacing(abs(rounded))))
            worst = max(worst, float(abs(mpmath.mpf(float(value)) - exact) / unit))
    return worst


def exactly(reference: Reference, *values: Any) -> Any:
    """The mpmath result, or None outside of the domain."""
    try:
        result = reference(*(mpmath.mpf(float(value)) for value in values))
    except (ValueError, ZeroDivisionError):
        return None
    return None if isinstance(result, mpmath.mpc) or mpmath.isnan(result) else result


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_accuracy(name: str, dtype: str) -> None:
    x = arguments(name, dtype)
    with np.errstate(over="ignore"):
        error = worst_error(apply(f"{name}(a)", [x], dtype, [name]), [exactly(UNARY[name], value) for value in x])
    assert error <= LIMIT


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_accuracy_of_two_operands(name: str, dtype: str) -> None:
    random = np.random.default_rng(1)
    spread = 80 if dtype == "float32" else 600
    if name == "power":
        x = np.exp(random.uniform(-4, 4, 300)).astype(dtype)
        y = (random.uniform(-1, 1, 300) * spread / np.log(x)).astype(dtype)
        x[:100], y[:100] = -np.round(x[:100] + 1), np.round(y[:100] % 9 - 4)
    elif name == "logaddexp":
        x, y = (random.uniform(0, 40, (2, 300)) - np.array([[0], [20]])).astype(dtype)
    else:
        x, y = (random.standard_normal((2, 300)) * np.exp(random.uniform(-spread, spread, 300) / 2)).astype(dtype)
    got = apply(f"{name}(a, b)", [x, y], dtype, [name])
    want = [exactly(BINARY[name], *values) for values in zip(x, y)]
    assert worst_error(got, want) <= LIMIT


@pytest.mark.parametrize("name", UNARY)
def test_float32_agrees_with_float64_everywhere(name: str) -> None:
    """A dense sweep over all exponents, against the float64 code, which mpmath has judged."""
    x = np.arange(0, 2**32, 65521, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        want = apply(f"{name}(a)", [x.astype(np.float64)], "float64", [name])
        got = apply(f"{name}(a)", [x], "float32", [name])
        rounded = want.astype(np.float32)
        finite = np.isfinite(rounded) & np.isfinite(got)
        error = np.abs(got.astype(np.float64) - want)[finite] / np.spacing(np.abs(rounded[finite]))
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    assert error.max() <= LIMIT + 0.5


# Functions that keep a zero as it is, sign included.
ODD = ("expm1", "log1p", "tanh", "sinh", "asinh", "atanh", "sin", "tan", "asin", "atan", "erf")

SPECIAL: dict[str, dict[float, float]] = {
    "exp": {0.0: 1, INF: INF, -INF: 0, NAN: NAN, 1e5: INF, -1e5: 0},
    "exp2": {0.0: 1, INF: INF, -INF: 0, NAN: NAN, 3.0: 8, -2.0: 0.25, 1e5: INF, -1e5: 0},
    "expm1": {INF: INF, -INF: -1, NAN: NAN, 1e5: INF, -1e5: -1},
    "log": {0.0: -INF, 1.0: 0.0, INF: INF, -INF: NAN, -1.0: NAN, NAN: NAN},
    "log1p": {-1.0: -INF, INF: INF, -2.0: NAN, -INF: NAN, NAN: NAN},
    "log2": {0.0: -INF, 1.0: 0.0, 8.0: 3.0, 0.125: -3.0, INF: INF, -1.0: NAN, NAN: NAN},
    "log10": {0.0: -INF, 1.0: 0.0, 10.0: 1.0, 1000.0: 3.0, INF: INF, -1.0: NAN, NAN: NAN},
    "tanh": {INF: 1, -INF: -1, NAN: NAN, 100.0: 1, -100.0: -1},
    "sinh": {INF: INF, -INF: -INF, NAN: NAN, 1e5: INF},
    "cosh": {0.0: 1, INF: INF, -INF: INF, NAN: NAN, 1e5: INF},
    "asinh": {INF: INF, -INF: -INF, NAN: NAN},
    "acosh": {1.0: 0.0, 0.5: NAN, -1.0: NAN, -1e30: NAN, INF: INF, -INF: NAN, NAN: NAN},
    "atanh": {1.0: INF, -1.0: -INF, 1.5: NAN, -INF: NAN, NAN: NAN},
    "sigmoid": {0.0: 0.5, INF: 1, -INF: 0, NAN: NAN, 1e5: 1, -1e5: 0},
    "softplus": {INF: INF, -INF: 0, NAN: NAN, 1e5: 1e5, -1e5: 0},
    "sin": {INF: NAN, -INF: NAN, NAN: NAN},
    "cos": {0.0: 1, INF: NAN, -INF: NAN, NAN: NAN},
    "tan": {INF: NAN, -INF: NAN, NAN: NAN},
    "asin": {1.5: NAN, -INF: NAN, NAN: NAN},
    "acos": {1.0: 0.0, 1.5: NAN, -1.5: NAN, INF: NAN, NAN: NAN},
    "atan": {INF: math.pi / 2, -INF: -math.pi / 2, NAN: NAN},
    "erf": {INF: 1, -INF: -1, NAN: NAN, 10.0: 1},
    "erfc": {0.0: 1, INF: 0, -INF: 2, NAN: NAN, 100.0: 0, -100.0: 2},
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: str) -> None:
    rows = [*SPECIAL[name].items(), *((zero, zero) for zero in (0.0, -0.0) if name in ODD)]
    x, want = np.array(rows, dtype).T
    got = apply(f"{name}(a)", [x], dtype, [name])
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["exp", "log", "log2", "tanh", "sin", "erf", "sqrt", "log1p", "expm1", "sigmoid"])
def test_subnormals(name: str, dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, 3 * tiny, 12345 * tiny], dtype)
    want = [exactly({**UNARY, "sqrt": mpmath.sqrt}[name], value) for value in x]
    assert worst_error(apply(f"{name}(a)", [x], dtype, [name]), want) <= 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, reference", [
    ("power", np.power), ("hypot", np.hypot), ("atan2", np.arctan2), ("logaddexp", np.logaddexp)])
def test_special_pairs(name: str, reference: np.ufunc, dtype: str) -> None:
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    values = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, INF, -INF, NAN, tiny, -tiny, huge, -huge, 2.5, -7,
              1e9, 1e9 + 1]
    x, y = (each.ravel().astype(dtype) for each in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        got, want = apply(f"{name}(a, b)", [x, y], dtype, [name]), reference(x, y)
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(dtype).eps, atol=2 * tiny)
    known = ~np.isnan(want) & (want == 0)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(want)[known])


@pytest.mark.parametrize("dtype", FLOATS)
def test_hypot_of_the_smallest_numbers(dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    counts = np.array([0, 1, 3, 4, 100, 513, 10**5], dtype)
    x, y = (each.ravel() * tiny for each in np.meshgrid(counts, counts))
    want = [mpmath.hypot(float(a), float(b)) for a, b in zip(x, y)]
    assert worst_error(apply("hypot(a, b)", [x, y], dtype, ["hypot"]), want) <= 1


def nearest_to_quarter_turns(dtype: str) -> np.ndarray:
    """Arguments that lie exceptionally close to multiples of pi/2, by continued fractions of pi * 2**-e."""
    digits, found = np.finfo(dtype).nmant + 1, []
    for exponent in range(0, int(np.finfo(dtype).maxexp) - digits, 1 if dtype == "float32" else 7):
        ratio = mpmath.mpf(2) ** (exponent + 1) / mpmath.pi
        (h0, h1), (k0, k1) = (0, 1), (1, 0)
        while True:
            whole = int(mpmath.floor(ratio))
            h0, h1, k0, k1 = h1, whole * h1 + h0, k1, whole * k1 + k0
            if k1 >= 2**digits or ratio == whole:
                break
            if k1 >= 2 ** (digits - 1):
                found.append(math.ldexp(k1, exponent))
            ratio = 1 / (ratio - whole)
    return np.array(found, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_the_hardest_angles(name: str, dtype: str) -> None:
    with mpmath.workprec(1500):
        x = nearest_to_quarter_turns(dtype)
        assert len(x) > 20
        want = [exactly(UNARY[name], value) for value in x]
        assert worst_error(apply(f"{name}(a)", [x], dtype, [name]), want) <= LIMIT


# The machine code.

@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*UNARY, "sqrt"])
def test_loops_vectorise(name: str, dtype: str) -> None:
    kernel = elementwise_kernel(f"{name}(a)", (dtype,), dtype, (name,))
    kind = "float" if dtype == "float32" else "double"
    assert kernel.libm_calls() == set()
    assert name in OUTLINED or kernel.calls() == []
    assert f"x {kind}> @llvm.fma." in kernel.llvm or name == "sqrt"
    assert f"x {kind}>" in kernel.llvm
    assert dtype == "float64" or "double" not in kernel.llvm


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*BINARY, *SCALAR_LIBM])
def test_loops_over_two_operands(name: str, dtype: str) -> None:
    kernel = elementwise_kernel(f"{name}(a, b)", (dtype, dtype), dtype, (name,))
    assert bool(kernel.calls()) == (name in SCALAR_LIBM or name in OUTLINED)
    assert kernel.libm_calls() == ({SCALAR_LIBM[name][FLOATS.index(dtype)]} if name in SCALAR_LIBM else set())
    assert dtype == "float64" or "double" not in kernel.llvm


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OUTLINED)
def test_loops_call_functions_over_whole_registers(name: str, dtype: str) -> None:
    operands = "ab"[:OUTLINED[name][1]]
    kernel = elementwise_kernel(f"{name}({', '.join(operands)})", (dtype,) * len(operands), dtype, (name,))
    kind, bits = ("float", 32) if dtype == "float32" else ("double", 64)
    lanes = lane_counts(bits)
    calls = re.findall(rf"call <\d+ x {kind}> @staticgraph_{name}_f{bits}_v(\d+)", kernel.llvm)
    assert calls and set(map(int, calls)) <= set(lanes)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OUTLINED)
def test_the_rare_branch_changes_no_other_element(name: str, dtype: str) -> None:
    """One element in a vector that needs the branch, at every place, beside those that do not."""
    count = OUTLINED[name][1]
    x = np.linspace(0.1, 3.0, 64, dtype=dtype)
    rest = [np.full_like(x, 1.5)] * (count - 1)
    expression = f"{name}({', '.join('ab'[:count])})"
    usual = apply(expression, [x, *rest], dtype, [name])
    alone = apply(expression, [np.full_like(x, 1e30), *rest], dtype, [name])
    for place in range(33):
        mixed = x.copy()
        mixed[place] = 1e30
        want = usual.copy()
        want[place] = alone[0]
        np.testing.assert_array_equal(apply(expression, [mixed, *rest], dtype, [name]), want)
